"""Question: the input of a scorer that also writes; Written: its output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from momok.model.answer import Query


class Question(NamedTuple):
    """A query, and how its answer is to be written: with what was trusted, without lower scores."""

    query: Query
    explain: bool = True
    min_score: float | None = None


class Counted(NamedTuple):
    """What is counted of an answer, as in ``momok.model.answer.Answer``; ``top_score`` is None where no
    candidate is left."""

    exact: bool
    engine: str
    num_excluded: int
    top_score: float | None
    modality_weights: list[float]


@dataclass(frozen=True)
class Stages:
    """How long each stage took for a batch, whose answers share this."""

    seconds: Mapping[str, float]

    @cached_property
    def timing(self) -> str:
        """As in a Server-Timing header."""
        return ", ".join([f"{stage};dur={1000 * taken_s:.3f}" for stage, taken_s in self.seconds.items()])


class Written(NamedTuple):
    """An answer as JSON, what is counted of it, and the stages of its batch."""

    json: bytes
    counted: Counted
    stages: Stages
