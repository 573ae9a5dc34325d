"""Behaviour seen through /metrics alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from service.app import create_app
from service.routes.context import context_of
from service.settings import Settings
from tests.service.builders import Made

ROOT = Path(__file__).resolve().parents[2]
GOOD = {"queries": [{"head": "e1", "relation": "r0"}, {"relation": "r0", "tail": "e1"}]}


@pytest.fixture
def client(made: Made) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(bundle=made.path, device="cpu"))) as client:
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


def test_every_metric_is_documented(client: TestClient) -> None:
    documented = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    families = text_string_to_metric_families(client.get("/metrics").text)
    kinds = {family.name: family.type for family in families if not family.name.endswith("_created")}
    assert kinds
    for name, kind in kinds.items():
        shown = f"{name}_total" if kind == "counter" else name
        assert f"`{shown}`" in documented


def test_a_stopped_server_is_not_ready(made: Made) -> None:
    app = create_app(Settings(bundle=made.path, device="cpu"))
    with TestClient(app) as client:
        assert value(client, "momok_ready") == 1
    assert context_of(app).metrics.registry.get_sample_value("momok_ready") == 0
