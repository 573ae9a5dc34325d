"""Retriever: the top k candidates of a query, proven to be the top k.

FAISS proposes candidates, each is rescored in float64, and the list is *certified* with Fagin's threshold:
no candidate that no search proposed can score above the decision of the last score of each search (Fagin,
Lotem, Naor, 2001). If the k-th answer exceeds that bound the list is exact; if not, the searches go twice
as deep; in the end everything is scanned.

For the decision ``sum`` one inner product of concatenated vectors is the score, so one search suffices;
``mean_sigmoid`` is not an inner product and takes a search in each branch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.decision import Decision, branch_values, decide_exactly
from model.index import EntityIndex, Float32, Int64
from model.predictor import Branch

Float64 = npt.NDArray[np.float64]

OVERFETCH = 16
"""Candidates fetched beyond those needed, so that the first certificate usually holds."""

SCAN_CHUNK = 4096
"""Rows rescored at a time, which bounds the memory of a scan."""

OVERFLOW = 2.0**127
"""Inner products that stay below this stay finite in float32, partial sums included."""


@dataclass(frozen=True)
class Selection:
    """Which candidates a query wants: the best ``k`` of ``candidates`` (all where None) not ``excluded``."""

    k: int
    excluded: Int64
    candidates: Int64 | None = None

    def __post_init__(self) -> None:
        assert self.k >= 1, "a query asks for at least one candidate"


@dataclass(frozen=True)
class Ranking:
    """The answer to one query, best first by float64 score; ties by entity id.

    ``entities`` int64[C], ``scores`` float64[C], ``branch_values`` float64[C, branches] in the unit of the
    decision, C ≤ k. ``exact``: these provably are the best. ``engine`` says how they were found.
    """

    entities: Int64
    scores: Float64
    branch_values: Float64
    exact: bool
    engine: str


@dataclass(frozen=True)
class _Space:
    """One searched space: columns of the joined table, and the longest vector in it."""

    columns: slice
    index: EntityIndex
    longest: float


class Retriever:
    """Searches one table of candidates.

    ``table``: branch -> float32[N, D]. Raises ``ValueError`` for vectors that are not finite.
    """

    def __init__(self, branches: Sequence[Branch], table: Mapping[str, Float32], decision: Decision) -> None:
        self.decision: Decision = decision
        self._joined_NX = np.ascontiguousarray(
            np.concatenate([table[branch.name] for branch in branches], axis=1)
        )
        if not np.isfinite(self._joined_NX).all():
            raise ValueError("the entity table holds values that are not finite")
        self._names = [branch.name for branch in branches]
        ends = np.cumsum([branch.width for branch in branches])
        self._branches = [
            slice(int(end) - branch.width, int(end)) for branch, end in zip(branches, ends, strict=True)
        ]
        spaces = [slice(0, int(ends[-1]))] if decision == "sum" else self._branches
        self._spaces = [self._space(columns) for columns in spaces]

    def top_k(self, query: Mapping[str, Float32], selections: Sequence[Selection]) -> list[Ranking]:
        """One ranking a query; ``query``: branch -> float32[B, D], rows as ``selections``.

        Raises ``ValueError`` for a query that is not finite.
        """
        joined_BX = np.concatenate([query[name] for name in self._names], axis=1)
        if not np.isfinite(joined_BX).all():
            raise ValueError("a query vector is not finite")
        rankings: list[Ranking | None] = [None] * len(selections)
        pending: dict[int, list[int]] = {}
        for row, selection in enumerate(selections):
            if selection.candidates is not None:
                rankings[row] = self._gather(joined_BX[row], selection, selection.candidates, "gather")
            else:
                pending.setdefault(self._first_depth(selection), []).append(row)
        while pending:
            depth, rows = pending.popitem()
            for row, ranking in self._search(joined_BX, rows, selections, depth):
                if ranking is None:
                    pending.setdefault(2 * depth, []).append(row)
                rankings[row] = ranking
        return [ranking for ranking in rankings if ranking is not None]

    def _space(self, columns: slice) -> _Space:
        vectors_ND = self._joined_NX[:, columns]
        chunks = (vectors_ND[start : start + SCAN_CHUNK] for start in range(0, len(vectors_ND), SCAN_CHUNK))
        longest = max(float((chunk.astype(np.float64) ** 2).sum(axis=1).max()) for chunk in chunks) ** 0.5
        return _Space(columns, EntityIndex(vectors_ND), longest)

    def _first_depth(self, selection: Selection) -> int:
        """Deep enough for k answers besides the excluded; rounded up, so that a batch shares few searches."""
        needed = selection.k + len(selection.excluded) + OVERFETCH
        return 1 << (needed - 1).bit_length()

    def _search(
        self, joined_BX: Float32, rows: Sequence[int], selections: Sequence[Selection], depth: int
    ) -> list[tuple[int, Ranking | None]]:
        """Rankings of ``rows`` from searches of one depth; None where that depth proves nothing."""
        if 2 * depth >= len(self._joined_NX):  # Heaps that deep cost more than scoring everything.
            return [(row, self._scan(joined_BX[row], selections[row])) for row in rows]
        found = [space.index.search(joined_BX[rows, space.columns], depth) for space in self._spaces]
        result: list[tuple[int, Ranking | None]] = []
        for position, row in enumerate(rows):
            proposed = np.unique(np.concatenate([entity[position] for _, entity in found]))
            last = [float(score[position, -1]) for score, _ in found]
            ranking = self._gather(joined_BX[row], selections[row], proposed, f"faiss-{self._kind}")
            certified = ranking.scores[-1] > self._bound(joined_BX[row], last)
            result.append((row, ranking if certified else None))
        return result

    def _bound(self, query_X: Float32, last: Sequence[float]) -> float:
        """A score that no candidate beyond these searches reaches.

        The searches compute in float32: the rounding of an inner product of D terms is at most
        ``D 2^-24 |q| |c|`` (Higham 2002, equation 3.5), here with room for the float64 side. To that comes
        what is lost where numbers below 2^-126 are taken for 0. Where a sum might overflow nothing is
        certain: what turned into NaN is not even proposed.
        """
        ceilings = []
        for score, space in zip(last, self._spaces, strict=True):
            query_D = query_X[space.columns].astype(np.float64)
            width, length = len(query_D), float(np.sqrt((query_D**2).sum()))
            if length * space.longest >= OVERFLOW:
                return math.inf
            rounding = 1.01 * (width + 1) * 2.0**-24 * length * space.longest
            underflow = width * 2.0**-125 * (1 + length + space.longest)
            ceilings.append(score + rounding + underflow)
        decided = float(decide_exactly(np.array(ceilings), self.decision))
        return decided + 4 * float(np.spacing(abs(decided)))

    def _scan(self, query_X: Float32, selection: Selection) -> Ranking:
        return self._gather(query_X, selection, np.arange(len(self._joined_NX)), "scan")

    def _gather(self, query_X: Float32, selection: Selection, candidates: Int64, engine: str) -> Ranking:
        """The best of ``candidates`` (int64, sorted), every one rescored in float64."""
        kept_C = candidates[~np.isin(candidates, selection.excluded)]
        score_CB = self._rescore(query_X, kept_C)
        decided_C = decide_exactly(score_CB, self.decision)
        best_C = np.lexsort((kept_C, -decided_C))[: selection.k]
        return Ranking(
            kept_C[best_C],
            decided_C[best_C],
            branch_values(score_CB[best_C], self.decision),
            exact=True,
            engine=engine,
        )

    def _rescore(self, query_X: Float32, entity_C: Int64) -> Float64:
        """Branch scores float64[C, branches].

        Multiplied and summed row by row rather than by a matrix product, whose rounding depends on where a
        row stands: equal vectors must give equal scores, or ties would not be ties.
        """
        query64_X = query_X.astype(np.float64)
        score_CB = np.empty((len(entity_C), len(self._branches)))
        for start in range(0, len(entity_C), SCAN_CHUNK):
            part = slice(start, start + SCAN_CHUNK)
            product_cX = self._joined_NX[entity_C[part]] * query64_X
            for column, columns in enumerate(self._branches):
                score_CB[part, column] = product_cX[:, columns].sum(axis=1)
        return score_CB

    @property
    def _kind(self) -> str:
        return self._spaces[0].index.kind
