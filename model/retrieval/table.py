"""EntityTable: the vectors of all candidates, the branches side by side, and what float32 may get wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from momok.model.arrays import Float32, Float64, Int64
from momok.model.scores import Branch

RESCORED_AT_ONCE = 64
"""Pairs rescored at a time: so few that float64 products stay in a processor's caches."""

ROWS_AT_ONCE = 4096

OVERFLOW = 2.0**127
"""Inner products that stay below this stay finite in float32, partial sums included."""


class EntityTable:
    """``joined_NX`` float32[N, X], X the sum of the branches' widths; ``columns``: the slice of each branch.

    ``table``: branch -> float32[N, D]. Raises ``ValueError`` for vectors that are not finite.
    """

    def __init__(self, branches: Sequence[Branch], table: Mapping[str, Float32]) -> None:
        self.names = [branch.name for branch in branches]
        self.joined_NX = _side_by_side([table[name] for name in self.names])
        ends = np.cumsum([branch.width for branch in branches])
        self.columns = [slice(int(e) - b.width, int(e)) for b, e in zip(branches, ends, strict=True)]
        if self.joined_NX.shape[1] != ends[-1]:
            raise ValueError(f"the tables are {self.joined_NX.shape[1]} wide, the branches {ends[-1]}")
        self._longest = {columns.start: self._longest_in(columns) for columns in self.columns}
        self._longest_whole = self._longest_in(self.whole)
        if not np.isfinite(self._longest_whole):
            raise ValueError("the entity table holds values that are not finite")

    def __len__(self) -> int:
        return len(self.joined_NX)

    @property
    def whole(self) -> slice:
        return slice(0, self.joined_NX.shape[1])

    def join(self, query: Mapping[str, Float32]) -> Float32:
        """``query``: branch -> float32[B, D] side by side. Raises ``ValueError`` where it does not fit."""
        for name, columns in zip(self.names, self.columns, strict=True):
            width, given = columns.stop - columns.start, query[name].shape[1]
            if given != width:
                raise ValueError(f"queries of {name!r} are {given} wide, its table {width}")
        joined_BX = np.concatenate([query[name] for name in self.names], axis=1)
        if not np.isfinite(joined_BX).all():
            raise ValueError("a query vector is not finite")
        return joined_BX

    def rescore(self, query_BX: Float32, row_P: Int64, entity_P: Int64) -> Float64:
        """Branch scores float64[P, branches] of pairs (row of the queries, entity).

        Multiplied and summed pair by pair rather than by a matrix product, whose rounding depends on where a
        row stands: equal vectors must give equal scores, or ties would not be ties.
        """
        query64_BX = query_BX.astype(np.float64)
        score_PB = np.empty((len(entity_P), len(self.columns)))
        for start in range(0, len(entity_P), RESCORED_AT_ONCE):
            part = slice(start, start + RESCORED_AT_ONCE)
            product_pX = self.joined_NX.take(entity_P[part], axis=0).astype(np.float64)
            product_pX *= query64_BX.take(row_P[part], axis=0)
            for branch, columns in enumerate(self.columns):
                score_PB[part, branch] = product_pX[:, columns].sum(axis=1)
        return score_PB

    def rounding(self, query_BX: Float32, columns: slice) -> Float64:
        """How far a float32 inner product over ``columns`` may lie from the exact one, float64[B].

        ``D 2^-24 |q| |c|`` for D terms in any order (Higham 2002, equation 3.5), with room for the float64
        side, and what is lost where numbers below 2^-126 are taken for 0. Infinite where sums might overflow.
        """
        query_BD = query_BX[:, columns].astype(np.float64)
        width, length_B = query_BD.shape[1], np.sqrt((query_BD**2).sum(axis=1))
        longest = self.longest(columns)
        rounding_B = 1.01 * (width + 1) * 2.0**-24 * length_B * longest
        underflow_B = width * 2.0**-125 * (1 + length_B + longest)
        return np.where(length_B * longest < OVERFLOW, rounding_B + underflow_B, np.inf)

    def longest(self, columns: slice) -> float:
        """The length of the longest vector in ``columns``: those of a branch, or all."""
        return self._longest_whole if columns == self.whole else self._longest[columns.start]

    def longest_difference(self, other: Callable[[int, int], Float64], columns: slice) -> float:
        """The length of the longest difference between a vector and that of ``other(start, stop)``,
        float64[C, X], in ``columns``."""
        return self._longest_in(columns, other)

    def _longest_in(self, columns: slice, other: Callable[[int, int], Float64] | None = None) -> float:
        longest = np.float64(0)
        for start in range(0, len(self), ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, len(self))
            rows_CD = self.joined_NX[start:stop, columns].astype(np.float64)
            if other is not None:
                rows_CD -= other(start, stop)[:, columns]
            longest = np.maximum(longest, (rows_CD**2).sum(axis=1).max())  # NaN stays NaN.
        return float(np.sqrt(longest))


def _side_by_side(tables: Sequence[Float32]) -> Float32:
    """The tables as one array; without a copy where they already lie so, as a bundle loads them."""
    width = sum(rows.shape[1] for rows in tables)
    address = tables[0].__array_interface__["data"][0]
    for rows in tables:
        if rows.strides != (4 * width, 4) or rows.__array_interface__["data"][0] != address:
            return np.ascontiguousarray(np.concatenate(tables, axis=1), dtype=np.float32)
        address += 4 * rows.shape[1]
    shape = (len(tables[0]), width)
    return np.lib.stride_tricks.as_strided(tables[0], shape, tables[0].strides)
