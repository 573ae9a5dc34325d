"""What the deployment's files are held against: the metrics that the app really has."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from momok.service.http.app import create_app
from momok.service.settings import Settings
from tests.service.builders import make_bundle
from tests.service.local_client import LocalClient


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, set[str]]]:
    """Series of ``/metrics`` of an app that serves -> label -> values."""
    made = make_bundle(tmp_path_factory.mktemp("served") / "bundle", decision="sum")
    with LocalClient(create_app(Settings(bundle=made.path, device="cpu"))) as client:
        text = client.get("/metrics").text
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


@pytest.fixture(scope="session")
def exposed(families: dict[str, dict[str, set[str]]]) -> set[str]:
    """Names of all those series."""
    return set(families)
