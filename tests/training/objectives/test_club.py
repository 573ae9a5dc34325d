"""CLUB: the numbers of the authors' code, known Gaussians, and which rows of which experts MoMoK pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from momok.model.filter_index import FilterIndex
from momok.model.networks.base import ModalityShape
from momok.model.networks.momok import MoMoK, MoMoKConfig
from momok.training.objectives.batches import Batch
from momok.training.objectives.club import ClubEstimator, Likelihood
from tests.training.builders import Learner


@pytest.fixture(params=["momok_a", "momok_b"])
def stored(request: pytest.FixtureRequest, shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "parity" / f"{request.param}.safetensors")


def with_stored_weights(stored: dict[str, Tensor]) -> ClubEstimator:
    estimator = ClubEstimator(stored["club.x"].shape[1])
    names = {"p_mu": "mean", "p_logvar": "log_variance"}
    weights = {name.removeprefix("club.weights."): t for name, t in stored.items() if "club.weights" in name}
    estimator.load_state_dict(
        {names[(part := name.partition("."))[0]] + "." + part[2]: tensor for name, tensor in weights.items()}
    )
    return estimator


def test_bound_and_released_likelihood_are_those_of_the_authors_code(stored: dict[str, Tensor]) -> None:
    estimator = with_stored_weights(stored)
    x_BD, y_BD = stored["club.x"], stored["club.y"]
    bound = estimator.bound(x_BD, y_BD, stored["club.permutation"])
    torch.testing.assert_close(bound, stored["club.bound"][0], rtol=0, atol=1e-5)
    nll = estimator.negative_log_likelihood(x_BD, y_BD, "released")
    torch.testing.assert_close(nll, stored["club.nll"][0], rtol=0, atol=1e-5)


def test_complete_likelihood_is_that_of_a_gaussian(stored: dict[str, Tensor]) -> None:
    estimator = with_stored_weights(stored)
    x_BD, y_BD = stored["club.x"], stored["club.y"]
    gaussian = torch.distributions.Normal(estimator.mean(x_BD), (estimator.log_variance(x_BD) / 2).exp())
    constant = x_BD.shape[1] * math.log(2 * math.pi) / 2
    log_likelihood_BD: Tensor = gaussian.log_prob(y_BD)  # type: ignore[no-untyped-call]
    expected = -log_likelihood_BD.sum(dim=1).mean() - constant
    torch.testing.assert_close(estimator.negative_log_likelihood(x_BD, y_BD), expected)


WIDTH, NUM_STEPS = 4, 1000


def correlated(correlation: float, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Correlated in one direction alone: the hidden layer, half as wide, can follow no more than that."""
    x_BD, y_BD = torch.randn(2, num, WIDTH, generator=generator)
    y_BD[:, 0] = correlation * x_BD[:, 0] + math.sqrt(1 - correlation**2) * y_BD[:, 0]
    return x_BD, y_BD


