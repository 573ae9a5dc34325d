"""Scorers: what an Answerer asks, whether it scores in this process or in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from model.bundle import Bundle, BundleError
from model.device import GpuMemory
from model.engine import EngineName
from model.index import EntityIndex
from model.known import Int64
from model.scorer import Answer, PlacedFact, Query, Scorer
from model.table import Float64


class AnyScorer(Protocol):
    """As ``model.scorer.Scorer``; one thread at a time may use one."""

    @property
    def device(self) -> str: ...

    @property
    def engine_choices(self) -> Mapping[int, str]: ...

    @property
    def gpu_memory(self) -> GpuMemory: ...

    def warm(self) -> None: ...

    def answer(self, queries: Sequence[Query]) -> list[Answer]: ...

    def place(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> list[PlacedFact]: ...

    def score(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> tuple[Float64, Float64]: ...


def scorer_of(bundle: Bundle, engine: EngineName = "auto", min_recall: float = 0.0) -> Scorer:
    """Raises ``BundleError`` where the bundle's index finds less than ``min_recall`` of the best ten."""
    indexes = None if engine.startswith("scan") else _indexes(bundle, min_recall)
    return Scorer(bundle.model, bundle.candidates, bundle.known, engine=engine, indexes=indexes)


def _indexes(bundle: Bundle, min_recall: float) -> dict[str, EntityIndex] | None:
    recall = bundle.manifest.index.recall.get("10", 1.0)
    if recall < min_recall:
        raise BundleError(
            f"{bundle.path}: its index finds {recall:.4f} of the best ten, --min-recall asks {min_recall}; "
            "export it with more effort, or serve it with --engine scan"
        )
    return bundle.indexes()
