"""The decision: right to the last digits, monotone, the same for a row in any company."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from momok.model.scores import SCORE_KINDS, Decision, branch_values, decide, decide_exactly

DECISIONS = st.sampled_from(["mean_sigmoid", "sum"])
SCORES = st.one_of(
    st.floats(-50, 50), st.sampled_from([-1000.0, -745.0, -100.0, -0.0, 0.0, 17.0, 37.0, 100.0, 1000.0])
)
TABLES = hnp.arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(1, 6)), elements=SCORES)


def plain(row: list[float], decision: Decision) -> Decimal:
    """The decision of one row in forty digits."""
    with localcontext() as context:
        context.prec = 40
        if decision == "sum":
            return sum(map(Decimal, row), Decimal(0))
        return sum((1 / (1 + (-Decimal(score)).exp()) for score in row), Decimal(0)) / len(row)


@given(scores=TABLES, decision=DECISIONS)
def test_exact_decisions_are_those_of_forty_digits(scores: np.ndarray, decision: Decision) -> None:
    for found, row in zip(decide_exactly(scores, decision), scores.tolist(), strict=True):
        expected, size = plain(row, decision), math.fsum(map(abs, row))
        # An exponential takes the rounding of what is raised into its relative error.
        allowed = 1e-15 * (size if decision == "sum" else float(expected) * (1 + size)) + 5e-324
        assert abs(float(found) - float(expected)) <= allowed


@given(scores=TABLES, decision=DECISIONS)
def test_float32_decisions_are_the_exact_ones_rounded(scores: np.ndarray, decision: Decision) -> None:
    branches = list(torch.from_numpy(scores.T).float()[:, None, :])
    found = decide(branches, decision)[0].numpy()
    expected = decide_exactly(scores.astype(np.float32).astype(np.float64), decision)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * max(1.0, float(np.abs(scores).max())))


@given(scores=TABLES, decision=DECISIONS, data=st.data())
def test_a_row_gives_the_same_bits_in_any_company(
    scores: np.ndarray, decision: Decision, data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, len(scores) - 1))
    together = decide_exactly(scores, decision)
    assert decide_exactly(scores[row], decision).tobytes() == together[row].tobytes()
    assert decide_exactly(scores[row : row + 1], decision).tobytes() == together[row].tobytes()
    assert branch_values(scores[row], decision).tobytes() == branch_values(scores, decision)[row].tobytes()


@given(scores=TABLES, decision=DECISIONS, raised=st.floats(1e-6, 100))
def test_raising_branch_scores_never_lowers_the_decision(
    scores: np.ndarray, decision: Decision, raised: float
) -> None:
    assert (decide_exactly(scores + raised, decision) >= decide_exactly(scores, decision)).all()


@pytest.mark.parametrize(("score", "value"), [(1000.0, 1.0), (100.0, 1.0), (0.0, 0.5), (-1000.0, 0.0)])
def test_sigmoids_saturate_quietly(score: float, value: float) -> None:
    assert decide_exactly(np.array([[score, score]]), "mean_sigmoid").tolist() == [value]
    assert decide((torch.tensor([[score]]) for _ in range(2)), "mean_sigmoid").tolist() == [[value]]


def test_small_probabilities_keep_their_relative_precision() -> None:
    assert branch_values(np.array([-100.0]), "mean_sigmoid")[0] == pytest.approx(math.exp(-100), rel=1e-13)


def test_branch_values_are_in_the_unit_of_the_decision() -> None:
    scores = np.array([[2.0, -1.0]])
    assert branch_values(scores, "sum").tolist() == [[2.0, -1.0]]
    assert branch_values(scores, "mean_sigmoid")[0] == pytest.approx([0.880797, 0.268941], abs=1e-6)


@pytest.mark.parametrize("decision", sorted(SCORE_KINDS))
def test_one_branch_alone_decides(decision: Decision) -> None:
    score = torch.tensor([[-1.0, 3.0]])
    expected = score.sigmoid() if decision == "mean_sigmoid" else score.clone()
    assert torch.equal(decide([score], decision), expected)
