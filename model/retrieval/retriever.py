"""Retriever: the top k candidates of a query, proven to be the top k.

An engine proposes candidates, each is rescored in float64, and the list is *certified*: where the k-th answer
exceeds what any other candidate can reach, the list is exact. A scan always proves that; a search that does
not goes twice as deep, and in the end everything is scanned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from momok.model.arrays import Float32
from momok.model.retrieval.engine import Engines
from momok.model.retrieval.ranking import Rankings
from momok.model.retrieval.search import Search
from momok.model.retrieval.selection import Proposal, Selection, gathered
from momok.model.retrieval.table import EntityTable
from momok.model.scores import Decision, branch_values, decide_exactly

GATHERED_SHARE, SCANNED_TOGETHER = 8, 16
"""Candidates are scored one by one if they are an eighth of all entities at most: that costs as much as a
scan. So it is for those of a batch together, where a scan of sixteen queries more costs as much again."""

SEARCHED_SHARE = 8
"""Searches that would fetch an eighth of all entities cost more than scoring everyone."""


Found = tuple[Sequence[int], Rankings]
"""Rows of a batch, and the ranking of each."""


@dataclass
class Stopwatch:
    """How long something took, all times together."""

    seconds: float = 0.0


class Retriever:
    """Answers from one table of candidates with the engine that is the quickest for a batch; in several
    threads where it has been chosen."""

    def __init__(self, table: EntityTable, decision: Decision, engines: Engines) -> None:
        self.decision: Decision = decision
        self.engines = engines
        self._table = table

    def top_k(
        self, query: Mapping[str, Float32], selections: Sequence[Selection], watch: Stopwatch | None = None
    ) -> Rankings:
        """One ranking a query, of one at least; ``query``: branch -> float32[B, D], rows as ``selections``.
        ``watch`` runs while candidates are rescored.

        Raises ``ValueError`` for a query that is not finite or of another width.
        """
        watch = watch or Stopwatch()
        joined_BX = self._table.join(query)
        found: list[Found] = []
        few = self._gathered(selections)
        rest = sorted(set(range(len(selections))).difference(few))
        if few:
            proposal = gathered([selections[row] for row in few])
            found.append((few, self._ranked(joined_BX[few], few, selections, proposal, "gather", watch)))
        engine = self.engines.of(max(len(rest), 1))
        if isinstance(engine, Search):
            rest = self._search(joined_BX, rest, selections, found, watch)
        if rest:
            scan = self.engines.scan if isinstance(engine, Search) else engine
            proposal = scan.propose(joined_BX[rest], [selections[row] for row in rest])
            found.append((rest, self._ranked(joined_BX[rest], rest, selections, proposal, scan.name, watch)))
        return _in_order(found)

    def measure(self, query: Mapping[str, Float32], k: int = 10) -> None:
        """Choose the engine of each size of batch by answering these queries, again and again if need be."""
        nobody = np.empty(0, dtype=np.int64)
        num_queries = len(next(iter(query.values())))

        def answer(size: int) -> None:
            rows = np.arange(size) % num_queries
            self.top_k(
                {name: vectors[rows] for name, vectors in query.items()}, [Selection(k, nobody)] * size
            )

        self.engines.measure(answer)

    def _gathered(self, selections: Sequence[Selection]) -> list[int]:
        """The rows whose candidates are so few that scoring them one by one is quicker than a scan."""
        most = len(self._table) // GATHERED_SHARE
        sizes = {row: len(s.candidates) for row, s in enumerate(selections) if s.candidates is not None}
        few = [row for row, size in sizes.items() if size <= most]
        together = sum(sizes[row] for row in few)
        return few if together <= most * (1 + len(few) / SCANNED_TOGETHER) else []

    def _search(
        self,
        joined_BX: Float32,
        rows: Sequence[int],
        selections: Sequence[Selection],
        found: list[Found],
        watch: Stopwatch,
    ) -> list[int]:
        """Add to ``found`` what searches prove; the rows that they cannot or should not answer are left."""
        search = self.engines.search
        left: list[int] = []
        pending: dict[tuple[int, int], list[int]] = {}
        for row in rows:
            alone = row if search.alone(selections[row]) else -1
            pending.setdefault((search.first_depth(selections[row]), alone), []).append(row)
        while pending:
            (depth, alone), asked = pending.popitem()
            pays = SEARCHED_SHARE * depth < len(self._table)
            group = [row for row in asked if pays and search.can(selections[row], depth)]
            left += set(asked).difference(group)
            if not group:
                continue
            chosen = [selections[row] for row in group]
            proposal = search.propose(joined_BX[group], chosen, depth)
            ranked = self._ranked(joined_BX[group], group, selections, proposal, search.name, watch, depth)
            proven: list[int] = []
            ceilings = proposal.ceilings.tolist()
            for place, (row, ranking, ceiling) in enumerate(zip(group, ranked, ceilings, strict=True)):
                full = len(ranking.scores) == selections[row].k
                if ceiling == -np.inf or (full and not ranking.scores[-1] <= ceiling):
                    proven.append(place)
                elif not search.exact:
                    left.append(row)  # Too few: a deeper search would read as few lists.
                else:
                    pending.setdefault((2 * depth, alone), []).append(row)
            if proven:
                found.append(([group[place] for place in proven], ranked.taken(proven)))
        return sorted(left)

    def _ranked(
        self,
        query_BX: Float32,
        rows: Sequence[int],
        selections: Sequence[Selection],
        proposal: Proposal,
        engine: str,
        watch: Stopwatch,
        depth: int = 0,
    ) -> Rankings:
        """The best of what is proposed for each row, every one rescored in float64."""
        started = perf_counter()
        row_P, entity_P = proposal.rows, proposal.entities
        score_PB = self._table.rescore(query_BX, row_P, entity_P)
        decided_P = decide_exactly(score_PB, self.decision)
        order = np.lexsort((entity_P, -decided_P, row_P))
        starts = np.searchsorted(row_P, np.arange(len(rows) + 1))
        count_B = np.minimum(np.diff(starts), [selections[row].k for row in rows])
        bounds = np.concatenate([[0], np.cumsum(count_B)])
        chosen_P = order[np.repeat(starts[:-1] - bounds[:-1], count_B) + np.arange(bounds[-1])]
        value_PB = branch_values(score_PB[chosen_P], self.decision)
        rankings = Rankings(
            bounds.tolist(),
            entity_P[chosen_P],
            decided_P[chosen_P],
            value_PB,
            (~np.isnan(proposal.ceilings)).tolist(),
            [engine] * len(rows),
            [depth] * len(rows),
        )
        watch.seconds += perf_counter() - started
        return rankings


def _in_order(found: Sequence[Found]) -> Rankings:
    """Those of all rows, row by row."""
    rows = [row for part, _ in found for row in part]
    order = sorted(range(len(rows)), key=rows.__getitem__)
    (rankings, *others) = [part for _, part in found]
    return (Rankings.joined([rankings, *others]) if others else rankings).taken(order)
