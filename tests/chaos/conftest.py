"""Bundles for servers that are treated badly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.builders import make_bundle


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two of the same names that answer differently, large enough for a leak to show."""
    folder = tmp_path_factory.mktemp("chaos")
    return [
        make_bundle(folder / name, decision="sum", seed=seed, num_entities=20_000).path
        for seed, name in enumerate(("one", "two"))
    ]


@pytest.fixture
def link(bundles: list[Path], tmp_path: Path) -> Path:
    path = tmp_path / "current"
    path.symlink_to(bundles[0])
    return path
