"""Retriever: the top k candidates of a query, proven to be the top k where ``exact`` says so.

An engine proposes candidates, each is rescored in float64, and where the k-th answer exceeds the score that
any other candidate can reach, the list is exact. A scan always proves that; what a search does not prove is
scanned.

Axes: B queries, P proposed pairs of a query and an entity, S branches, X widths of all branches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from momok.model.arrays import Float32
from momok.model.retrieval.engine import Engine, Engines
from momok.model.retrieval.ranking import Rankings
from momok.model.retrieval.selection import Proposal, Selection, gathered
from momok.model.retrieval.table import EntityTable
from momok.model.scores import Fusion

GATHERED_SHARE, SCANNED_TOGETHER = 8, 16
"""Candidates are scored one by one if they are an eighth of all entities at most: that costs as much as a
scan. So it is for a batch of such queries together; a scan of sixteen queries more costs as much again."""


@dataclass
class Stopwatch:
    """How long something took, all times together."""

    seconds: float = 0.0


class Retriever:
    """Answers from one table of candidates; several threads may ask once the engines have been chosen."""

    def __init__(self, table: EntityTable, fusion: Fusion, engines: Engines) -> None:
        self.engines = engines
        self._fusion, self._table = fusion, table

    def top_k(
        self,
        query: Mapping[str, Float32],
        selections: Sequence[Selection],
        watch: Stopwatch | None = None,
        engine: Engine | None = None,
    ) -> Rankings:
        """One ranking a query, of one query at least; ``query``: branch -> float32[B, D].

        ``watch`` runs while candidates are rescored; ``engine``: in place of the chosen one. Raises
        ``ValueError`` for a query that is not finite or of another width.
        """
        batch = _Batch(self._table.join(query), selections, watch or Stopwatch())
        few = self._few(selections)
        left = set(range(len(selections))).difference(few)
        engine = engine or self.engines.of(max(len(left), 1))
        asked = [row for row in sorted(left) if engine.answers(selections[row])]
        parts = []
        if few:
            proposal = gathered([selections[row] for row in few])
            parts.append((few, self._ranked(batch, few, proposal, "gather")))
        if asked:
            parts.append(self._proven(batch, asked, engine))
            left -= set(parts[-1][0])
        if left:
            parts.append(self._proven(batch, sorted(left), self.engines.scan))
        rows = [row for part, _ in parts for row in part]
        rankings = Rankings.joined([part for _, part in parts])
        return rankings.taken(sorted(range(len(rows)), key=rows.__getitem__))

    def measure(self, query: Mapping[str, Float32], k: int = 10) -> None:
        """Choose the engine of each size of batch by answering these queries, repeated as needed."""
        none = np.empty(0, dtype=np.int64)
        num_queries = len(next(iter(query.values())))

        def answer(engine: Engine, size: int) -> None:
            rows = np.arange(size) % num_queries
            vectors = {name: rows_BD[rows] for name, rows_BD in query.items()}
            self.top_k(vectors, [Selection(k, none)] * size, engine=engine)

        self.engines.measure(answer)

    def _few(self, selections: Sequence[Selection]) -> list[int]:
        """The rows with so few candidates that scoring them one by one is quicker than a scan."""
        most = len(self._table) // GATHERED_SHARE
        sizes = {row: len(s.candidates) for row, s in enumerate(selections) if s.candidates is not None}
        few = [row for row, size in sizes.items() if size <= most]
        together = sum(sizes[row] for row in few)
        return few if together <= most * (1 + len(few) / SCANNED_TOGETHER) else []

    def _proven(self, batch: _Batch, rows: list[int], engine: Engine) -> tuple[list[int], Rankings]:
        """The rows that an engine answers, with proof or from an approximate index, and their rankings."""
        proposal = engine.propose(batch.vectors[rows], [batch.selections[row] for row in rows])
        rankings = self._ranked(batch, rows, proposal, engine.name)
        proven = []
        for place, (ranking, ceiling) in enumerate(zip(rankings, proposal.ceilings.tolist(), strict=True)):
            full = len(ranking.scores) == batch.selections[rows[place]].k
            if ceiling == -np.inf or (full and not ranking.scores[-1] <= ceiling):
                proven.append(place)
        return [rows[place] for place in proven], rankings.taken(proven)

    def _ranked(self, batch: _Batch, rows: Sequence[int], proposal: Proposal, engine: str) -> Rankings:
        """The best of the candidates proposed for each row, all of them rescored in float64."""
        started = perf_counter()
        row_P, entity_P = proposal.rows, proposal.entities
        score_PS = self._table.rescore(batch.vectors[rows], row_P, entity_P)
        fused_P = self._fusion.combine_exactly(score_PS)
        order = np.lexsort((entity_P, -fused_P, row_P))
        starts = np.searchsorted(row_P, np.arange(len(rows) + 1))
        count_B = np.minimum(np.diff(starts), [batch.selections[row].k for row in rows]).astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(count_B)])
        chosen_P = order[np.repeat(starts[:-1] - bounds[:-1], count_B) + np.arange(bounds[-1])]
        rankings = Rankings(
            bounds.tolist(),
            entity_P[chosen_P],
            fused_P[chosen_P],
            self._fusion.branch_values(score_PS[chosen_P]),
            (~np.isnan(proposal.ceilings)).tolist(),
            [engine] * len(rows),
        )
        batch.watch.seconds += perf_counter() - started
        return rankings


@dataclass(frozen=True, eq=False)
class _Batch:
    """Queries float32[B, X] with what each of them wants."""

    vectors: Float32
    selections: Sequence[Selection]
    watch: Stopwatch
