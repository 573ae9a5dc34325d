"""Losses against double loops over every cell, and against the numbers of the authors' code."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from momok.model.filter_index import FilterIndex
from momok.model.networks.momok import MoMoKConfig
from momok.training.importers.released import renamed
from momok.training.objectives.batches import Batch
from momok.training.objectives.losses import (
    LOSSES,
    cross_entropy,
    negative_sampling,
    self_adversarial_weights,
)
from tests.model.networks.test_parity import theirs
from tests.training.builders import Learner

# Row 1 has three true answers, rows 2 and 4 have none.
ANSWERS = [(0, 3), (1, 0), (1, 4), (1, 5), (3, 3)]
NUM_ROWS, NUM_ENTITIES = 5, 6


def example(scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, table and answers; the scores are the products of the first two."""
    generator = torch.Generator().manual_seed(0)
    query_BD = scale * torch.randn(NUM_ROWS, 3, dtype=torch.float64, generator=generator)
    table_ND = torch.randn(NUM_ENTITIES, 3, dtype=torch.float64, generator=generator)
    row_P, answer_P = torch.tensor(ANSWERS).T
    return query_BD, table_ND, row_P, answer_P


@pytest.fixture(params=[None, 2], ids=["one chunk", "chunks of two rows"])
def _chunked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr("momok.training.objectives.losses.rows_at_once", lambda table_ND: request.param)


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


PLAIN = {"ce": plain_cross_entropy, "bce": plain_binary_cross_entropy}


def dense(name: str, score_BN: Tensor) -> Tensor:
    """The formula over dense labels, for autograd to differentiate."""
    label_BN = torch.zeros_like(score_BN)
    label_BN[tuple(torch.tensor(ANSWERS).T)] = 1
    if name == "bce":
        label_BN = 0.9 * label_BN + 1 / NUM_ENTITIES
        return torch.nn.functional.binary_cross_entropy_with_logits(score_BN, label_BN)
    answered = label_BN.sum(dim=1) > 0
    shares_bN = label_BN[answered] / label_BN[answered].sum(dim=1, keepdim=True)
    return -(shares_bN * score_BN[answered].log_softmax(dim=1)).sum(dim=1).mean()


@pytest.mark.usefixtures("_chunked")
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_double_loops(name: str, scale: float) -> None:
    query_BD, table_ND, row_P, answer_P = example(scale)
    found = LOSSES[name](query_BD, table_ND, row_P, answer_P).item()
    assert found == pytest.approx(PLAIN[name]((query_BD @ table_ND.T).tolist()), rel=1e-12)


@pytest.mark.usefixtures("_chunked")
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    query_BD, table_ND, row_P, answer_P = example()
    inputs = (query_BD.requires_grad_(), table_ND.requires_grad_())
    assert torch.autograd.gradcheck(lambda query, table: LOSSES[name](query, table, row_P, answer_P), inputs)


