"""Behind a real nginx: one of two servers is rolled again and again, and a prefix is taken off."""

from __future__ import annotations

import json
import ssl
import threading
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.e2e.nginx import configured, nginx
from tests.e2e.processes import get, serving, stop
from tests.e2e.test_keys_and_tls import openssl
from tests.e2e.test_prometheus import free_port
from tests.service.builders import Made, make_bundle

ROLLS = 20
BODY = json.dumps({"queries": [{"head": "e1", "relation": "r0"}]}).encode()
HEADERS = {"Content-Type": "application/json", "Host": "kg.example.org"}
FLAGS = ("--engine", "scan", "--allowed-hosts", "kg.example.org", "--linger-s", 0.5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_bundle(tmp_path_factory.mktemp("behind") / "bundle", decision="sum")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
        "-out", cert, "-days", 2, "-subj", "/CN=kg.example.org",
    )  # fmt: skip
    return cert, key


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def status(url: str, body: bytes | None = None) -> int:
    request = urllib.request.Request(url, body, HEADERS)
    try:
        with urllib.request.urlopen(request, timeout=20, context=unverified()) as response:
            response.read()
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_no_request_fails_while_one_of_two_servers_is_rolled(
    made: Made, certificate: tuple[Path, Path], folder: Path
) -> None:
    port, rolled = free_port(), free_port()
    statuses: Counter[int] = Counter()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            statuses[status(f"https://127.0.0.1:{port}/v1/predict", BODY)] += 1

    with serving(made.path, folder / "one", *FLAGS) as (stays, _):
        kept = int(stays.rpartition(":")[2])
        with nginx(configured(folder, port, [kept, rolled], *certificate)):
            clients = [threading.Thread(target=ask) for _ in range(3)]
            for client in clients:
                client.start()
            for _ in range(ROLLS):
                with serving(made.path, folder / "two", "--port", rolled, *FLAGS) as (_, process):
                    before = sum(statuses.values())
                    wait_until(lambda before=before: sum(statuses.values()) > before + 20)
                    assert stop(process) == 0
            done.set()
            for client in clients:
                client.join(30)
    assert set(statuses) == {200}, statuses
    assert statuses[200] > 20 * ROLLS


def wait_until(condition: object) -> None:
    deadline = monotonic() + 60
    assert callable(condition)
    while not condition():
        assert monotonic() < deadline
        sleep(0.01)


def test_what_is_for_the_inside_is_closed_outside(
    made: Made, certificate: tuple[Path, Path], folder: Path
) -> None:
    port = free_port()
    with (
        serving(made.path, folder / "one", *FLAGS) as (url, _),
        nginx(configured(folder, port, [int(url.rpartition(":")[2])], *certificate)),
    ):
        outside = f"https://127.0.0.1:{port}"
        assert status(f"{outside}/v1/predict", BODY) == 200
        assert status(f"{outside}/v1/predict", b" " * 5_000_000) == 413
        for path in ("/metrics", "/admin/reload", "/livez", "/readyz"):
            assert status(outside + path) == 404


def test_links_and_pages_are_right_behind_a_prefix(
    made: Made, certificate: tuple[Path, Path], folder: Path
) -> None:
    port = free_port()
    with serving(made.path, folder / "one", "--root-path", "/kg", *FLAGS) as (url, _):
        configuration = configured(folder, port, [int(url.rpartition(":")[2])], *certificate)
        text = configuration.read_text(encoding="utf-8")
        text = text.replace("location / {", "location /kg/ {").replace(
            "proxy_pass http://momok;", "proxy_pass http://momok/;"
        )
        configuration.write_text(text, encoding="utf-8")
        with nginx(configuration):
            outside = f"https://127.0.0.1:{port}"

            def read(path: str) -> str:
                request = urllib.request.Request(outside + path, headers=HEADERS)
                with urllib.request.urlopen(request, timeout=20, context=unverified()) as response:
                    return str(response.read().decode("latin-1"))

            assert status(f"{outside}/kg/v1/predict", BODY) == 200
            assert status(f"{outside}/v1/predict", BODY) == 404, "nginx has no such location"
            page = read("/kg/docs")
            for link in ("/kg/openapi.json", "/kg/static-offline-docs/swagger-ui-bundle.js"):
                assert link in page and read(link)
            assert json.loads(read("/kg/openapi.json"))["servers"] == [{"url": "/kg"}]
            picture = json.loads(read("/kg/v1/entities/e0"))["picture"]
            assert picture == "/kg/v1/entities/e0/picture" and read(picture)
            assert json.loads(get(f"{url}/openapi.json"))["servers"] == [{"url": "/kg"}]