def trained_on(correlation: float, likelihood: Likelihood = "complete") -> tuple[ClubEstimator, float]:
    """A trained estimator of Gaussians of one correlation, and its bound on fresh ones."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        estimator = ClubEstimator(WIDTH)
    optimizer = torch.optim.Adam(estimator.parameters(), lr=1e-2)
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        x_BD, y_BD = correlated(correlation, 256, generator)
        estimator.negative_log_likelihood(x_BD, y_BD, likelihood).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    x_BD, y_BD = correlated(correlation, 20_000, generator)
    permutation_B = torch.randperm(len(x_BD), generator=generator)
    with torch.no_grad():
        return estimator, estimator.bound(x_BD, y_BD, permutation_B).item()


def test_bound_is_near_zero_for_independent_gaussians_and_grows_with_correlation() -> None:
    bounds = [trained_on(correlation)[1] for correlation in (0.0, 0.4, 0.8)]
    assert abs(bounds[0]) < 0.05
    for correlation, bound in zip((0.4, 0.8), bounds[1:], strict=True):
        # With the true Gaussian for q the bound is this in expectation, above the mutual information.
        expected = correlation**2 / (1 - correlation**2)
        assert expected > -math.log(1 - correlation**2) / 2
        assert bound == pytest.approx(expected, rel=0.1)


def test_released_likelihood_pins_the_variance_and_underestimates() -> None:
    x_BD, _ = correlated(0.6, 1000, torch.Generator().manual_seed(1))
    complete, bound = trained_on(0.6)
    released, lower = trained_on(0.6, "released")
    assert released.log_variance(x_BD).mean() > 0.95  # tanh ends at 1
    learnt_D = complete.log_variance(x_BD).mean(dim=0)
    assert learnt_D[0].item() == pytest.approx(math.log(1 - 0.6**2), abs=0.1)
    assert learnt_D[1:].abs().max() < 0.1
    assert lower < bound / 2


NUM_ENTITIES, NUM_EXPERTS = 12, 4


def momok(num_experts: int = NUM_EXPERTS) -> MoMoK:
    """Two modalities; entities from 8 on lack the second."""
    torch.manual_seed(0)
    shapes = [ModalityShape(name=name, input_width=5, width=5) for name in ("structure", "text")]
    model = MoMoK(
        MoMoKConfig(
            num_entities=NUM_ENTITIES,
            num_relations=2,
            modalities=tuple(shapes),
            num_experts=num_experts,
            relation_width=4,
            joint_width=4,
        )
    )
    model.present[8:, 1] = False
    with torch.no_grad():
        for bank in model.experts:
            bank.weight.mul_(50)  # Untrained experts say so little that all bounds would be alike.
    return model


def batch_of(entities: list[int]) -> Batch:
    entity_B = torch.tensor(entities)
    return Batch(entity_B, entity_B % 4, torch.arange(len(entity_B)), (entity_B + 1) % NUM_ENTITIES)


class Recorded:
    """What the estimator of one modality was asked to bound."""

    def __init__(self, estimator: ClubEstimator, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self.permutations: list[list[int]] = []
        self.bounds: list[float] = []
        bound = estimator.bound

        def note(x_BD: Tensor, y_BD: Tensor, permutation_B: Tensor) -> Tensor:
            self.pairs.append((x_BD.detach(), y_BD.detach()))
            self.permutations.append(permutation_B.tolist())
            result = bound(x_BD, y_BD, permutation_B)
            self.bounds.append(result.item())
            return result

        monkeypatch.setattr(estimator, "bound", note)


NOTHING = FilterIndex.from_facts({}, num_entities=1, num_relations=1)


def recorded(objective: Learner, monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    return [Recorded(estimator, monkeypatch) for estimator in objective.estimators]


def test_two_different_experts_are_paired_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    model = momok()
    objective = Learner(model, NOTHING)
    (structure, text) = recorded(objective, monkeypatch)
    batch = batch_of([3, 9, 0, 7, 5, 11, 3])
    seen = set()
    for _ in range(40):
        objective.loss(batch)
    rows_with_text = [0, 2, 3, 4, 6]
    for record, views_BKD, rows in zip(
        (structure, text),
        model.expert_views(batch.entity, [range(NUM_EXPERTS)] * 2),
        (list(range(7)), rows_with_text),
        strict=True,
    ):
        for (x_BD, y_BD), permutation in zip(record.pairs, record.permutations, strict=True):
            # All rows of one expert beside the same rows of another: pairs run along K, never along B.
            found = [
                (first, second)
                for first in range(NUM_EXPERTS)
                for second in range(NUM_EXPERTS)
                if torch.allclose(x_BD, views_BKD[rows, first], atol=1e-6)
                and torch.allclose(y_BD, views_BKD[rows, second], atol=1e-6)
            ]
            assert len(found) == 1
            assert found[0][0] != found[0][1]
            assert sorted(permutation) == list(range(len(rows)))
            seen.add(found[0])
    assert len(seen) == NUM_EXPERTS * (NUM_EXPERTS - 1)  # In the end every pair has had its turn.


def test_only_the_two_experts_that_are_compared_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = momok()
    asked: list[tuple[int, ...]] = []
    for bank in model.experts:
        views = bank.views

        def note(input_BD: Tensor, experts: Sequence[int], views: Callable[..., Tensor] = views) -> Tensor:
            result = views(input_BD, experts)
            asked.append(tuple(result.shape))
            return result

        monkeypatch.setattr(bank, "views", note)
    Learner(model, NOTHING).loss(batch_of([0, 1, 2]))
    assert asked == [(3, 2, 5)] * 2


def test_total_is_the_branches_and_the_weighted_mean_of_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Learner(momok(), NOTHING, club_weight=0.5)
    records = recorded(objective, monkeypatch)
    loss = objective.loss(batch_of([0, 1, 2, 3]))
    club = sum(record.bounds[0] for record in records) / 2
    _, parts = loss.read()
    assert parts["club"] == pytest.approx(club, rel=1e-5)
    branches = sum(parts[name] for name in ("structure", "text", "joint"))
    assert loss.total.item() == pytest.approx(branches + 0.5 * club, rel=1e-5)


def test_estimators_learn_from_the_likelihood_alone_and_leave_the_model_alone() -> None:
    model = momok()
    objective = Learner(model, NOTHING, club_weight=10.0)
    loss = objective.loss(batch_of(list(range(8))))
    loss.total.backward()  # type: ignore[no-untyped-call]
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    pairs = objective._pairs
    expected: list[Tensor] = []
    for estimator, (x_BD, y_BD) in zip(objective.estimators, pairs, strict=True):
        nll = estimator.negative_log_likelihood(x_BD, y_BD)
        expected += torch.autograd.grad(nll, list(estimator.parameters()))
    objective.after_step()
    for parameter, gradient in zip(objective.estimators.parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient)
    for name, parameter in model.named_parameters():
        if name in before:
            assert parameter.grad is not None
            assert torch.equal(parameter.grad, before[name])


def test_the_bound_reaches_the_experts() -> None:
    model = momok()
    objective = Learner(model, NOTHING)
    bound = objective._club_bound(model, torch.arange(8))
    gradients = torch.autograd.grad(bound, [bank.weight for bank in model.experts])
    assert all(bool(gradient.any()) for gradient in gradients)


@pytest.mark.parametrize(("num_experts", "weight"), [(1, 1e-4), (3, 0.0)])
def test_one_expert_or_no_weight_means_no_term(num_experts: int, weight: float) -> None:
    objective = Learner(momok(num_experts), NOTHING, club_weight=weight)
    loss = objective.loss(batch_of([0, 1, 2, 3]))
    objective.after_step()
    assert set(loss.parts) == {"structure", "text", "joint"}
    assert loss.read()[0] == pytest.approx(sum(loss.read()[1].values()), rel=1e-6)
    assert not objective.optimizers()
    assert not list(objective.parameters())


def test_a_modality_that_no_row_has_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Learner(momok(), NOTHING)
    (structure, text) = recorded(objective, monkeypatch)
    loss = objective.loss(batch_of([8, 9, 10, 11]))
    objective.after_step()
    assert not text.pairs
    (x_BD, y_BD), permutation_B = structure.pairs[0], torch.tensor(structure.permutations[0])
    fresh = Learner(momok(), NOTHING)  # Same seed, so as it was before its step.
    expected = next(iter(fresh.estimators)).bound(x_BD, y_BD, permutation_B)
    assert loss.read()[1]["club"] == pytest.approx(expected.item(), rel=1e-5)


def test_an_objective_saves_its_helpers_alone() -> None:
    objective = Learner(momok(), NOTHING)
    assert all(name.startswith("estimators.") for name in objective.state_dict())
