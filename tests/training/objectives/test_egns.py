"""How MoCME is trained: bands of negatives by hand, weights that are frozen, parts that can be left out."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from momok.model.answer import Query
from momok.model.bundle.bundle import Bundle
from momok.model.networks.base import ModelConfig, build_model, parse_config
from momok.model.networks.mocme import MoCME
from momok.model.scorer import Scorer
from momok.training.data.dataset import Dataset
from momok.training.export.export import export_run
from momok.training.fit.preparation import objective_of
from momok.training.fit.recipe import Recipe
from momok.training.fit.run import Run
from momok.training.fit.start import resume_training
from momok.training.fit.trainer import Trainer
from momok.training.objectives.egns import Egns, EgnsConfig, egns_weights
from momok.training.objectives.kinds import parse_objective
from momok.training.objectives.losses import self_adversarial_weights
from tests.conftest import REPOSITORY
from tests.training.builders import CPU, after, events, make_recipe, start

SMALL = {
    "model": "mocme",
    "network.dim": 8,
    "network.hidden_width": 8,
    "objective.refresh_every": 2,
    "objective.num_negatives": 8,
}


def small_recipe(changes: dict[str, Any] | None = None, **training: Any) -> Recipe:
    return make_recipe(**training).changed(SMALL | (changes or {}))


def trainer_of(folder: Path, changes: dict[str, Any] | None = None, **training: Any) -> Trainer:
    return start(folder, small_recipe(changes, **training))


def parts(trainer: Trainer) -> tuple[MoCME, Egns]:
    assert isinstance(trainer.model, MoCME) and isinstance(trainer.objective, Egns)
    return trainer.model, trainer.objective


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def entropy(p: float) -> float:
    return -(p * math.log2(p) + (1 - p) * math.log2(1 - p)) if 0 < p < 1 else 0.0


def unscaled(weights_Bn: Tensor, config: EgnsConfig) -> list[float]:
    """Weights over that of the last negative, which is at p = ½: ambiguous, of entropy 1."""
    return (weights_Bn[0] / weights_Bn[0, -1] * config.ambiguous_weight * 2).tolist()


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.9])
def test_negatives_weigh_by_band_and_entropy(threshold: float) -> None:
    config = EgnsConfig(
        kind="egns", ambiguous_from=threshold, easy_weight=0.1, ambiguous_weight=0.7, hard_weight=3.0
    )
    edge = next(p / 1e5 for p in range(1, 50_001) if entropy(p / 1e5) >= threshold)
    ps = [1e-6, edge / 2, edge - 2e-5, edge + 2e-5, 0.499, 0.501, 0.7, 0.99, 1 - 1e-6, 0.5]
    found = unscaled(egns_weights(torch.tensor([[logit(p) for p in ps]]).double(), config), config)
    easy = [0.1 * (1 + entropy(p)) for p in ps[:3]]
    ambiguous = [0.7 * (1 + entropy(p)) for p in ps[3:5]]
    hard = [3.0 * (3 - entropy(p)) for p in ps[5:9]]
    assert found == pytest.approx([*easy, *ambiguous, *hard, 1.4], rel=1e-4)


def test_a_confidently_wrong_negative_is_the_hardest_of_all() -> None:
    scores = torch.linspace(-40, 40, 801).double()[None]
    (weights,) = egns_weights(scores, EgnsConfig(kind="egns")).tolist()
    assert all(one <= other + 1e-15 for one, other in pairwise(weights))
    assert weights[-1] > 1.4 * weights[401], "its entropy is 0, and it weighs more than an unsure hard one"


def test_at_one_half_a_negative_is_ambiguous_and_just_above_it_hard() -> None:
    config = EgnsConfig(kind="egns", ambiguous_weight=1.0, hard_weight=2.0)
    at, above = egns_weights(torch.tensor([[0.0, 1e-3]]).double(), config)[0].tolist()
    assert above / at == pytest.approx(2, rel=1e-3)


def test_weights_sum_to_1_carry_no_gradient_and_leave_out_true_facts() -> None:
    scores = torch.randn(5, 7, requires_grad=True)
    masked = scores.masked_fill(torch.eye(5, 7, dtype=torch.bool), -torch.inf)
    weights = egns_weights(masked, EgnsConfig(kind="egns"))
    assert not weights.requires_grad and weights.isfinite().all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(5))
    assert not weights.diagonal().any()
    nothing = egns_weights(torch.full((1, 3), -torch.inf), EgnsConfig(kind="egns"))
    assert not nothing.any()


def test_harder_bands_may_not_weigh_less() -> None:
    with pytest.raises(ValueError, match="harder negatives weigh more"):
        parse_objective("mocme", {"hard_weight": 0.5})


@pytest.mark.parametrize("weighting", ["egns", "self_adversarial", "uniform"])
def test_every_weighting_learns_the_graph(tmp_path: Path, weighting: str) -> None:
    changes = {"objective.weighting": weighting, "training.learning_rate": 2e-2}
    progress = trainer_of(tmp_path, changes, max_epochs=30, patience=30).train()
    assert progress.best_mrr > 0.4  # 41 entities: chance is at 0.1.


def test_weights_of_negatives_are_as_configured(tmp_path: Path) -> None:
    scores = torch.tensor([[0.0, 2.0, -torch.inf]])
    found = {}
    for weighting in ("egns", "self_adversarial", "uniform"):
        folder = tmp_path / weighting
        folder.mkdir()
        found[weighting] = parts(trainer_of(folder, {"objective.weighting": weighting}))[1].weights(scores)
    assert torch.equal(
        found["self_adversarial"], self_adversarial_weights(scores, EgnsConfig(kind="egns").beta)
    )
    assert found["uniform"].tolist() == [[0.5, 0.5, 0.0]]
    assert torch.equal(found["egns"], egns_weights(scores, EgnsConfig(kind="egns")))


def test_all_weigh_the_same_until_the_first_estimate(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    model, objective = parts(trainer)
    batches = trainer.batches.epoch(1, 0)
    trainer._step(next(batches))
    assert not model.view_complementarity.any()
    trainer._step(next(batches))
    assert int(objective.num_steps) == 2
    assert model.view_complementarity[model.present].any()
    spread = model.view_weights(torch.arange(len(model.present)))[model.present].std(dim=0)
    assert (spread > 0).all(), "entities differ in what they weigh"


def test_parts_that_are_off_weigh_the_same(tmp_path: Path) -> None:
    for name in ("intra_fusion", "inter_fusion"):
        folder = tmp_path / name
        folder.mkdir()
        trainer = trainer_of(folder, {f"network.{name}": False}, max_epochs=1)
        trainer.train()
        model, _ = parts(trainer)
        candidates = model.candidates()
        same_views = all(
            torch.allclose(gates, torch.full_like(gates, 1 / 3)) for gates in candidates.expert_gates.values()
        )
        weights = candidates.modality_weights
        equal = model.present / model.present.sum(dim=1, keepdim=True)
        assert same_views == (name == "intra_fusion")
        assert torch.allclose(weights, equal) == (name == "inter_fusion")


def test_in_bfloat16_it_learns_much_the_same(tmp_path: Path) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        (tmp_path / precision).mkdir()
        trainer = trainer_of(tmp_path / precision, precision=precision)
        trainer.train()
        losses.append(events(tmp_path / precision / "run", "epoch")[-1]["loss"])
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("num_experts", [1, 2])
def test_few_views_and_a_single_modality_train_too(tmp_path: Path, num_experts: int) -> None:
    changes = {"use": ["structure"], "modalities": {"structure": {"width": 8}}}
    trainer = trainer_of(tmp_path, changes | {"network.num_experts": num_experts}, max_epochs=1)
    assert trainer.train().best_mrr > 0
    model, _ = parts(trainer)
    assert bool(model.view_complementarity.any()) == (num_experts > 1)


def test_what_is_exported_answers_alone_as_in_company_and_never_changes(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, max_epochs=2)
    trainer.train()
    dataset = Dataset.open(tmp_path / "dataset")
    export_run(trainer.run, tmp_path / "bundle", dataset=dataset, device=CPU)
    bundle = Bundle.open(tmp_path / "bundle", CPU)
    assert not any("sampler" in name or "num_steps" in name for name in bundle.model.state_dict())
    scorer = Scorer(bundle.model, bundle.candidates, bundle.known)
    queries = [Query(entity, relation, 5) for entity in range(0, 41, 3) for relation in range(4)]
    together = scorer.answer(queries)
    for query, expected in zip(queries, together, strict=True):
        (alone,) = scorer.answer([query])
        assert alone.modality_weights.tolist() == expected.modality_weights.tolist()
        for name, gates in expected.expert_gates.items():
            given = alone.expert_gates[name]
            assert (gates is None) == (given is None)
            assert gates is None or given is None or gates.tolist() == given.tolist()
    model, _ = Run.open(tmp_path / "run").best_model()
    assert isinstance(model, MoCME) and isinstance(bundle.model, MoCME)
    assert torch.equal(bundle.model.view_complementarity, model.view_complementarity)
    lone = bundle.candidates.expert_gates["text"][40]
    assert lone.isfinite().all() and float(lone.std()) > 0, "an entity never seen in train has weights too"


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    for name in ("straight", "broken"):
        (tmp_path / name).mkdir()
    trainer_of(tmp_path / "straight").train()
    trainer_of(tmp_path / "broken").train(stop=after(5))
    resume_training(tmp_path / "broken" / "run", CPU).train()
    assert events(tmp_path / "broken" / "run", "resumed")
    one, other = (Run.open(tmp_path / name / "run").best_model()[0] for name in ("straight", "broken"))
    for name, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_inputs_of_any_size_start_alike(tmp_path: Path) -> None:
    """Numbers around a million and rows of length 1 reach the first layer with the same spread."""
    model, _ = parts(trainer_of(tmp_path))
    for place in range(len(model.inputs)):
        given = model.inputs[place].weight.detach() * model.input_scale[place]
        assert float(given[model.present[:, place]].square().mean()) == pytest.approx(1, rel=1e-4)


def test_views_one_by_one_are_those_that_are_mixed(tmp_path: Path) -> None:
    model, _ = parts(trainer_of(tmp_path))
    entity = torch.arange(9)
    weights = torch.rand(9, 3)
    for place in range(3):
        one_by_one = (model.views(place, entity) * weights[:, :, None]).sum(dim=1)
        torch.testing.assert_close(model.modality(place, entity, weights), one_by_one)


def config_of(**fields: Any) -> ModelConfig:
    shape = {"name": "structure", "input_width": 4, "width": 4, "learned": True}
    given = {"model": "mocme", "num_entities": 9, "num_relations": 2, "modalities": [shape]}
    return parse_config(given | fields)


@pytest.mark.parametrize("name", ["mocme-mkg-y", "mocme-world"])
def test_the_recipes_can_be_built(name: str) -> None:
    recipe = Recipe.load(REPOSITORY / "configs" / f"{name}.toml")
    assert isinstance(objective_of(recipe), EgnsConfig)
    assert isinstance(build_model(config_of(**recipe.network)), MoCME)


def test_another_decision_is_refused() -> None:
    with pytest.raises(ValueError, match="one branch"):
        config_of(decision="sum")
