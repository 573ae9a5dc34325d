"""What is logged of a request, and that nobody can make it say something else."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from momok.service.http.app import create_app
from momok.service.monitoring.logs import JsonFormatter, TextFormatter
from momok.service.settings import Settings
from tests.service.builders import Made
from tests.service.local_client import LocalClient

GOOD = {"queries": [{"head": "e1", "relation": "r0"}] * 3}
EVIL = 'x\n{"level": "error"}\r\x1b[31m\u2028'


@pytest.fixture
def client(made: Made) -> Iterator[TestClient]:
    with LocalClient(create_app(Settings(bundle=made.path, device="cpu"))) as client:
        yield client


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    formatter = JsonFormatter()
    records = [record for record in caplog.records if record.name == "momok.access"]
    return [json.loads(formatter.format(record)) for record in records]


def test_a_request_is_one_line(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client.post("/v1/predict", json=GOOD, headers={"x-request-id": "mine"})
    client.post("/v1/predict", json={"queries": [{"head": "nobody", "relation": "r0"}]})
    client.get("/v1/entities/nobody")
    first, second, third = lines(caplog)
    assert {name: first[name] for name in ("request_id", "method", "route", "status", "queries")} == {
        "request_id": "mine", "method": "POST", "route": "/v1/predict", "status": 200, "queries": 3,
    }  # fmt: skip
    assert (first["level"], first["outcome"]) == ("info", "answered")
    assert isinstance(first["ms"], float) and isinstance(first["time"], str)
    assert (second["status"], second["outcome"]) == (422, "invalid-request")
    assert (third["route"], third["outcome"]) == ("/v1/entities/{key}", "unknown-resource")


def test_nothing_that_callers_write_is_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client.get(f"/v1/entities/SECRET{quote(EVIL)}?search=SECRET", headers={"x-request-id": "SECRET one"})
    client.request("SECRET", "/SECRET", headers={"user-agent": "SECRET"})
    client.post("/v1/predict", json={"queries": [{"head": "SECRET", "relation": "SECRET"}]})
    assert len(lines(caplog)) == 3
    assert "SECRET" not in json.dumps(lines(caplog))


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_a_line_stays_one_line(formatter: logging.Formatter) -> None:
    record = logging.LogRecord("momok", logging.INFO, "", 0, "said %s", (EVIL,), None)
    line = formatter.format(record)
    assert len(line.splitlines()) == 1
    assert line.isprintable()


def test_a_traceback_keeps_to_its_record() -> None:
    try:
        raise ValueError(EVIL)
    except ValueError:
        record = logging.LogRecord("momok", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    assert json.loads(JsonFormatter().format(record))["exception"].startswith("Traceback")
    first, *others = TextFormatter().format(record).splitlines()
    assert first.endswith("failed")
    assert others and all(line.startswith("    ") for line in others)
