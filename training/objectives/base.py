"""Objective: the interface between the trainer and what a model is trained to do, and the one for most."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from momok.model.errors import describe
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import LinkPredictor
from momok.model.scores import Decision
from momok.training.objectives.batches import Batch, Batches, QueryBatches
from momok.training.objectives.losses import LOSSES


@dataclass(frozen=True)
class Loss:
    """``total`` is minimised; ``parts`` are logged."""

    total: Tensor
    parts: dict[str, float]


class ObjectiveConfig(BaseModel):
    """Fields of an objective; each adds its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def paired_decision(self) -> Decision:
        """The decision that goes with what is trained; taken where a recipe names none."""
        return "sum"


class Objective(nn.Module, ABC):
    """Holds helpers such as estimators and generators, with optimisers of their own."""

    @abstractmethod
    def loss(self, batch: Batch) -> Loss:
        """The loss of one batch, with the graph to differentiate it."""

    def batches(self, known: FilterIndex, batch_size: int) -> Batches:
        """The batches that ``loss`` takes, of the train split: 1-to-N queries where nothing else is said.

        Raises ``ValueError`` for a train split that is too small.
        """
        return QueryBatches(known, batch_size)

    def after_step(self) -> dict[str, float]:
        """Called after every optimiser step of the model: the helpers' turn to learn. Returns what to log."""
        return {}

    def optimizers(self) -> dict[str, Optimizer]:
        """The helpers' optimisers by name, to be saved with the run."""
        return {}


class OneToNConfig(ObjectiveConfig):
    """Losses of branches that score by inner products."""

    loss: Literal["ce", "bce"] = Field(
        "ce",
        description="ce learns within hundreds of steps; bce, as released, needs tens of thousands.",
    )

    def paired_decision(self) -> Decision:
        return "sum" if self.loss == "ce" else "mean_sigmoid"


class OneToN(Objective):
    """A loss against all entities in every branch, summed: how models learn that bring no objective.

    Raises ``ValueError`` for a model with a branch that does not score by inner products.
    """

    config: OneToNConfig

    def __init__(self, model: LinkPredictor, config: OneToNConfig) -> None:
        super().__init__()
        for branch in model.branches:
            if branch.geometry != "dot":
                raise ValueError(f"branch {branch.name!r} scores by a distance: give the model an objective")
        self.model = (model,)  # In a tuple, so that the model's weights are not the objective's too.
        self.config = config

    def loss(self, batch: Batch) -> Loss:
        losses = self.branch_losses(batch)
        return Loss(torch.stack(list(losses.values())).sum(), values_of(losses))

    def branch_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of each branch, a scalar."""
        (model,) = self.model
        query, table = model.encode(batch.entity, batch.relation).query, model.entity_table()
        loss = LOSSES[self.config.loss]
        return {name: loss(query[name], table[name], batch.row, batch.answer) for name in query}


def values_of(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """All at once: each value read alone would make the host wait for the device."""
    values = torch.stack([value.detach() for value in losses.values()]).tolist()
    return dict(zip(losses, values, strict=True))


ObjectiveBuilder = Callable[[Any, Any, FilterIndex], Objective]
Way = tuple[type[ObjectiveConfig], ObjectiveBuilder]
"""Its options, and what makes an objective of model, options and train split."""

OBJECTIVES: dict[str, Way] = {}
"""Model name -> how it is trained, where ``ONE_TO_N`` is not how."""

ONE_TO_N: Way = (OneToNConfig, lambda model, config, known: OneToN(model, config))


def parse_objective(model_name: str, fields: dict[str, Any]) -> ObjectiveConfig:
    """The objective's configuration for a model. Raises ``ValueError`` naming every bad field."""
    try:
        return OBJECTIVES.get(model_name, ONE_TO_N)[0].model_validate(fields)
    except ValidationError as error:
        raise ValueError(describe(error)) from None


def build_objective(model: LinkPredictor, config: ObjectiveConfig, known: FilterIndex) -> Objective:
    """The objective of a model; ``known`` holds the train split alone. Raises ``ValueError`` where a model
    cannot be trained so."""
    return OBJECTIVES.get(model.config.model, ONE_TO_N)[1](model, config, known)
