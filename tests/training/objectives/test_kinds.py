"""Every objective with every model that can learn by it: the same bits every time, and refusals in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from momok.model.filter_index import FilterIndex
from momok.model.networks.base import LinkPredictor, ModalityShape, build_model, parse_config
from momok.training.fit.recipe import RecipeError
from momok.training.objectives.kinds import OBJECTIVES, parse_objective
from momok.training.objectives.losses import negative_sampling, self_adversarial_weights
from tests.training.builders import Learner, make_recipe, start

NUM_ENTITIES, NUM_RELATIONS, NUM_FACTS = 700, 3, 2000


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def model_of(name: str, decision: str | None = None) -> LinkPredictor:
    shapes = (
        ModalityShape(name="structure", input_width=64, width=64, learned=True),
        ModalityShape(name="text", input_width=64, width=64),
    )
    fields = {
        "model": name,
        "modalities": shapes,
        "num_entities": NUM_ENTITIES,
        "num_relations": NUM_RELATIONS,
    }
    own = {} if name == "momok" else {"dim": 128}
    return build_model(parse_config(fields | own | ({} if decision is None else {"decision": decision})))


def facts_of() -> np.ndarray:
    random = np.random.default_rng(0)
    limits = (NUM_ENTITIES, NUM_RELATIONS, NUM_ENTITIES)
    return np.unique(np.stack([random.integers(n, size=NUM_FACTS) for n in limits], axis=1), axis=0)


def known_of(facts: np.ndarray) -> FilterIndex:
    return FilterIndex.from_facts({"train": facts}, num_entities=NUM_ENTITIES, num_relations=NUM_RELATIONS)


def gradients(name: str, kind: str, facts: np.ndarray) -> dict[str, Tensor]:
    """Of one loss on a large batch, with everything built anew."""
    torch.manual_seed(0)
    learner = Learner(model_of(name), known_of(facts), kind=kind)
    batch = next(iter(learner.batches(known_of(facts), 512).epoch(0, 0)))
    learner.loss(batch).total.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad for name, p in learner.model.named_parameters() if p.grad is not None}


PAIRS = [
    ("momok", "one_to_n"),
    ("momok", "self_adversarial"),
    ("momok", "egns"),
    ("adamf", "self_adversarial"),
    ("adamf", "adversarial"),
    ("adamf", "egns"),
    ("mocme", "egns"),
    ("mocme", "self_adversarial"),
]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_gradients_are_the_same_every_time(name: str, kind: str) -> None:
    """Threads must not add in any order: a resumed run would end elsewhere."""
    facts = facts_of()
    first = gradients(name, kind, facts)
    assert first
    for _ in range(3):
        again = gradients(name, kind, facts)
        assert again.keys() == first.keys()
        for parameter, gradient in first.items():
            assert torch.equal(again[parameter], gradient), parameter


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("adamf", "one_to_n", "branch 'joint' scores by a distance; take .objective. kind = 'self_adv"),
        ("momok", "adversarial", "makes up modalities of adamf, and the model is momok; take"),
        ("mocme", "adversarial", "makes up modalities of adamf, and the model is mocme; take"),
    ],
)
def test_a_model_that_cannot_learn_by_it_is_refused(name: str, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Learner(model_of(name), known_of(facts_of()), kind=kind)


@pytest.mark.parametrize("name", ["adamf", "mocme"])
@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_a_recipe_is_refused_for_its_objective_and_not_for_the_decision_that_goes_with_it(
    name: str, loss: str, tmp_path: Path
) -> None:
    fields = {"model": name, "network.dim": 8, "objective": {"kind": "one_to_n", "loss": loss}}
    with pytest.raises(
        RecipeError, match=f"{name}: one_to_n learns inner products, .* take .objective. kind"
    ):
        start(tmp_path, make_recipe().changed(fields))


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="kind: 'triplet' is not known; known are one_to_n, self_adv"):
        parse_objective("momok", {"kind": "triplet"})


@pytest.mark.parametrize("decision", ["sum", "mean_sigmoid"])
def test_negatives_are_told_apart_by_the_fused_score(decision: str) -> None:
    """The loss of a model of several branches is that of a plain loop over fused scores."""
    torch.manual_seed(0)
    learner = Learner(model_of("momok", decision).eval(), known_of(facts_of()), kind="self_adversarial")
    batch = next(iter(learner.batches(known_of(facts_of()), 64).epoch(0, 0)))
    asked = learner.corrupt(batch)
    found, positive_B = learner.against_negatives(learner.model, asked)
    with torch.no_grad():
        scores_BN = learner.model.score(
            learner.model.encode(asked.entity, asked.relation).query, learner.model.entity_table()
        )
    total, starts = 0.0, np.cumsum([0, *asked.sizes])
    for row in range(len(asked.entity)):
        group = int(np.searchsorted(starts, row, side="right")) - 1
        drawn = asked.negative[group][~asked.is_true[row]]
        own = scores_BN[row, asked.answer[row]]
        assert positive_B[row].item() == pytest.approx(own.item(), abs=1e-4)
        others = scores_BN[row, drawn][None]
        weights = self_adversarial_weights(others, learner.config.beta)
        total += negative_sampling(own[None], others, weights).item()
    assert found.item() == pytest.approx(total / len(asked.entity), rel=1e-4)


def test_kinds_say_what_they_are() -> None:
    for kind, objective in OBJECTIVES.items():
        assert objective.__doc__ and objective.config_class.model_validate({"kind": kind}).kind == kind
