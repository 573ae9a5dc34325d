"""Losses against double loops over every cell, and against the numbers of the authors' code."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.model.test_parity import renamed, theirs
from training.batches import Batch
from training.losses import LOSSES, binary_cross_entropy, cross_entropy
from training.objectives.base import build_objective
from training.objectives.momok import MoMoKObjectiveConfig

# Row 1 has three true answers, rows 2 and 4 have none.
ANSWERS = [(0, 3), (1, 0), (1, 4), (1, 5), (3, 3)]
NUM_ROWS, NUM_ENTITIES = 5, 6


def example(scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    score_BN = scale * torch.randn(NUM_ROWS, NUM_ENTITIES, dtype=torch.float64, generator=generator)
    row_P, answer_P = torch.tensor(ANSWERS).T
    return score_BN, row_P, answer_P


def plain_cross_entropy(score: list[list[float]]) -> float:
    losses = []
    for row, scores in enumerate(score):
        total = sum(math.exp(value) for value in scores)
        of_answers = [-math.log(math.exp(scores[a]) / total) for r, a in ANSWERS if r == row]
        if of_answers:
            losses.append(sum(of_answers) / len(of_answers))
    return sum(losses) / len(losses)


def plain_binary_cross_entropy(score: list[list[float]]) -> float:
    total = 0.0
    for row, scores in enumerate(score):
        for entity, value in enumerate(scores):
            label = 0.9 * ((row, entity) in ANSWERS) + 1 / NUM_ENTITIES
            probability = 1 / (1 + math.exp(-value))
            total -= label * math.log(probability) + (1 - label) * math.log(1 - probability)
    return total / (NUM_ROWS * NUM_ENTITIES)


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_losses_are_those_of_double_loops(scale: float) -> None:
    score_BN, row_P, answer_P = example(scale)
    found = cross_entropy(score_BN, row_P, answer_P).item()
    assert found == pytest.approx(plain_cross_entropy(score_BN.tolist()), rel=1e-12)
    found = binary_cross_entropy(score_BN, row_P, answer_P).item()
    assert found == pytest.approx(plain_binary_cross_entropy(score_BN.tolist()), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    score_BN, row_P, answer_P = example()
    assert torch.autograd.gradcheck(
        lambda score: LOSSES[name](score, row_P, answer_P), (score_BN.requires_grad_(),)
    )


def test_gradient_of_binary_cross_entropy_is_probability_minus_label() -> None:
    score_BN, row_P, answer_P = example()
    score_BN.requires_grad_()
    (gradient_BN,) = torch.autograd.grad(binary_cross_entropy(score_BN, row_P, answer_P), score_BN)
    for row in range(NUM_ROWS):
        for entity in range(NUM_ENTITIES):
            label = 0.9 * ((row, entity) in ANSWERS) + 1 / NUM_ENTITIES
            expected = (score_BN[row, entity].sigmoid().item() - label) / (NUM_ROWS * NUM_ENTITIES)
            assert gradient_BN[row, entity].item() == pytest.approx(expected, abs=1e-14)


def test_rows_without_answers_pull_at_nothing_under_cross_entropy() -> None:
    score_BN, row_P, answer_P = example()
    score_BN.requires_grad_()
    (gradient_BN,) = torch.autograd.grad(cross_entropy(score_BN, row_P, answer_P), score_BN)
    assert not gradient_BN[[2, 4]].any()
    assert gradient_BN[[0, 1, 3]].all()


def test_no_answers_at_all_give_a_cross_entropy_of_zero() -> None:
    score_BN, row_P, answer_P = example()
    assert cross_entropy(score_BN, row_P[:0], answer_P[:0]).item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_huge_scores_stay_finite(name: str) -> None:
    score_BN, row_P, answer_P = example(scale=1e4)
    assert LOSSES[name](score_BN.float(), row_P, answer_P).isfinite()


@pytest.mark.parametrize("name", ["momok_a", "momok_b"])
def test_loss_and_gradients_are_those_of_the_authors_code(name: str, shared: Path) -> None:
    model, stored = theirs(shared / "parity" / f"{name}.safetensors")
    objective = build_objective(model, MoMoKObjectiveConfig(loss="bce", club_weight=0))
    row_P, answer_P = stored["input.target"].nonzero().T
    loss = objective.loss(Batch(stored["input.entity"], stored["input.relation"], row_P, answer_P))
    torch.testing.assert_close(loss.total.detach(), stored["output.loss"][0], rtol=1e-5, atol=0)
    assert sum(loss.parts.values()) == pytest.approx(stored["output.loss"].item(), rel=1e-5)

    loss.total.backward()  # type: ignore[no-untyped-call]
    # Their gradients in place of the weights of the same name; what has none keeps its weight, unread.
    gradients = {n.removeprefix("grad."): tensor for n, tensor in stored.items() if n.startswith("grad.")}
    weights = {n.removeprefix("weights."): t for n, t in stored.items() if n.startswith("weights.")}
    expected = renamed(weights | gradients, model.config.model_dump()["num_experts"])
    compared = 0
    for key, parameter in model.named_parameters():
        if parameter.grad is None:
            assert key.endswith(".noise"), key
            continue
        difference = (parameter.grad - expected[key]).norm() / expected[key].norm()
        assert difference <= 1e-4, (key, difference)
        compared += 1
    assert compared > 50