@pytest.mark.usefixtures("_chunked")
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_dense_formula(name: str, scale: float) -> None:
    query_BD, table_ND, row_P, answer_P = example(scale)
    inputs = (query_BD.requires_grad_(), table_ND.requires_grad_())
    expected = torch.autograd.grad(3 * dense(name, query_BD @ table_ND.T), inputs)
    found = torch.autograd.grad(3 * LOSSES[name](query_BD, table_ND, row_P, answer_P), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_a_constant_side_gets_no_gradient(name: str) -> None:
    query_BD, table_ND, row_P, answer_P = example()
    table_ND.requires_grad_()
    (expected,) = torch.autograd.grad(dense(name, query_BD @ table_ND.T), table_ND)
    (found,) = torch.autograd.grad(LOSSES[name](query_BD, table_ND, row_P, answer_P), table_ND)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    assert query_BD.grad is None


def test_rows_without_answers_pull_at_nothing_under_cross_entropy() -> None:
    query_BD, table_ND, row_P, answer_P = example()
    query_BD.requires_grad_()
    (gradient_BD,) = torch.autograd.grad(cross_entropy(query_BD, table_ND, row_P, answer_P), query_BD)
    assert not gradient_BD[[2, 4]].any()
    assert gradient_BD[[0, 1, 3]].all()


def test_no_answers_at_all_give_a_cross_entropy_of_zero() -> None:
    query_BD, table_ND, row_P, answer_P = example()
    assert cross_entropy(query_BD, table_ND, row_P[:0], answer_P[:0]).item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_huge_scores_stay_finite(name: str) -> None:
    query_BD, table_ND, row_P, answer_P = example(scale=1e4)
    inputs = (query_BD.float().requires_grad_(), table_ND.float().requires_grad_())
    loss = LOSSES[name](*inputs, row_P, answer_P)
    assert loss.isfinite()
    assert all(bool(gradient.isfinite().all()) for gradient in torch.autograd.grad(loss, inputs))


@pytest.mark.usefixtures("_chunked")
@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_products_round_and_no_more(name: str) -> None:
    """Relative to the largest: bfloat16 keeps 8 bits, and a score or a gradient is rounded twice."""
    query_BD, table_ND, row_P, answer_P = (t.float() if t.is_floating_point() else t for t in example())
    inputs = (query_BD.requires_grad_(), table_ND.requires_grad_())
    expected = torch.autograd.grad(dense(name, query_BD @ table_ND.T), inputs)
    with torch.autocast("cpu", torch.bfloat16):
        loss = LOSSES[name](query_BD, table_ND, row_P, answer_P)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(dense(name, query_BD @ table_ND.T).item(), rel=2e-2)
    for one, other in zip(torch.autograd.grad(loss, inputs), expected, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).abs().max() <= 3e-2 * other.abs().max()


@pytest.mark.parametrize("name", ["momok_a", "momok_b"])
def test_loss_and_gradients_are_those_of_the_authors_code(name: str, shared: Path) -> None:
    model, stored = theirs(shared / "parity" / f"{name}.safetensors")
    nothing = FilterIndex.from_facts({}, num_entities=1, num_relations=1)
    objective = Learner(model, nothing, loss="bce", club_weight=0)
    row_P, answer_P = stored["input.target"].nonzero().T
    loss = objective.loss(Batch(stored["input.entity"], stored["input.relation"], row_P, answer_P))
    torch.testing.assert_close(loss.total.detach(), stored["output.loss"][0], rtol=1e-5, atol=0)
    assert sum(loss.read()[1].values()) == pytest.approx(stored["output.loss"].item(), rel=1e-5)

    loss.total.backward()  # type: ignore[no-untyped-call]
    # Their gradients in place of the weights of the same name; what has none keeps its weight, unread.
    gradients = {n.removeprefix("grad."): tensor for n, tensor in stored.items() if n.startswith("grad.")}
    weights = {n.removeprefix("weights."): t for n, t in stored.items() if n.startswith("weights.")}
    assert isinstance(model.config, MoMoKConfig)
    expected = renamed(weights | gradients, model.config)
    compared = 0
    for key, parameter in model.named_parameters():
        if parameter.grad is None:
            assert key.endswith(".noise"), key
            continue
        difference = (parameter.grad - expected[key]).norm() / expected[key].norm()
        assert difference <= 1e-4, (key, difference)
        compared += 1
    assert compared > 50


def test_self_adversarial_loss_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    positive, negative = torch.randn(4, generator=generator), torch.randn(4, 3, generator=generator)
    total = 0.0
    for own, others in zip(positive.tolist(), negative.tolist(), strict=True):
        raised = [math.exp(2 * score) for score in others]
        total += math.log(1 / (1 + math.exp(-own)))
        total += sum(
            w / sum(raised) * math.log(1 / (1 + math.exp(s))) for w, s in zip(raised, others, strict=True)
        )
    weights = self_adversarial_weights(negative, 2.0)
    assert negative_sampling(positive, negative, weights).item() == pytest.approx(-total / 4 / 2, rel=1e-6)


def test_weights_of_negatives_have_no_gradient_and_can_be_given() -> None:
    positive, negative = torch.zeros(2), torch.tensor([[1.0, -2.0], [0.5, 0.25]], requires_grad=True)
    weights = self_adversarial_weights(negative, 0.5)
    assert not weights.requires_grad
    (gradient,) = torch.autograd.grad(negative_sampling(positive, negative, weights), negative)
    torch.testing.assert_close(gradient, weights * negative.detach().sigmoid() / 4)
    given = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    (gradient,) = torch.autograd.grad(negative_sampling(positive, negative, given), negative)
    torch.testing.assert_close(gradient, given * negative.detach().sigmoid() / 4)


@pytest.mark.parametrize("beta", [0.0, 1e-300])
def test_without_beta_all_negatives_weigh_the_same(beta: float) -> None:
    negative = torch.tensor([[1.0, 30.0, 5.0], [2.0, 2.0, 2.0]])
    negative[0, 2] = negative[1] = -torch.inf  # True facts are no negatives.
    weights = self_adversarial_weights(negative, beta)
    assert weights.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    assert negative_sampling(torch.zeros(2), negative, weights).isfinite()


def test_negatives_that_are_none_weigh_nothing() -> None:
    negative = torch.tensor([[1.0, 3.0], [2.0, 2.0]], requires_grad=True)
    is_true = torch.tensor([[False, True], [True, True]])
    masked = negative.masked_fill(is_true, -torch.inf)
    weights = self_adversarial_weights(masked, 2.0)
    assert weights.tolist() == [[1, 0], [0, 0]]
    loss = negative_sampling(torch.zeros(2), masked, weights)
    expected = (2 * math.log(2) + math.log(1 + math.e)) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, negative)
    assert gradient.isfinite().all() and (gradient[is_true] == 0).all()
