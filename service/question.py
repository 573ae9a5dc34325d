"""Question: what is asked of whoever scores and writes; Written: what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from model.scorer import Query


class Question(NamedTuple):
    """A query, and how its answer is to be written: with what was trusted, without lower scores."""

    query: Query
    explain: bool = True
    min_score: float | None = None


class Written(NamedTuple):
    """An answer as JSON, and what is counted of it: as in ``model.scorer.Answer``.

    ``top_score`` is None where no candidate is left. ``seconds``: of its batch, by stage.
    """

    json: bytes
    exact: bool
    engine: str
    num_excluded: int
    top_score: float | None
    modality_weights: list[float]
    seconds: Mapping[str, float]
