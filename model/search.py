"""Search: candidates proposed by FAISS indexes, certified by Fagin's threshold.

No candidate that no search proposed can score above the decision of the last score of each search (Fagin,
Lotem, Naor, 2001). For the decision ``sum`` one inner product of concatenated vectors is the score, so one
search suffices; ``mean_sigmoid`` is not an inner product and takes a search in each branch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.decision import Decision, decide_exactly
from model.index import EntityIndex
from model.selection import Bool, Proposal, Selection, excluded_pairs
from model.table import EntityTable, Float32, Float64, Int64

OVERFETCH = 16
"""Candidates fetched beyond those needed, so that the first certificate usually holds."""

FEW_EXCLUDED = 64
"""So many are fetched besides; more are kept out inside the search, which then serves one query alone."""


class Search:
    """Exact indexes of one table, built here: of each branch, or of all side by side for ``sum``."""

    def __init__(self, table: EntityTable, decision: Decision) -> None:
        self._table = table
        self._decision: Decision = decision
        spaces = table.columns if decision == "mean_sigmoid" else [table.whole]
        self._spaces = [(columns, EntityIndex(table.joined_NX[:, columns])) for columns in spaces]
        self.name = f"faiss-{self._spaces[0][1].kind}"

    def first_depth(self, selection: Selection) -> int:
        """Deep enough for k answers besides the excluded; rounded up, so that a batch shares few searches."""
        excluded = 0 if self.alone(selection) else len(selection.excluded)
        return 1 << (selection.k + excluded + OVERFETCH - 1).bit_length()

    def alone(self, selection: Selection) -> bool:
        """Whether a query is searched on its own, by an index that is told whom to find."""
        return selection.candidates is not None or len(selection.excluded) > FEW_EXCLUDED

    def propose(self, query_BX: Float32, selections: Sequence[Selection], depth: int) -> Proposal:
        """Those of the best ``depth`` of each space who are allowed; one query only if it is ``alone``."""
        allowed_N = None
        if self.alone(selections[0]):
            assert len(selections) == 1, "a selector serves one query"
            allowed_N = selections[0].allowed(len(self._table))
        asked_BX = self._asked(query_BX)
        found = [index.search(asked_BX[:, columns], depth, allowed_N) for columns, index in self._spaces]
        entity_BC = np.concatenate([entity_BC for _, entity_BC in found], axis=1)
        ceiling_B = self._ceiling(query_BX, [score_BC[:, -1] for score_BC, _ in found])
        # Who finds fewer than asked for has found everyone; unless overflow hides some.
        everyone_B = np.isfinite(ceiling_B) & (entity_BC.min(axis=1) < 0)
        ceiling_B = np.where(everyone_B, -np.inf, ceiling_B)
        return Proposal(*self._pairs(entity_BC, selections), ceiling_B)

    def _asked(self, query_BX: Float32) -> Float32:
        """The vectors whose largest inner products are looked for."""
        return query_BX

    def _pairs(self, entity_BC: Int64, selections: Sequence[Selection]) -> tuple[Int64, Int64]:
        """Pairs of who was found and is allowed, each once. FAISS says -1 where it found nobody."""
        row_BC = np.broadcast_to(np.arange(len(entity_BC))[:, None], entity_BC.shape)
        num_entities = len(self._table)
        code_P = np.unique((row_BC * num_entities + entity_BC)[entity_BC >= 0])
        row_P, excluded_P = excluded_pairs(selections)
        code_P = code_P[~np.isin(code_P, row_P * num_entities + excluded_P)]
        rows, entities = np.divmod(code_P, num_entities)
        return rows, entities

    def _ceiling(self, query_BX: Float32, last: Sequence[Float32]) -> Float64:
        """A score that no candidate beyond these searches reaches, float64[B].

        Infinite where float32 might overflow: what turned into NaN is not even proposed.
        """
        above_BS = np.stack([self._table.rounding(query_BX, columns) for columns, _ in self._spaces], axis=1)
        certain_B: Bool = np.isfinite(above_BS.sum(axis=1))
        above_BS += np.stack(last, axis=1)
        decided_B = decide_exactly(np.where(certain_B[:, None], above_BS, 0), self._decision)
        return np.where(certain_B, decided_B + 4 * np.spacing(np.abs(decided_B)), np.inf)
