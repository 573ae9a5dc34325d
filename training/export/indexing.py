"""Indexing: the approximate index of a bundle, its search effort, and the share of the best that it finds.

A score that is one inner product of the branches side by side can be indexed; every other score is scanned.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

import numpy as np
from tqdm import tqdm

from momok.model.arrays import Float32
from momok.model.bundle.manifest import CONCAT, IndexInfo
from momok.model.retrieval.engine import Engines
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.index_spec import IndexSpec
from momok.model.retrieval.retriever import Retriever
from momok.model.retrieval.selection import Selection
from momok.model.retrieval.table import EntityTable
from momok.model.scores import FUSIONS, Decision

NUM_QUERIES = 512
"""Held-out queries: one half chooses the search effort, the other measures the recall."""

RECALLED = (1, 10, 100)
TUNED = 10
TARGET = 0.995
"""The recall at 10 for which effort is doubled, until it is reached or cannot grow: the promise for other
queries is 0.99."""

Vectors = Mapping[str, Float32]


def check_indexable(spec: IndexSpec, decision: Decision) -> None:
    """Raises ``ValueError`` for an approximate index of scores that are no inner product."""
    if not spec.exact and decision != "sum":
        raise ValueError(
            f"{spec.kind} finds inner products, and the decision {decision!r} is none: these scores are "
            "scanned; leave --index out, or take flat"
        )


def build_index(
    table: EntityTable, spec: IndexSpec, queries: Vectors, *, show_progress: bool
) -> tuple[EntityIndex, IndexInfo]:
    """Build an approximate index for scores that add up, and choose the effort that ``spec`` leaves open.

    ``queries``: branch -> float32[num_queries, D], of queries that training has not seen. Raises
    ``ValueError``.
    """
    started = perf_counter()
    with tqdm(total=len(table), desc=spec.kind, unit=" vectors", disable=not show_progress) as bar:
        index = EntityIndex.build(table.joined_NX, spec, bar.update)
    build_s = perf_counter() - started
    tuned, held = (_Trial(table, {name: rows[half::2] for name, rows in queries.items()}) for half in (0, 1))
    index = tuned.tune(index)
    info = IndexInfo(
        kind=spec.kind,
        parameters=index.spec.parameters,
        spaces=[CONCAT],
        recall={str(k): held.recall(index, k) for k in RECALLED if k <= len(table)},
        num_queries=held.num_queries,
        build_s=build_s,
        bytes_per_entity=index.size_bytes / len(table),
    )
    return index, info


class _Trial:
    """Queries with known best answers."""

    def __init__(self, table: EntityTable, queries: Vectors) -> None:
        self._table, self._queries = table, queries
        self.num_queries = len(next(iter(queries.values())))
        self._best = self._found(Engines(table, FUSIONS["sum"], engine="scan"), max(RECALLED))

    def tune(self, index: EntityIndex) -> EntityIndex:
        """The index with the effort that reaches ``TARGET``: options that were not given are doubled, the
        most helpful one at each step."""
        given, recall = index.spec.model_fields_set, self.recall(index, TUNED)
        while recall < TARGET:
            harder = [
                index.with_spec(
                    index.spec.model_copy(update={name: min(2 * getattr(index.spec, name), most)})
                )
                for name, most in index.spec.efforts.items()
                if name not in given and getattr(index.spec, name) < most
            ]
            recalls = [self.recall(tried, TUNED) for tried in harder]
            if not harder or (max(recalls) <= recall and len(harder) == 1):
                break
            recall = max(recalls)
            index = harder[recalls.index(recall)]
        return index

    def recall(self, index: EntityIndex, k: int) -> float:
        """The share of the best ``k``, or of all where there are fewer, that a search for ``k`` finds."""
        k = min(k, len(self._table))
        found = self._found(Engines(self._table, FUSIONS["sum"], engine="faiss", index=index), k)
        return float(np.mean([len(set(a) & set(b[:k])) / k for a, b in zip(found, self._best, strict=True)]))

    def _found(self, engines: Engines, k: int) -> list[list[int]]:
        none = np.empty(0, dtype=np.int64)
        retriever = Retriever(self._table, FUSIONS["sum"], engines)
        rankings = retriever.top_k(self._queries, [Selection(k, none)] * self.num_queries)
        return [ranking.entities.tolist() for ranking in rankings]
