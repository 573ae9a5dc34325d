"""Indexing: the approximate indexes of a bundle, how hard they search, and what they find of the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from tqdm import tqdm

from momok.model.arrays import Float32
from momok.model.bundle.manifest import IndexInfo
from momok.model.retrieval.distances import RotationTable
from momok.model.retrieval.engine import Engines
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.index_spec import IndexSpec
from momok.model.retrieval.retriever import Retriever
from momok.model.retrieval.search import BRANCH, CONCAT, columns_of
from momok.model.retrieval.selection import Selection
from momok.model.retrieval.table import EntityTable
from momok.model.scores import Decision

NUM_QUERIES = 512
"""Held-out queries: by one half a search's effort is chosen, on the other its recall is measured."""

RECALLED = (1, 10, 100)
TUNED = 10
TARGET = 0.995
"""The recall at 10 for which effort is doubled, until it is reached or cannot grow: what is promised of other
queries is 0.99."""

Vectors = Mapping[str, Float32]


@dataclass(frozen=True)
class Indexing:
    """The indexes by space, none where flat ones do, and what a manifest says of them."""

    indexes: dict[str, EntityIndex]
    info: IndexInfo


def build_indexes(
    table: EntityTable, decision: Decision, spec: IndexSpec, queries: Vectors, *, show_progress: bool = False
) -> Indexing:
    """Build what ``spec`` says, and choose what it leaves open.

    ``queries``: branch -> float32[Q, D], of queries that no training has seen. A ``mean_sigmoid`` is no inner
    product, so there its best may be proposed by searches in the branches, in all of them side by side, or
    both: whichever finds ``TARGET`` of them with the least effort. Raises ``ValueError``.
    """
    if spec.exact:
        return Indexing({}, IndexInfo())
    if isinstance(table, RotationTable):
        raise ValueError(f"{spec.kind} finds inner products, this model's scores are distances: take flat")
    started = perf_counter()
    choices = _choices(table, decision)
    spaces = list(dict.fromkeys(space for chosen in choices.values() for space in chosen))
    built = _build(table, spaces, spec, show_progress)
    build_s = perf_counter() - started
    halves = ({name: rows[part::2] for name, rows in queries.items()} for part in range(2))
    tuned, held = (_Trial(table, decision, half) for half in halves)
    runs = {
        name: tuned.tune({space: built[space] for space in spaces}, spec) for name, spaces in choices.items()
    }
    best = min(runs, key=lambda name: (*runs[name].shortfall, len(choices[name])))
    indexes = {space: built[space].with_spec(runs[best].spec) for space in choices[best]}
    info = IndexInfo(
        kind=spec.kind,
        parameters=runs[best].spec.parameters,
        spaces=choices[best],
        recall={str(k): held.recall(indexes, k) for k in RECALLED if k <= len(table)},
        num_queries=held.num_queries,
        considered={name: run.recall for name, run in runs.items()},
        build_s=build_s,
        bytes_per_entity=sum(index.size_bytes for index in indexes.values()) / len(table),
    )
    return Indexing(indexes, info)


def _choices(table: EntityTable, decision: Decision) -> dict[str, list[str]]:
    branches = [BRANCH + name for name in table.names]
    if decision != "mean_sigmoid":
        return {"concat": [CONCAT]}
    return {"concat": [CONCAT], "branches": branches, "both": [*branches, CONCAT]}


def _build(
    table: EntityTable, spaces: Sequence[str], spec: IndexSpec, show_progress: bool
) -> dict[str, EntityIndex]:
    built = {}
    with tqdm(
        total=len(spaces) * len(table), desc=spec.kind, unit=" vectors", disable=not show_progress
    ) as bar:
        for space in spaces:
            bar.set_description(f"{spec.kind} {space}")
            built[space] = EntityIndex.build(table.joined_NX[:, columns_of(table, space)], spec, bar.update)
    return built


@dataclass(frozen=True)
class _Run:
    """A spec with so much effort that ``recall`` is good, or all it can be."""

    spec: IndexSpec
    recall: float

    @property
    def shortfall(self) -> tuple[float, int]:
        """Less is better: what is missing to the target, then effort."""
        effort = sum(getattr(self.spec, name).bit_length() for name in self.spec.efforts)
        return max(TARGET - self.recall, 0), effort


class _Trial:
    """Queries whose best are known."""

    def __init__(self, table: EntityTable, decision: Decision, queries: Vectors) -> None:
        self._table, self._decision, self._queries = table, decision, queries
        self.num_queries = len(next(iter(queries.values())))
        scan = Retriever(table, self._decision, Engines(table, self._decision, engine="scan"))
        self._best = self._found(scan, max(RECALLED))

    def tune(self, indexes: Mapping[str, EntityIndex], spec: IndexSpec) -> _Run:
        """With the effort that reaches ``TARGET``: what ``spec`` leaves open is doubled, by what helps."""
        run, given = _Run(spec, self._recall_with(indexes, spec)), spec.model_fields_set
        while run.recall < TARGET:
            harder = [
                run.spec.model_copy(update={name: min(2 * getattr(run.spec, name), most)})
                for name, most in spec.efforts.items()
                if name not in given and getattr(run.spec, name) < most
            ]
            runs = [_Run(more, self._recall_with(indexes, more)) for more in harder]
            best = max(runs, key=lambda tried: tried.recall, default=run)
            if not runs or (best.recall <= run.recall and len(runs) == 1):
                break
            run = best
        return run

    def recall(self, indexes: Mapping[str, EntityIndex], k: int) -> float:
        """The share of the best ``k`` that searches for ``k`` find."""
        engines = Engines(self._table, self._decision, engine="faiss", indexes=indexes)
        found = self._found(Retriever(self._table, self._decision, engines), k)
        shares = [len(set(a) & set(b[:k])) / k for a, b in zip(found, self._best, strict=True)]
        return float(np.mean(shares))

    def _recall_with(self, indexes: Mapping[str, EntityIndex], spec: IndexSpec) -> float:
        searched = {space: index.with_spec(spec) for space, index in indexes.items()}
        return self.recall(searched, min(TUNED, len(self._table)))

    def _found(self, retriever: Retriever, k: int) -> list[list[int]]:
        nobody = np.empty(0, dtype=np.int64)
        rankings = retriever.top_k(self._queries, [Selection(k, nobody)] * self.num_queries)
        return [ranking.entities.tolist() for ranking in rankings]
