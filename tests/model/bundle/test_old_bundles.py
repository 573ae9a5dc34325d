"""Bundles written by commit 89e07ef open and answer as they did then."""

from __future__ import annotations

from pathlib import Path

import pytest

from momok.model.bundle.bundle import Bundle
from momok.service.scorer.local import LocalScorer

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(
    ("decision", "engine"),
    [
        ("sum", "auto"),  # With an index of all branches side by side.
        ("sum", "faiss"),
        ("sum", "scan"),
        ("mean_sigmoid", "auto"),  # With an index for a score that is no inner product.
        ("single", "auto"),  # Written as model adamf-mat.
    ],
)
def test_an_old_bundle_answers_its_golden_queries(decision: str, engine: str) -> None:
    bundle = Bundle.open(GOLDEN / decision)
    assert bundle.model.decision == decision
    assert (bundle.index() is not None) == (decision == "sum")
    scorer = LocalScorer(bundle, engine)  # type: ignore[arg-type]
    scorer.warm()
    scorer.verify()
