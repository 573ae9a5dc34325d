"""Behaviour seen through /metrics alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from time import sleep

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from momok.model.bundle.bundle import BundleError
from momok.model.retrieval.index_spec import PARAMETERS
from momok.service.answering.answerer import Answerer
from momok.service.http.app import LAG_EVERY_S, create_app
from momok.service.http.context import context_of
from momok.service.monitoring.metrics import ENGINES, STAGES, Metrics, Told
from momok.service.scorer.question import Counted
from momok.service.settings import Settings
from tests.service.builders import ADMIN, Made, admin_settings
from tests.service.http.test_overload import broken, faulty, waiting
from tests.service.local_client import LocalClient

ROOT = Path(__file__).resolve().parents[3]
GOOD = {"queries": [{"head": "e1", "relation": "r0"}, {"relation": "r0", "tail": "e1"}]}


@pytest.fixture
def client(made: Made) -> Iterator[TestClient]:
    # What is quickest, and so would be chosen, is not the same on a busy machine.
    with LocalClient(create_app(Settings(bundle=made.path, device="cpu", engine="scan"))) as client:
        yield client


def scrape(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(client: TestClient, series: str, /, **labels: str) -> float:
    return scrape(client)[series, frozenset(labels.items())]


def test_everything_is_there_at_zero_before_any_request(client: TestClient) -> None:
    post = {"method": "POST", "route": "/v1/predict", "status": "200"}
    assert value(client, "momok_requests_total", **post) == 0
    assert value(client, "momok_request_seconds_count", route="/v1/entities/{key}") == 0
    assert value(client, "momok_answers_total", exact="true", engine="scan") == 0
    assert value(client, "momok_queries_total") == 0
    assert value(client, "momok_unknown_names_total") == 0
    assert value(client, "momok_stage_seconds_count", stage="search") == 0
    assert value(client, "momok_ready") == 1


def test_each_series_moves(client: TestClient) -> None:
    client.post("/v1/predict", json=GOOD)
    client.post("/v1/predict", json={"queries": [{"head": "x", "relation": "y"}]})
    client.get("/v1/entities/e1")
    client.get("/made/up/by/a/stranger")
    post = {"method": "POST", "route": "/v1/predict"}
    assert value(client, "momok_requests_total", **post, status="200") == 1
    assert value(client, "momok_requests_total", **post, status="422") == 1
    assert value(client, "momok_requests_total", method="GET", route="/v1/entities/{key}", status="200") == 1
    assert value(client, "momok_requests_total", method="GET", route="unmatched", status="404") == 1
    assert value(client, "momok_queries_total") == 2
    assert value(client, "momok_answers_total", exact="true", engine="scan") == 2
    assert value(client, "momok_unknown_names_total") == 2
    assert value(client, "momok_request_seconds_count", route="/v1/predict") == 2
    for stage in ("resolve", "encode", "search", "rescore", "serialise"):
        assert value(client, "momok_stage_seconds_count", stage=stage) == 1
    assert value(client, "momok_requests_in_flight") == 1, "the scrape itself"


def test_strangers_cannot_make_label_values(client: TestClient) -> None:
    before = len(scrape(client))
    for index in range(20):
        client.get(f"/nowhere/{index}")
        client.request(f"METHOD{index}", "/v1/model")
    labels = {dict(key[1]).get("method") for key in scrape(client)}
    assert labels <= {None, "GET", "POST", "other"}
    assert len(scrape(client)) < before + 80


def test_the_bundle_being_served_is_named(client: TestClient) -> None:
    version = client.get("/v1/model").json()["version"]
    assert value(client, "momok_bundle_info", name="handmade", version=version) == 1


def test_documented_metrics_are_those_that_are_exposed(client: TestClient) -> None:
    section = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").split("## Metrics")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    documented = {
        name: {label.strip() for label in labels.split(",") if label.strip()}
        for names, labels in rows
        for name in re.findall(r"`(\w+)`", names)
    }
    exposed = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if not name.endswith("_created"):
            exposed[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    assert documented == exposed


def test_every_metric_moves_and_is_there_before(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each listed metric by itself, read from nowhere but ``/metrics``."""
    answerer = Answerer.open(made.path, "cpu", "scan")
    settings = admin_settings(
        made.path,
        engine="scan",
        max_body_bytes=5000,
        rate_limit=0.001,
        rate_burst=64,
    )
    with LocalClient(create_app(settings, answerer), raise_server_exceptions=False) as client:
        before = scrape(client)
        client.post("/v1/predict", json=GOOD)
        client.post("/v1/predict", json={"queries": [{"head": "x", "relation": "y"}]})
        client.post("/v1/predict", json=GOOD, headers={"X-Request-Timeout-Ms": "1"} | {"x-request-id": "a"})
        client.post("/v1/predict", content=b"x" * 6000)
        client.post("/v1/predict", json={"queries": GOOD["queries"] * 32})
        client.post("/admin/reload", headers=ADMIN)
        with monkeypatch.context() as patched:
            patched.setattr(Answerer, "open", lambda *_: refuse())
            client.post("/admin/reload", headers=ADMIN)
        client.post("/admin/rollback", headers=ADMIN)
        sleep(2 * LAG_EVERY_S)
        after = scrape(client)
    moved = {(key[0], *sorted(key[1])) for key in after if after[key] != before.get(key)}
    predict = ("route", "/v1/predict")
    for series in (
        ("momok_requests_total", ("method", "POST"), predict, ("status", "200")),
        ("momok_request_seconds_count", predict),
        ("momok_rejected_total", ("reason", "too-large")),
        ("momok_rejected_total", ("reason", "rate-limited")),
        ("momok_queue_wait_seconds_count",),
        ("momok_batch_queries_sum",),
        *((("momok_stage_seconds_sum", ("stage", stage))) for stage in STAGES),
        ("momok_queries_total",),
        ("momok_answers_total", ("engine", "scan"), ("exact", "true")),
        ("momok_candidates_filtered_total",),
        ("momok_unknown_names_total",),
        *((("momok_modality_weight_count", ("modality", name))) for name in ("structure", "image", "type")),
        ("momok_top_score_count",),
        ("momok_bundle_age_seconds",),
        ("momok_reloads_total", ("result", "swapped")),
        ("momok_reloads_total", ("result", "refused")),
        ("momok_event_loop_lag_seconds_count",),
        ("process_cpu_seconds_total",),
    ):
        assert series in moved, series
    late = {key[0] for key in after.keys() - before.keys()}
    assert late <= {"momok_requests_total", "momok_request_seconds"} | {
        f"momok_request_seconds_{part}" for part in ("bucket", "count", "sum")
    } | {"momok_requests_created", "momok_request_seconds_created"}, "others were there from the beginning"


