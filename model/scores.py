"""Scores: how a branch scores a candidate, and how branch scores are fused into the score that ranks.

Axes: B queries, C candidates, P pairs of a query and a candidate, D width of a branch, S scores to be fused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from momok.model.arrays import Bool, Float64, Int64
from momok.model.kinds import ScoreKind
from momok.model.rotation import distance, moduli, paired_distance

Geometry = Literal["dot", "rotate"]
Decision = Literal["sum", "mean_sigmoid", "single"]
"""Which fusion a model uses: ``sum`` adds branch scores (MoMoK's paper), ``mean_sigmoid`` averages their
sigmoids (MoMoK's released code), ``single`` takes the score of the only branch."""

UNIT = 1.01 * 2.0**-24
"""Relative error of one float32 operation, with room for the float64 arithmetic of the bounds."""

OVERFLOW = 2.0**127
"""Inner products that stay below this stay finite in float32, partial sums included."""


@dataclass(frozen=True)
class Branch:
    """One space in which a score is made: here the inner product of vectors of ``width`` D."""

    name: str
    width: int
    geometry: ClassVar[Geometry] = "dot"

    def scores(self, query_BD: Tensor, table_CD: Tensor) -> Tensor:
        """float[B, C]: every query against every candidate, in the precision given; either may come first."""
        return query_BD @ table_CD.T

    def paired_scores(self, query_PD: Tensor, candidate_PD: Tensor) -> Tensor:
        """float[P]: every query against the candidate beside it."""
        return (query_PD * candidate_PD).sum(dim=1)

    def exact_scores(self, query_PD: Float64, candidate_PD: Float64) -> Float64:
        """float64[P], pair by pair: equal vectors get equal scores wherever they stand: ties are ties.

        A matrix product would not do: its rounding depends on the row.
        """
        result: Float64 = (query_PD * candidate_PD).sum(axis=1)
        return result

    def lengths(self, vector_PD: Float64) -> Float64:
        """float64[P]: the norm in which ``rounding`` measures vectors."""
        result: Float64 = np.sqrt((vector_PD**2).sum(axis=1))
        return result

    def rounding(self, length_B: Float64, longest: float) -> Float64:
        """How far a float32 score may lie from the exact one, float64[B], infinite where it may overflow.

        ``D 2^-24 |q| |c|`` for a sum of D terms in any order (Higham 2002, equation 3.5), and what is lost
        where numbers below 2^-126 count as 0. ``length_B``: of the queries; ``longest``: of any candidate.
        """
        rounding_B = (self.width + 1) * UNIT * length_B * longest
        underflow_B = self.width * 2.0**-125 * (1 + length_B + longest)
        return np.where(length_B * longest < OVERFLOW, rounding_B + underflow_B, np.inf)


@dataclass(frozen=True)
class RotateBranch(Branch):
    """``margin - Σ_i |q_i - c_i|`` over complex coordinates (RotatE); ``width`` is twice their number."""

    margin: float
    geometry: ClassVar[Geometry] = "rotate"

    def scores(self, query_BD: Tensor, table_CD: Tensor) -> Tensor:
        return self.margin - distance(query_BD, table_CD)

    def paired_scores(self, query_PD: Tensor, candidate_PD: Tensor) -> Tensor:
        return self.margin - paired_distance(query_PD, candidate_PD)

    def exact_scores(self, query_PD: Float64, candidate_PD: Float64) -> Float64:
        return self.margin - self.lengths(query_PD - candidate_PD)

    def lengths(self, vector_PD: Float64) -> Float64:
        """float64[P]: sums of complex moduli."""
        result: Float64 = moduli(vector_PD).sum(axis=1)
        return result

    def rounding(self, length_B: Float64, longest: float) -> Float64:
        """As of ``Branch``.

        A modulus of a difference errs by four units in the last place at most, a sum of d of them in any
        order by d - 1 more (Higham 2002, chapter 4), its difference from the margin by one of either. No
        distance exceeds the way over the origin. Differences below 2^-63 square to 0, above 2^60 they may
        overflow.
        """
        num_coordinates, farthest_B = self.width // 2, length_B + longest
        rounding_B = UNIT * ((num_coordinates + 6) * farthest_B + abs(self.margin))
        return np.where(farthest_B < 2.0**60, rounding_B + num_coordinates * 2.0**-62, np.inf)


@dataclass(frozen=True, eq=False)
class ScoreErrors:
    """How far the scores that a kernel gives may lie from the exact ones.

    By ``absolute`` float64[B, S], and besides by the share ``relative`` of the score itself; ``total``
    float64[B, S] is both for the largest score that a candidate can have.
    """

    absolute: Float64
    relative: float
    total: Float64

    def rows(self, rows: Int64) -> ScoreErrors:
        """The errors of some queries."""
        return ScoreErrors(self.absolute[rows], self.relative, self.total[rows])

    @property
    def finite(self) -> Bool:
        """bool[B]: the queries whose scores cannot overflow."""
        result: Bool = np.all(np.isfinite(self.total), axis=1)
        return result


class Fusion(ABC):
    """Branch scores fused into one score; monotone in each of them."""

    score_kind: ScoreKind
    adds_up: ClassVar[bool]
    """Whether the fused score is the sum of the branch scores, so that their index can bound it."""

    @abstractmethod
    def spaces(self, branches: Sequence[Branch]) -> list[Branch]:
        """The scores to compute for all candidates: those of each branch, or of branches joined to one."""

    @abstractmethod
    def combine(self, scores: Iterable[Tensor]) -> Tensor:
        """The fused score of floats of one shape, taken one after the other.

        Without gradients the memory of the scores is reused: fresh memory costs as much as the arithmetic.
        """

    @abstractmethod
    def branch_values(self, score_CS: Float64) -> Float64:
        """What each score adds, in the unit in which answers report it."""

    @abstractmethod
    def combine_exactly(self, score_CS: Float64) -> Float64:
        """The fused score float64[C]; a row gives the same bits in any company."""

    @abstractmethod
    def least_in_contention(self, kth_B: Tensor, errors: ScoreErrors) -> Tensor:
        """float64[B]: a candidate with a lower computed score cannot reach the k-th best.

        ``kth_B``: at most the k-th best computed score, float64. Both scores may err in opposite directions,
        hence twice the error.
        """

    @abstractmethod
    def interval(self, score_B: Tensor, errors: ScoreErrors) -> tuple[Tensor, Tensor]:
        """float64[B] each: a computed score below the first or above the second settles the comparison with
        an exact ``score_B``."""


class SumFusion(Fusion):
    """The sum of the branch scores."""

    score_kind: ScoreKind = "logit_sum"
    adds_up: ClassVar[bool] = True

    def spaces(self, branches: Sequence[Branch]) -> list[Branch]:
        """One: a sum of inner products is the inner product of the vectors side by side."""
        if len(branches) == 1:
            return [*branches]
        assert all(branch.geometry == "dot" for branch in branches), "distances do not add up to one"
        return [Branch("concat", sum(branch.width for branch in branches))]

    def combine(self, scores: Iterable[Tensor]) -> Tensor:
        return _total(scores)[0]

    def branch_values(self, score_CS: Float64) -> Float64:
        return score_CS

    def combine_exactly(self, score_CS: Float64) -> Float64:
        result: Float64 = score_CS.sum(axis=-1)
        return result

    def least_in_contention(self, kth_B: Tensor, errors: ScoreErrors) -> Tensor:
        # Before its last rounding the k-th was at least kth / (1 + share) where positive; a candidate
        # computed as v can have been no more than v / (1 - share).
        share, absolute_B = errors.relative, torch.from_numpy(errors.absolute[:, 0]).to(kth_B.device)
        least_B = kth_B / (1 + share * kth_B.sign()) - 2 * absolute_B
        return least_B * (1 - share * least_B.sign())

    def interval(self, score_B: Tensor, errors: ScoreErrors) -> tuple[Tensor, Tensor]:
        total_B = torch.from_numpy(errors.total[:, 0]).to(score_B.device)
        return score_B - total_B, score_B + total_B


class SingleFusion(SumFusion):
    """The score of the only branch, a margin minus a distance."""

    score_kind: ScoreKind = "margin_minus_distance"


class MeanSigmoidFusion(Fusion):
    """The mean of the sigmoids of the branch scores."""

    score_kind: ScoreKind = "mean_probability"
    adds_up: ClassVar[bool] = False

    def spaces(self, branches: Sequence[Branch]) -> list[Branch]:
        return [*branches]

    def combine(self, scores: Iterable[Tensor]) -> Tensor:
        floats = map(Tensor.float, scores)
        sigmoids = (score.sigmoid() if score.requires_grad else score.sigmoid_() for score in floats)
        total, count = _total(sigmoids)
        return total / count if total.requires_grad else total.div_(count)

    def branch_values(self, score_CS: Float64) -> Float64:
        # exp(-log(1 + exp(-z))) keeps its relative precision at both ends and never overflows.
        result: Float64 = np.exp(-np.logaddexp(0.0, -score_CS))
        return result

    def combine_exactly(self, score_CS: Float64) -> Float64:
        result: Float64 = self.branch_values(score_CS).mean(axis=-1)
        return result

    def least_in_contention(self, kth_B: Tensor, errors: ScoreErrors) -> Tensor:
        below_B, _ = self.interval(kth_B, errors)
        return self.interval(below_B, errors)[0]

    def interval(self, score_B: Tensor, errors: ScoreErrors) -> tuple[Tensor, Tensor]:
        """A sigmoid changes by at most a quarter of what its logit does, and by no larger factor than exp of
        it; computing it, and the mean, in float32 costs a few units in the last place."""
        total_BS = torch.from_numpy(errors.total).to(score_B.device)
        units = (8 + total_BS.shape[1]) * 2.0**-24
        factor_B = total_BS.amax(dim=1).clamp(max=300).exp() * (1 + units) / (1 - units)
        apart_B = 0.25 * total_BS.mean(dim=1) + units
        low_B = torch.maximum(score_B - apart_B, score_B / factor_B - 2.0**-120)
        return low_B, torch.minimum(score_B + apart_B, score_B * factor_B + 2.0**-120)


FUSIONS: dict[Decision, Fusion] = {
    "sum": SumFusion(),
    "mean_sigmoid": MeanSigmoidFusion(),
    "single": SingleFusion(),
}


def _total(scores: Iterable[Tensor]) -> tuple[Tensor, int]:
    """The sum and the number of scores; without gradients in the memory of the first."""
    total, count = None, 0
    for score in scores:
        count += 1
        if total is None:
            total = score
        elif score.requires_grad or total.requires_grad:
            total = total + score
        else:
            total.add_(score)
    assert total is not None, "no score to fuse"
    return total, count
