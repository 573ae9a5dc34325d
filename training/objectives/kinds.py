"""The objectives by kind, as ``[objective] kind`` of a recipe names them."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from momok.model.errors import describe
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import LinkPredictor
from momok.training.objectives.adversarial import Adversarial
from momok.training.objectives.base import Objective, ObjectiveConfig
from momok.training.objectives.egns import Egns
from momok.training.objectives.one_to_n import OneToN
from momok.training.objectives.self_adversarial import SelfAdversarial

OBJECTIVES: dict[str, type[Objective]] = {
    "one_to_n": OneToN,
    "self_adversarial": SelfAdversarial,
    "adversarial": Adversarial,
    "egns": Egns,
}

DEFAULTS = {"adamf": "self_adversarial", "mocme": "egns"}
"""Model -> the kind of a recipe that names none; ``one_to_n`` for other models."""


def parse_objective(model_name: str, fields: dict[str, Any]) -> ObjectiveConfig:
    """The configuration of a model's objective. Raises ``ValueError`` naming every bad field."""
    kind = fields.get("kind", DEFAULTS.get(model_name, "one_to_n"))
    if kind not in OBJECTIVES:
        raise ValueError(f"kind: {kind!r} is not known; known are {', '.join(OBJECTIVES)}")
    try:
        return OBJECTIVES[kind].config_class.model_validate({"kind": kind} | fields)
    except ValidationError as error:
        raise ValueError(describe(error)) from None


def build_objective(model: LinkPredictor, config: ObjectiveConfig, known: FilterIndex) -> Objective:
    """The objective of a model; ``known`` holds the train split alone. Raises ``ValueError`` for a model that
    cannot learn by it."""
    return OBJECTIVES[config.kind](model, config, known)
