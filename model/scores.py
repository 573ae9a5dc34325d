"""Decision: how the scores of the branches become the one score by which candidates are ranked.

Every decision is monotone in each branch score. So the decision of per-branch upper bounds is an upper bound
of the decision, which is what retrieval's certificate rests on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from momok.model.arrays import Float64
from momok.model.rotation import distance

Decision = Literal["sum", "mean_sigmoid", "single"]
"""``sum`` adds the branch scores (MoMoK's paper); ``mean_sigmoid`` averages their sigmoids (its released
code); ``single`` takes the score of the only branch there is, a margin minus a distance."""


ScoreKind = Literal["logit_sum", "mean_probability", "margin_minus_distance"]

SCORE_KINDS: dict[Decision, ScoreKind] = {
    "sum": "logit_sum",
    "mean_sigmoid": "mean_probability",
    "single": "margin_minus_distance",
}
"""What a decided score means, by decision."""


Geometry = Literal["dot", "rotate"]
"""``dot``: a branch score is an inner product; ``rotate``: ``margin - Σ_i |q_i - c_i|`` over the complex
coordinates of packed vectors (``model/rotation.py``)."""


@dataclass(frozen=True)
class Branch:
    """One space in which a score is made; ``width`` is D, for ``rotate`` twice the complex coordinates."""

    name: str
    width: int
    geometry: Geometry = "dot"
    margin: float = 0.0

    def scores(self, query_BD: Tensor, table_CD: Tensor) -> Tensor:
        """float[B, C]: every query against every candidate."""
        if self.geometry == "dot":
            return query_BD @ table_CD.T
        return self.margin - distance(query_BD, table_CD)


def decide(scores: Iterable[Tensor], decision: Decision) -> Tensor:
    """One score from the branch scores, floats of one shape, in the precision given.

    Takes them one after the other, so that a generator need not hold them all. Without gradients they are
    used up: their memory is worked in, as passing fresh memory around costs as much as the arithmetic.
    """
    total, count = None, 0
    for score in scores:
        in_place = not score.requires_grad
        if decision == "mean_sigmoid":
            score = score.sigmoid_() if in_place else score.sigmoid()
        if total is None:
            total = score
        elif in_place:
            total.add_(score)
        else:
            total = total + score
        count += 1
    assert total is not None, "a decision without branches"
    assert decision != "single" or count == 1, "a single decision has a single branch"
    if decision != "mean_sigmoid":
        return total
    return total / count if total.requires_grad else total.div_(count)


def branch_values(score_CB: Float64, decision: Decision) -> Float64:
    """What each branch (last axis) adds to the decision, in the unit in which answers report it."""
    if decision != "mean_sigmoid":
        return score_CB
    # exp(-log(1 + exp(-z))) keeps its relative precision at both ends and never overflows.
    result: Float64 = np.exp(-np.logaddexp(0.0, -score_CB))
    return result


def decide_exactly(score_CB: Float64, decision: Decision) -> Float64:
    """The decision in float64 over the last axis; the same row gives the same bits in any company."""
    values_CB = branch_values(score_CB, decision)
    result: Float64 = values_CB.mean(axis=-1) if decision == "mean_sigmoid" else values_CB.sum(axis=-1)
    return result
