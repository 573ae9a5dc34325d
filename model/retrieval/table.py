"""EntityTable: the vectors of all candidates, the branches side by side, and their exact scores.

Axes: N entities, B queries, P pairs of a query and an entity, D width of a branch, X widths of all branches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np

from momok.model.arrays import Float32, Float64, Int64
from momok.model.scores import Branch

RESCORED_AT_ONCE = 64
"""Pairs scored at a time: few enough that float64 products stay in a processor's caches."""

ROWS_AT_ONCE = 4096


class EntityTable:
    """``joined_NX`` float32[N, X]: the tables of the branches side by side; ``columns``: a slice a branch.

    Raises ``ValueError`` for vectors that are not finite or do not fit the branches.
    """

    def __init__(self, branches: Sequence[Branch], joined_NX: Float32) -> None:
        self.branches = tuple(branches)
        self.joined_NX = joined_NX
        self.columns = columns_of(branches)
        self._longest: dict[tuple[Branch, int], float] = {}
        if joined_NX.shape[1] != self.columns[-1].stop:
            raise ValueError(f"the tables are {joined_NX.shape[1]} wide, branches {self.columns[-1].stop}")
        for branch, columns in zip(self.branches, self.columns, strict=True):
            if not np.isfinite(self.longest(branch, columns)):
                raise ValueError("the entity table holds values that are not finite")

    @classmethod
    def of(cls, branches: Sequence[Branch], tables: Mapping[str, Float32]) -> EntityTable:
        """From branch -> float32[N, D]; copies them."""
        return cls(branches, np.concatenate([tables[branch.name] for branch in branches], axis=1))

    def __len__(self) -> int:
        return len(self.joined_NX)

    def join(self, query: Mapping[str, Float32]) -> Float32:
        """``query``: branch -> float32[B, D], side by side. Raises ``ValueError`` where it does not fit."""
        for branch in self.branches:
            if query[branch.name].shape[1] != branch.width:
                given = query[branch.name].shape[1]
                raise ValueError(f"queries of {branch.name!r} are {given} wide, its table {branch.width}")
        joined_BX = np.concatenate([query[branch.name] for branch in self.branches], axis=1)
        if not np.isfinite(joined_BX).all():
            raise ValueError("a query vector is not finite")
        return joined_BX

    def rescore(self, query_BX: Float32, row_P: Int64, entity_P: Int64) -> Float64:
        """Exact branch scores float64[P, branches] of pairs (row of the queries, entity)."""
        query64_BX = query_BX.astype(np.float64)
        score_PS = np.empty((len(entity_P), len(self.branches)))
        for start in range(0, len(entity_P), RESCORED_AT_ONCE):
            part = slice(start, start + RESCORED_AT_ONCE)
            query_pX = query64_BX.take(row_P[part], axis=0)
            entity_pX = self.joined_NX.take(entity_P[part], axis=0).astype(np.float64)
            for place, (branch, columns) in enumerate(zip(self.branches, self.columns, strict=True)):
                score_PS[part, place] = branch.exact_scores(query_pX[:, columns], entity_pX[:, columns])
        return score_PS

    def longest(self, branch: Branch, columns: slice) -> float:
        """The largest length of a vector in ``columns``, as ``branch`` measures it; NaN stays NaN."""
        key = branch, columns.start
        if key not in self._longest:
            parts = range(0, len(self), ROWS_AT_ONCE)
            rows = (self.joined_NX[start : start + ROWS_AT_ONCE, columns] for start in parts)
            lengths = [branch.lengths(rows_CD.astype(np.float64)).max() for rows_CD in rows]
            self._longest[key] = float(np.max(lengths))
        return self._longest[key]


def columns_of(spaces: Sequence[Branch]) -> list[slice]:
    """The columns of spaces that lie side by side."""
    ends = accumulate((space.width for space in spaces), initial=0)
    return [slice(start, stop) for start, stop in pairwise(ends)]
