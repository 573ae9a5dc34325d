"""RotatingPredictor: the common part of models with one branch that rotates (RotatE)."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from momok.model.networks.base import LinkPredictor, ModelConfig
from momok.model.rotation import rotate, signed_phase
from momok.model.scores import Decision, RotateBranch

EPSILON = 2.0
"""Added to the margin in the range of initial embeddings (RotatE's released code)."""


class RotatingConfig(ModelConfig):
    """The configuration of a model with one branch."""

    decision: Decision = Field("single", description="There is one branch, so nothing to fuse.")

    @field_validator("decision")
    @classmethod
    def _single(cls, decision: Decision) -> Decision:
        if decision != "single":
            raise ValueError(f"there is one branch, so the decision is 'single', not {decision!r}")
        return decision


class RotatingPredictor(LinkPredictor):
    """Relations are R phases; an inverse relation is the negated one."""

    branches: tuple[RotateBranch]
    relations: nn.Embedding

    @abstractmethod
    def fused(self, entity_U: Tensor) -> Tensor:
        """Distinct entities as complex vectors, float[U, 2d]."""

    def query_and_candidates(
        self, entity_B: Tensor, relation_B: Tensor, candidate_P: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """As of any model; an entity is fused once, however often a batch wants it."""
        entity_U, place = torch.unique(torch.cat([entity_B, candidate_P]), return_inverse=True)
        vectors = F.embedding(place, self.fused(entity_U).float())
        entity_BX, candidate_PX = torch.split(vectors, [len(entity_B), len(candidate_P)])
        (branch,) = self.branches
        return {branch.name: rotate(entity_BX, self.phases(relation_B))}, {branch.name: candidate_PX}

    def add_relations(self, dim: int, margin: float) -> None:
        """Phases of ``dim`` coordinates, and ``_range``, the largest number that an embedding starts with."""
        self._range = (margin + EPSILON) / dim
        self.relations = nn.Embedding(self.config.num_relations, dim)
        nn.init.uniform_(self.relations.weight, -self._range, self._range)

    def phases(self, relation_B: Tensor) -> Tensor:
        """Radians float[B, d] of relations in [0, 2R)."""
        return signed_phase(self.relations.weight, relation_B) * (math.pi / self._range)
