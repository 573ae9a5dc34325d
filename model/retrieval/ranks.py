"""FactRanker: how a whole fact scores, and where its end stands among all entities.

Ranks are those of the float64 scores by which answers are ordered. A float32 scan settles whoever is so far
from the truth that rounding cannot matter; the others are scored again in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from momok.model.arrays import Float32, Float64, Int64
from momok.model.filter_index import FilterIndex
from momok.model.retrieval.matmul import AnyLayout
from momok.model.retrieval.scan import errors_of_sigmoids
from momok.model.retrieval.table import EntityTable
from momok.model.scores import Decision, branch_values, decide, decide_exactly

CELLS = 1 << 24
"""Pairs of query and entity looked at together; each takes a byte until all ranks are counted."""


@dataclass(frozen=True)
class RankResult:
    """A fact seen from one of its queries: the score of the true answer, and its rank among all entities.

    ``branch_values`` float64[branches] in the unit of the decision. Ranks are ``1 + greater + ties / 2``:
    ``raw_rank`` among all, ``filtered_rank`` without the other known answers of the query.
    """

    score: float
    branch_values: Float64
    raw_rank: float
    filtered_rank: float


class FactRanker:
    """Scores facts by one table of candidates; one thread at a time may use it."""

    def __init__(self, table: EntityTable, decision: Decision, layout: AnyLayout, known: FilterIndex) -> None:
        """``layout``: the candidates in float32."""
        assert layout.dtype == torch.float32, "one rounding of a score too many"
        self._table = table
        self._decision: Decision = decision
        self._layout = layout
        self._known = known

    def score(self, query_BX: Float32, answer_B: Int64) -> tuple[Float64, Float64]:
        """The score float64[B] of one answer to each query, and its values float64[B, branches]."""
        score_BS = self._table.rescore(query_BX, np.arange(len(answer_B)), answer_B)
        return decide_exactly(score_BS, self._decision), branch_values(score_BS, self._decision)

    def place(self, query_BX: Float32, asked: Sequence[tuple[int, int]], answer_B: Int64) -> list[RankResult]:
        """One placement a query; ``asked``: its entity and its relation in [0, 2R)."""
        at_once = max(CELLS // len(self._table), 1)
        score_B, value_BS = self.score(query_BX, answer_B)
        placements: list[RankResult] = []
        for start in range(0, len(answer_B), at_once):
            part = slice(start, start + at_once)
            sign_bN = self._signs(query_BX[part], score_B[part])
            for row, (entity, relation) in enumerate(asked[part], start):
                answer, sign_N = int(answer_B[row]), sign_bN[row - start]
                known, _ = self._known.of(entity, relation)
                others = known[known != answer]
                raw = _rank(sign_N)
                score, values = float(score_B[row]), value_BS[row]
                placements.append(RankResult(score, values, raw, raw - _share(sign_N[others])))
        return placements

    @torch.inference_mode()
    def _signs(self, query_BX: Float32, score_B: Float64) -> np.ndarray[tuple[int, int], np.dtype[np.int8]]:
        """int8[B, N]: 1 for entities that score more than ``score_B``, 0 for ties, -1 for less."""
        sign_BN = np.empty((len(query_BX), len(self._table)), dtype=np.int8)
        low_B, high_B = self._settled(query_BX, torch.from_numpy(score_B))
        for start, scores in self._layout.tiles(torch.from_numpy(query_BX)):
            score_CB = decide(scores, self._decision)
            low, high = (bound_B.to(score_CB.device) for bound_B in (low_B, high_B))
            sign_CB = (score_CB > high).to(torch.int8).sub_((score_CB < low).to(torch.int8))
            sign_BN[:, start : start + len(sign_CB)] = sign_CB.cpu().numpy().T
        for row in range(len(query_BX)):
            unsure = np.flatnonzero(sign_BN[row] == 0)
            row_P = np.full(len(unsure), row)
            exact_P = decide_exactly(self._table.rescore(query_BX, row_P, unsure), self._decision)
            sign_BN[row, unsure] = np.sign(exact_P - score_B[row])
        return sign_BN

    def _settled(self, query_BX: Float32, score_B: Tensor) -> tuple[Tensor, Tensor]:
        """The float32 scores below and above which a score surely is less, and more, than ``score_B``."""
        error_BS = torch.from_numpy(self._layout.errors(query_BX).together)
        certain_B = error_BS.isfinite().all(dim=1)
        error_BS = error_BS.where(certain_B[:, None], 0)
        if self._decision == "mean_sigmoid":
            apart_B, factor_B = errors_of_sigmoids(error_BS)
            low_B = torch.maximum(score_B - apart_B, score_B / factor_B - 2.0**-120)
            high_B = torch.minimum(score_B + apart_B, score_B * factor_B + 2.0**-120)
        else:
            low_B, high_B = score_B - error_BS[:, 0], score_B + error_BS[:, 0]
        infinity = torch.tensor(torch.inf)
        low_B, high_B = low_B.where(certain_B, -torch.inf), high_B.where(certain_B, torch.inf)
        return low_B.float().nextafter(-infinity), high_B.float().nextafter(infinity)


def _rank(sign_N: np.ndarray[tuple[int], np.dtype[np.int8]]) -> float:
    """``1 + greater + ties / 2`` of an entity that is itself among those counted, as a tie."""
    return 0.5 + _share(sign_N)


def _share(sign_C: np.ndarray[tuple[int], np.dtype[np.int8]]) -> float:
    """What these entities add to a rank: 1 for each that scores more, one half for a tie."""
    return float((sign_C == 1).sum() + (sign_C == 0).sum() / 2)