def refuse() -> None:
    raise BundleError("not this one")


def test_what_waits_and_who_is_alive_is_seen(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty(made, monkeypatch, max_failures=1) as (client, score, app):
        assert value(client, "momok_queue_queries") == 0
        with waiting(client, score, app, [GOOD, GOOD]):
            assert value(client, "momok_queue_queries") == 4
            assert value(client, "momok_requests_in_flight") == 4, "with the scrape itself"
        assert value(client, "momok_scorer_alive") == 1
        score.score = broken
        client.post("/v1/predict", json=GOOD)
        assert value(client, "momok_scorer_alive") == value(client, "momok_ready") == 0
        assert value(client, "momok_gpu_memory_bytes") >= 0


def test_a_modality_that_dies_is_seen(client: TestClient) -> None:
    odd, even = ({"queries": [{"head": head, "relation": "r0"}]} for head in ("e1", "e2"))
    client.post("/v1/predict", json=odd)
    image = {"modality": "image"}
    assert value(client, "momok_modality_weight_count", **image) == 1
    assert value(client, "momok_modality_weight_sum", **image) == 0, "odd entities have no image"
    client.post("/v1/predict", json=even)
    assert value(client, "momok_modality_weight_sum", **image) > 0


def test_limits_stand_beside_what_they_limit(made: Made) -> None:
    with LocalClient(create_app(Settings(bundle=made.path, device="cpu", max_queue=99))) as client:
        assert value(client, "momok_queue_limit_queries") == 99
        assert value(client, "momok_gpu_memory_limit_bytes") >= value(client, "momok_gpu_memory_bytes")


def test_every_engine_is_counted_by_its_name() -> None:
    indexes = {f"faiss-{kind}" for kind in PARAMETERS}
    assert {*indexes, "gather", "scan", "scan-bfloat16", "scan-int8"} == set(ENGINES)


def test_a_stopped_server_is_not_ready(made: Made) -> None:
    app = create_app(Settings(bundle=made.path, device="cpu"))
    with LocalClient(app) as client:
        assert value(client, "momok_ready") == 1
    assert context_of(app).metrics.registry.get_sample_value("momok_ready") == 0


def test_requests_and_answers_are_counted(made: Made) -> None:
    metrics = Metrics([("GET", "/a"), ("GET", "/b")])
    metrics.serve(Answerer.open(made.path, "cpu"))
    counted = Counted(True, "scan", 3, 0.5, [0.25, 0.75])
    stages = {"encode": 1e-3, "search": 2e-3, "rescore": 1e-3, "serialise": 1e-3}
    num_requests = 197
    for number in range(num_requests):
        metrics.count(Told([counted] * 2, ("structure", "of the bundle before"), 1e-4, stages))
        metrics.answered("GET", ("/a", "/b")[number % 2], 200, "answered", 1e-2)
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }
    assert found["momok_requests_total", "GET", "/a", "200"] == num_requests // 2 + 1
    assert found["momok_request_seconds_sum", "/b"] == pytest.approx(num_requests // 2 * 1e-2)
    assert found["momok_queries_total",] == 2 * num_requests
    assert found["momok_candidates_filtered_total",] == 6 * num_requests
    assert found["momok_answers_total", "scan", "true"] == 2 * num_requests
    assert found["momok_top_score_count",] == 2 * num_requests
    assert found["momok_modality_weight_sum", "structure"] == pytest.approx(0.5 * num_requests)
    assert found["momok_modality_weight_sum", "of the bundle before"] == pytest.approx(1.5 * num_requests)
    assert found["momok_stage_seconds_sum", "search"] == pytest.approx(2e-3 * num_requests)
    assert found["momok_stage_seconds_sum", "resolve"] == pytest.approx(1e-4 * num_requests)
