"""Contrastive: facts against corrupted ones, for models whose one branch rotates."""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from momok.model.filter_index import FilterIndex
from momok.model.networks.rotate import RotatingPredictor
from momok.model.rotation import paired_distance, rotate
from momok.model.scores import Decision
from momok.training.objectives.base import Objective, ObjectiveConfig
from momok.training.objectives.batches import Batch, Batches, FactBatches
from momok.training.objectives.losses import self_adversarial
from momok.training.objectives.negatives import Corrupted, NegativeSampler


class ContrastiveConfig(ObjectiveConfig):
    """How many negatives, and how they weigh."""

    num_negatives: int = Field(128, ge=1, description="Negatives of each fact.")
    shared_by: int = Field(
        128,
        ge=1,
        description="Facts of a batch that share their negatives: 1 is the paper's and several times slower.",
    )
    beta: float = Field(
        2.0, ge=0, description="β, how much more a negative weighs that scores higher; 0: all weigh the same."
    )

    def paired_decision(self) -> Decision:
        return "single"


class Contrastive(Objective):
    """Either end of facts corrupted; an entity is fused once, however often a batch wants it."""

    config: ContrastiveConfig

    def __init__(self, model: RotatingPredictor, config: ContrastiveConfig, known: FilterIndex) -> None:
        super().__init__()
        self.model = (model,)  # In a tuple, so that the model's weights are not the objective's too.
        self.config = config
        self.sampler = NegativeSampler(known)

    def batches(self, known: FilterIndex, batch_size: int) -> Batches:
        return FactBatches(known, batch_size)

    @abstractmethod
    def fuse(self, entity_U: Tensor) -> Tensor:
        """Distinct entities as complex vectors float[U, 2d]."""

    def weights(self, negative_Bn: Tensor) -> Tensor | None:
        """How negatives weigh by their scores, float[B, n], detached; None: as in RotatE, by ``beta``."""
        return None

    def corrupt(self, batch: Batch) -> Corrupted:
        return self.sampler.corrupt(batch, self.config.num_negatives, self.config.shared_by)

    def against_negatives(self, asked: Corrupted) -> tuple[Tensor, Tensor]:
        """The loss against corrupted facts, a scalar, and the scores float[B] of the true ones."""
        (model,) = self.model
        (branch,) = model.branches
        wanted = torch.cat([asked.entity, asked.answer, asked.negative.flatten()])
        entity_U, place = torch.unique(wanted, return_inverse=True)
        fused_UX = self.fuse(entity_U)
        with torch.autocast(wanted.device.type, enabled=False):  # Distances are small differences.
            # Not by an index, whose slopes threads add up in any order, and more slowly.
            vectors = F.embedding(place, fused_UX.float())
            sizes = [len(asked.entity), len(asked.answer), asked.negative.numel()]
            entity_BX, answer_BX, negative_PX = torch.split(vectors, sizes)
            query_BX = rotate(entity_BX, model.phases(asked.relation))
            positive_B = branch.margin - paired_distance(query_BX, answer_BX)
            negative_GnX = negative_PX.view(*asked.negative.shape, -1)
            negative_Bn = branch.margin - asked.distances(query_BX, negative_GnX)
            negative_Bn = negative_Bn.masked_fill(asked.is_true, -torch.inf)
            weights_Bn = self.weights(negative_Bn)
            loss = self_adversarial(positive_B, negative_Bn, self.config.beta, weights_Bn=weights_Bn)
        return loss, positive_B
