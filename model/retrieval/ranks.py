"""FactRanker: how a whole fact scores, and where its end ranks among all entities.

Ranks are those of the float64 scores by which answers are ordered. A float32 scan settles the entities so far
from the truth that rounding cannot matter; the others are scored again in float64.

Axes: B queries, C candidates of a tile, N entities, P pairs of a query and an entity, S branches, X widths of
all branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from momok.model.arrays import Float32, Float64, Int64
from momok.model.filter_index import FilterIndex
from momok.model.retrieval.kernel import Kernel
from momok.model.scores import ScoreErrors

CELLS = 1 << 24
"""Pairs of query and entity ranked together; each takes a byte until all ranks are counted."""

Signs = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class RankResult:
    """A fact seen from one of its queries: the score of the true answer, and its rank among all entities.

    ``branch_values`` float64[S] in the unit of the fusion. Ranks are ``1 + greater + ties / 2``: ``raw_rank``
    among all, ``filtered_rank`` without the other known answers of the query.
    """

    score: float
    branch_values: Float64
    raw_rank: float
    filtered_rank: float


class FactRanker:
    """Ranks facts by a kernel in float32; one thread at a time may use one."""

    def __init__(self, kernel: Kernel, known: FilterIndex) -> None:
        self._kernel, self._table, self._fusion = kernel, kernel.table, kernel.fusion
        self._known = known

    def score(self, query_BX: Float32, answer_B: Int64) -> tuple[Float64, Float64]:
        """The score float64[B] of one answer to each query, and its values float64[B, S]."""
        score_BS = self._table.rescore(query_BX, np.arange(len(answer_B)), answer_B)
        return self._fusion.combine_exactly(score_BS), self._fusion.branch_values(score_BS)

    def rank(self, query_BX: Float32, asked: Sequence[tuple[int, int]], answer_B: Int64) -> list[RankResult]:
        """One result a query; ``asked``: its entity and its relation in [0, 2R)."""
        at_once = max(CELLS // len(self._table), 1)
        score_B, value_BS = self.score(query_BX, answer_B)
        results: list[RankResult] = []
        for start in range(0, len(answer_B), at_once):
            part = slice(start, start + at_once)
            sign_bN = self._signs(query_BX[part], score_B[part])
            for row, (entity, relation) in enumerate(asked[part], start):
                answer, sign_N = int(answer_B[row]), sign_bN[row - start]
                known, _ = self._known.of(entity, relation)
                # The answer itself is counted as a tie, hence the half.
                raw = 0.5 + _share(sign_N)
                filtered = raw - _share(sign_N[known[known != answer]])
                results.append(RankResult(float(score_B[row]), value_BS[row], raw, filtered))
        return results

    @torch.inference_mode()
    def _signs(self, query_BX: Float32, score_B: Float64) -> Signs:
        """int8[B, N]: 1 for entities that score more than ``score_B``, 0 for ties, -1 for less."""
        sign_BN = np.empty((len(query_BX), len(self._table)), dtype=np.int8)
        low_B, high_B = (bound_B.to(self._kernel.device) for bound_B in self._settled(query_BX, score_B))
        for start, score_CB in self._kernel.fused(query_BX):
            sign_CB = (score_CB > high_B).to(torch.int8).sub_((score_CB < low_B).to(torch.int8))
            sign_BN[:, start : start + len(sign_CB)] = sign_CB.cpu().numpy().T
        for row in range(len(query_BX)):
            unsure = np.flatnonzero(sign_BN[row] == 0)
            score_PS = self._table.rescore(query_BX, np.full(len(unsure), row), unsure)
            sign_BN[row, unsure] = np.sign(self._fusion.combine_exactly(score_PS) - score_B[row])
        return sign_BN

    def _settled(self, query_BX: Float32, score_B: Float64) -> tuple[Tensor, Tensor]:
        """The float32 scores below and above which a score surely is less, and more, than ``score_B``."""
        errors = self._kernel.errors(query_BX)
        certain_B = torch.from_numpy(errors.finite)
        total_BS = np.where(errors.finite[:, None], errors.total, 0)
        low_B, high_B = self._fusion.interval(torch.from_numpy(score_B), ScoreErrors(total_BS, 0, total_BS))
        infinity = torch.tensor(torch.inf)
        low_B, high_B = low_B.where(certain_B, -infinity), high_B.where(certain_B, infinity)
        return low_B.float().nextafter(-infinity), high_B.float().nextafter(infinity)


def _share(sign_C: Signs) -> float:
    """The part of a rank that these entities make: 1 for each that scores more, one half for a tie."""
    return float((sign_C == 1).sum() + (sign_C == 0).sum() / 2)
