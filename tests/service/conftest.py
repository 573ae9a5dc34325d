"""Bundles, and an app over one of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from momok.service.http.app import create_app
from momok.service.settings import Settings
from tests.service.builders import Made, make_bundle
from tests.service.local_client import LocalClient


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_bundle(tmp_path_factory.mktemp("made") / "bundle", decision="sum")


@pytest.fixture(scope="module")
def client(made: Made) -> Iterator[TestClient]:
    """A client of a fresh app; a failing route shows as the 500 that a stranger would see."""
    settings = Settings(bundle=made.path, device="cpu", max_queries=8, max_k=100, max_candidates=400)
    with LocalClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client
