"""Search: candidates proposed by one index of inner products over the branches side by side.

Axes: B queries, C candidates found, N entities, P pairs of a query and an entity, X widths of all branches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from momok.model.arrays import Bool, Float32, Float64, Int64
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.selection import Proposal, Selection, excluded_pairs
from momok.model.retrieval.table import EntityTable
from momok.model.scores import Branch

OVERFETCH = 16
"""Candidates fetched beyond the ones needed, so that the proof usually holds."""

SEARCHED_SHARE = 8
"""A search that would fetch an eighth of all entities costs more than a scan."""


class Search:
    """Proposes the best of an index; with an exact index, proves by a ceiling that nothing is missing.

    The index may be approximate: then nothing is known of the candidates that it does not find.
    """

    def __init__(self, table: EntityTable, index: EntityIndex) -> None:
        self._table, self._index = table, index
        self._space = Branch("concat", table.joined_NX.shape[1])
        self._columns = slice(0, self._space.width)
        self.name, self._exact = index.spec.engine, index.spec.exact

    def answers(self, selection: Selection) -> bool:
        """Whether a search pays; named candidates are scanned."""
        depth = self._depth(selection)
        pays = SEARCHED_SHARE * depth < len(self._table) and depth <= self._index.most_fetched
        return pays and selection.candidates is None

    def propose(self, query_BX: Float32, selections: Sequence[Selection]) -> Proposal:
        """The best allowed candidates of each query; queries of the same depth are searched together."""
        depth_B = np.array([self._depth(selection) for selection in selections])
        ceiling_B = np.full(len(selections), np.nan)
        pairs: list[Int64] = []  # As numbers ``row * N + entity``.
        for depth in np.unique(depth_B).tolist():
            rows = np.flatnonzero(depth_B == depth)
            score_BC, entity_BC = self._index.search(query_BX[rows], depth)
            if self._exact:
                ceiling_B[rows] = self._ceiling(query_BX[rows], score_BC[:, -1], entity_BC)
            row_BC = np.broadcast_to(rows[:, None], entity_BC.shape)
            pairs.append((row_BC * len(self._table) + entity_BC)[entity_BC >= 0])  # -1: nothing found.
        row_P, excluded_P = excluded_pairs(selections)
        allowed = np.setdiff1d(np.concatenate(pairs), row_P * len(self._table) + excluded_P)
        return Proposal(*np.divmod(allowed, len(self._table)), ceiling_B)

    def _depth(self, selection: Selection) -> int:
        """Deep enough for k answers besides the excluded; rounded up, so that a batch needs few searches."""
        wanted = selection.k + len(selection.excluded) + OVERFETCH
        least = 0 if self._exact else self._index.spec.fetched
        return max(1 << (wanted - 1).bit_length(), least)

    def _ceiling(self, query_BX: Float32, last_B: Float32, entity_BC: Int64) -> Float64:
        """A score that no candidate beyond the search reaches, float64[B].

        Infinite where float32 might overflow, as NaN would not even be found; -inf where all were found.
        """
        longest = self._table.longest(self._space, self._columns)
        rounding_B = self._space.rounding(self._space.lengths(query_BX.astype(np.float64)), longest)
        certain_B: Bool = np.isfinite(rounding_B)
        ceiling_B = np.where(certain_B, last_B + np.where(certain_B, rounding_B, 0), np.inf)
        found_all_B = certain_B & (entity_BC.min(axis=1) < 0)
        return np.where(found_all_B, -np.inf, ceiling_B)
