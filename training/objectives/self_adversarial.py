"""SelfAdversarial: facts against corrupted facts, where negatives with higher scores weigh more (RotatE)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from momok.model.filter_index import FilterIndex
from momok.model.networks.base import LinkPredictor
from momok.model.scores import FUSIONS
from momok.training.objectives.base import Loss, Objective, ObjectiveConfig
from momok.training.objectives.batches import Batch, Batches, FactBatches
from momok.training.objectives.losses import negative_sampling, self_adversarial_weights
from momok.training.objectives.negatives import Corrupted, NegativeSampler


class SelfAdversarialConfig(ObjectiveConfig):
    """The number of negatives, and their weights."""

    num_negatives: int = Field(128, ge=1, description="Negatives of each fact.")
    shared_by: int = Field(
        128,
        ge=1,
        description="Facts of a batch that share their negatives: 1 is the paper's and several times slower.",
    )
    beta: float = Field(
        2.0, ge=0, description="β: negatives with higher scores weigh more; 0: all weigh the same."
    )


class SelfAdversarial(Objective):
    """Either end of facts corrupted, scored by the fused score (arXiv 1902.10197, equation 5)."""

    config_class: ClassVar[type[ObjectiveConfig]] = SelfAdversarialConfig
    config: SelfAdversarialConfig

    def __init__(self, model: LinkPredictor, config: SelfAdversarialConfig, known: FilterIndex) -> None:
        super().__init__(model, config, known)
        self.config = config
        self.sampler = NegativeSampler(known)

    def batches(self, known: FilterIndex, batch_size: int) -> Batches:
        return FactBatches(known, batch_size)

    def loss(self, model: LinkPredictor, batch: Batch) -> Loss:
        with torch.autocast(batch.entity.device.type, enabled=False):  # Distances are small differences.
            negatives, _ = self.against_negatives(model, self.corrupt(batch))
        return Loss(negatives, {"negatives": negatives})

    def weights(self, negative_Bn: Tensor) -> Tensor:
        """Weights of negatives by their scores, float[B, n], detached."""
        return self_adversarial_weights(negative_Bn, self.config.beta)

    def corrupt(self, batch: Batch) -> Corrupted:
        """The facts of a batch with one end replaced."""
        return self.sampler.corrupt(batch, self.config.num_negatives, self.config.shared_by)

    def against_negatives(self, model: LinkPredictor, asked: Corrupted) -> tuple[Tensor, Tensor]:
        """The loss against corrupted facts, a scalar, and the scores float[B] of the true ones."""
        wanted = torch.cat([asked.answer, asked.negative.flatten()])
        query, vectors = model.query_and_candidates(asked.entity, asked.relation, wanted)
        fusion, num_answers = FUSIONS[model.decision], len(asked.answer)
        with torch.autocast(wanted.device.type, enabled=False):
            positive_B = fusion.combine(
                branch.paired_scores(query[branch.name], vectors[branch.name][:num_answers])
                for branch in model.branches
            )
            negative_Bn = fusion.combine(
                asked.scores(branch, query[branch.name], vectors[branch.name][num_answers:])
                for branch in model.branches
            )
            negative_Bn = negative_Bn.masked_fill(asked.is_true, -torch.inf)
            loss = negative_sampling(positive_B, negative_Bn, self.weights(negative_Bn))
        return loss, positive_B
