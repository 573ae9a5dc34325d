"""Objective: the interface between the trainer and a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.optim import Optimizer

from momok.model.filter_index import FilterIndex
from momok.model.networks.base import LinkPredictor
from momok.model.scores import Decision
from momok.training.objectives.batches import Batch, Batches


@dataclass(frozen=True, eq=False)
class Loss:
    """``total`` is minimised; ``parts`` are logged. Scalars."""

    total: Tensor
    parts: dict[str, Tensor]

    def read(self) -> tuple[float, dict[str, float]]:
        """Total and parts, all at once: each value read alone would make the host wait for the device."""
        total, *parts = torch.stack([self.total, *self.parts.values()]).tolist()
        return total, dict(zip(self.parts, parts, strict=True))


class ObjectiveConfig(BaseModel):
    """Fields of an objective; each kind adds its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str = Field(description="Name of the objective; by default the one that goes with the model.")

    def paired_decision(self) -> Decision | None:
        """The decision that goes with the loss, for recipes that name none; None for the model's own."""
        return None


class Objective(nn.Module, ABC):
    """A loss, with helpers such as estimators and generators and with their optimisers.

    Helpers are built to the shape of ``model``; the model itself is given at each call. ``known`` holds the
    train split alone. Raises ``ValueError`` for a model that cannot learn by it.
    """

    config_class: ClassVar[type[ObjectiveConfig]]

    @abstractmethod
    def __init__(self, model: Any, config: Any, known: FilterIndex) -> None:
        super().__init__()

    @abstractmethod
    def loss(self, model: LinkPredictor, batch: Batch) -> Loss:
        """The loss of one batch, with the graph to differentiate it."""

    @abstractmethod
    def batches(self, known: FilterIndex, batch_size: int) -> Batches:
        """The batches that ``loss`` takes. Raises ``ValueError`` for a train split that is too small."""

    def after_step(self, model: LinkPredictor) -> dict[str, float]:
        """Called after every optimiser step of the model: the helpers learn. Returns values to log."""
        return {}

    def optimizers(self) -> dict[str, Optimizer]:
        """The helpers' optimisers by name, to be saved with the run."""
        return {}
