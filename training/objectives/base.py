"""Objective: the interface between the trainer and what a model is trained to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from model.decision import Decision
from model.known import KnownAnswers
from model.predictor import LinkPredictor, describe
from training.batches import Batch, Batches, QueryBatches


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

    def batches(self, known: KnownAnswers, batch_size: int) -> Batches:
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


ObjectiveBuilder = Callable[[Any, Any, KnownAnswers], Objective]
OBJECTIVES: dict[str, tuple[type[ObjectiveConfig], ObjectiveBuilder]] = {}
"""Model name -> how it is trained: its options, and what makes an objective of model, options and facts."""


def parse_objective(model_name: str, fields: dict[str, Any]) -> ObjectiveConfig:
    """The objective's configuration for a model. Raises ``ValueError`` naming every bad field."""
    try:
        return OBJECTIVES[model_name][0].model_validate(fields)
    except ValidationError as error:
        raise ValueError(describe(error)) from None


def build_objective(model: LinkPredictor, config: ObjectiveConfig, known: KnownAnswers) -> Objective:
    """The objective of a model; ``known`` holds the train split alone. Raises ``ValueError`` where a model
    cannot be trained so."""
    return OBJECTIVES[model.config.model][1](model, config, known)
