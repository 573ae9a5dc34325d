"""Fused scores: right to the last digits, monotone, the same for a row in any company."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from momok.model.scores import FUSIONS, Decision

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
    for found, row in zip(FUSIONS[decision].combine_exactly(scores), scores.tolist(), strict=True):
        expected, size = plain(row, decision), math.fsum(map(abs, row))
        # An exponential takes the rounding of what is raised into its relative error.
        allowed = 1e-15 * (size if decision == "sum" else float(expected) * (1 + size)) + 5e-324
        assert abs(float(found) - float(expected)) <= allowed


@given(scores=TABLES, decision=DECISIONS)
def test_float32_decisions_are_the_exact_ones_rounded(scores: np.ndarray, decision: Decision) -> None:
    branches = list(torch.from_numpy(scores.T).float()[:, None, :])
    found = FUSIONS[decision].combine(branches)[0].numpy()
    expected = FUSIONS[decision].combine_exactly(scores.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * max(1.0, float(np.abs(scores).max())))


@given(scores=TABLES, decision=DECISIONS, data=st.data())
def test_a_row_gives_the_same_bits_in_any_company(
    scores: np.ndarray, decision: Decision, data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, len(scores) - 1))
    together = FUSIONS[decision].combine_exactly(scores)
    assert FUSIONS[decision].combine_exactly(scores[row]).tobytes() == together[row].tobytes()
    assert FUSIONS[decision].combine_exactly(scores[row : row + 1]).tobytes() == together[row].tobytes()
    assert (
        FUSIONS[decision].branch_values(scores[row]).tobytes()
        == FUSIONS[decision].branch_values(scores)[row].tobytes()
    )


@given(scores=TABLES, decision=DECISIONS, raised=st.floats(1e-6, 100))
def test_raising_branch_scores_never_lowers_the_decision(
    scores: np.ndarray, decision: Decision, raised: float
) -> None:
    assert (
        FUSIONS[decision].combine_exactly(scores + raised) >= FUSIONS[decision].combine_exactly(scores)
    ).all()


@pytest.mark.parametrize(("score", "value"), [(1000.0, 1.0), (100.0, 1.0), (0.0, 0.5), (-1000.0, 0.0)])
def test_sigmoids_saturate_quietly(score: float, value: float) -> None:
    assert FUSIONS["mean_sigmoid"].combine_exactly(np.array([[score, score]])).tolist() == [value]
    assert FUSIONS["mean_sigmoid"].combine(torch.tensor([[score]]) for _ in range(2)).tolist() == [[value]]


def test_small_probabilities_keep_their_relative_precision() -> None:
    assert FUSIONS["mean_sigmoid"].branch_values(np.array([-100.0]))[0] == pytest.approx(
        math.exp(-100), rel=1e-13
    )


def test_branch_values_are_in_the_unit_of_the_decision() -> None:
    scores = np.array([[2.0, -1.0]])
    assert FUSIONS["sum"].branch_values(scores).tolist() == [[2.0, -1.0]]
    assert FUSIONS["mean_sigmoid"].branch_values(scores)[0] == pytest.approx([0.880797, 0.268941], abs=1e-6)


@pytest.mark.parametrize("decision", sorted(FUSIONS))
def test_one_branch_alone_decides(decision: Decision) -> None:
    score = torch.tensor([[-1.0, 3.0]])
    expected = score.sigmoid() if decision == "mean_sigmoid" else score.clone()
    assert torch.equal(FUSIONS[decision].combine([score]), expected)
