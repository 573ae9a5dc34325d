"""Search: candidates proposed by FAISS indexes, certified by Fagin's threshold where the indexes are exact.

No candidate that no search proposed can score above the decision of the last score of each search (Fagin,
Lotem, Naor, 2001). For the decision ``sum`` one inner product of concatenated vectors is the score, so one
search suffices; ``mean_sigmoid`` is not an inner product and takes a search in each branch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from momok.model.arrays import Bool, Float32, Float64, Int64
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.index_spec import IndexSpec
from momok.model.retrieval.selection import Proposal, Selection, excluded_pairs
from momok.model.retrieval.table import EntityTable
from momok.model.scores import Decision, decide_exactly

CONCAT, BRANCH = "concat", "branch-"
"""A space is that of all branches side by side, or that of the branch which the rest of its name names."""

OVERFETCH = 16
"""Candidates fetched beyond those needed, so that the first certificate usually holds."""

FEW_EXCLUDED = 64
"""So many are fetched besides; more are kept out inside the search, which then serves one query alone."""


def columns_of(table: EntityTable, space: str) -> slice:
    """The columns of a space."""
    if space == CONCAT:
        return table.whole
    return table.columns[table.names.index(space.removeprefix(BRANCH))]


class Search:
    """``indexes``: space -> its index, all of one kind; on a GPU where its number is given and FAISS can.

    None makes exact ones here: of each branch for ``mean_sigmoid``, else one of the whole.
    """

    def __init__(
        self,
        table: EntityTable,
        decision: Decision,
        indexes: Mapping[str, EntityIndex] | None = None,
        gpu: int | None = None,
    ) -> None:
        self._table = table
        self._decision: Decision = decision
        if indexes is None:
            branches = [BRANCH + name for name in table.names]
            names = branches if decision == "mean_sigmoid" else [CONCAT]
            rows = {name: table.joined_NX[:, columns_of(table, name)] for name in names}
            indexes = {name: EntityIndex.build(rows[name], IndexSpec()) for name in names}
        if gpu is not None:
            indexes = {name: index.on_gpu(gpu) for name, index in indexes.items()}
        self._spaces = [(columns_of(table, name), index) for name, index in indexes.items()]
        self._selects = all(index.selects for index in indexes.values())
        self._most_fetched = min(index.most_fetched for index in indexes.values())
        spec = self._spaces[0][1].spec
        self.name, self.exact = spec.engine, spec.exact
        self._least_depth = 0 if spec.exact else spec.fetched

    def first_depth(self, selection: Selection) -> int:
        """Deep enough for k answers besides the excluded; rounded up, so that a batch shares few searches."""
        excluded = 0 if self.alone(selection) else len(selection.excluded)
        return max(1 << (selection.k + excluded + OVERFETCH - 1).bit_length(), self._least_depth)

    def alone(self, selection: Selection) -> bool:
        """Whether a query is searched on its own, by an index that is told whom to find."""
        told = selection.candidates is not None or len(selection.excluded) > FEW_EXCLUDED
        return told and self._selects

    def can(self, selection: Selection, depth: int) -> bool:
        """Whether a search of this depth answers such a query; who names candidates needs a selector."""
        return depth <= self._most_fetched and (self._selects or selection.candidates is None)

    def propose(self, query_BX: Float32, selections: Sequence[Selection], depth: int) -> Proposal:
        """Those of the best ``depth`` of each space who are allowed; one query only if it is ``alone``."""
        allowed_N = None
        if self.alone(selections[0]):
            assert len(selections) == 1, "a selector serves one query"
            allowed_N = selections[0].allowed(len(self._table))
        asked_BX = self._asked(query_BX)
        found = [index.search(asked_BX[:, columns], depth, allowed_N) for columns, index in self._spaces]
        entity_BC = np.concatenate([entity_BC for _, entity_BC in found], axis=1)
        if not self.exact:
            return Proposal(*self._pairs(entity_BC, selections), np.full(len(query_BX), np.nan))
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
