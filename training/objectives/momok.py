"""How MoMoK is trained: a 1-to-N loss in every branch, and experts kept apart by mutual information."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Adam, Optimizer

from momok.model.networks.layers import Modules
from momok.model.networks.momok import MoMoK
from momok.training.objectives.base import OBJECTIVES, Loss, OneToN, OneToNConfig, values_of
from momok.training.objectives.batches import Batch
from momok.training.objectives.club import ClubEstimator, Likelihood


class MoMoKObjectiveConfig(OneToNConfig):
    """Losses of MoMoK."""

    club_weight: float = Field(
        1e-4, ge=0, description="λ, weight of the experts' mutual information; 0: none."
    )
    club_likelihood: Likelihood = Field("complete", description="What the estimators fit.")
    club_learning_rate: float = Field(1e-3, gt=0, description="Adam's step for the estimators.")


class MoMoKObjective(OneToN):
    """Per-branch losses against all entities, summed, plus λ times the CLUB bound (MoMoK section 3.4, ExID).

    Each step draws one pair of experts a modality and bounds their mutual information over the batch; the
    bounds are averaged over modalities. A single expert has no pair and no such term.
    """

    model: tuple[MoMoK]
    config: MoMoKObjectiveConfig

    def __init__(self, model: MoMoK, config: MoMoKObjectiveConfig) -> None:
        super().__init__(model, config)
        self.estimators: Modules[ClubEstimator] = Modules()
        if config.club_weight > 0 and model.config.num_experts > 1:
            self.estimators.extend(ClubEstimator(shape.width) for shape in model.config.modalities)
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._optimizer = (
            Adam(self.estimators.parameters(), lr=config.club_learning_rate) if self.estimators else None
        )

    def loss(self, batch: Batch) -> Loss:
        losses = self.branch_losses(batch)
        total = torch.stack(list(losses.values())).sum()
        if self.estimators:
            # In full precision: a bound is a small difference of large sums.
            with torch.autocast(batch.entity.device.type, enabled=False):
                losses["club"] = self._club_bound(batch.entity)
            total = total + self.config.club_weight * losses["club"]
        return Loss(total, values_of(losses))

    def after_step(self) -> dict[str, float]:
        if self._optimizer is None:
            return {}
        self._optimizer.zero_grad()
        for estimator, (x_BD, y_BD) in zip(self.estimators, self._pairs, strict=True):
            if len(x_BD):
                nll = estimator.negative_log_likelihood(x_BD, y_BD, self.config.club_likelihood)
                nll.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return {}

    def optimizers(self) -> dict[str, Optimizer]:
        return {"club": self._optimizer} if self._optimizer is not None else {}

    def _club_bound(self, entity_B: Tensor) -> Tensor:
        (model,) = self.model
        bounds, self._pairs = [], []
        experts = [torch.randperm(model.config.num_experts)[:2].tolist() for _ in self.estimators]
        views = model.expert_views(entity_B, experts)
        for estimator, views_B2D, present_B in zip(
            self.estimators, views, model.present[entity_B].T, strict=True
        ):
            # Rows without the modality all hold one mean embedding: they would say nothing about the experts.
            x_BD, y_BD = views_B2D[present_B].unbind(dim=1)
            self._pairs.append((x_BD.detach(), y_BD.detach()))
            if len(x_BD):
                shuffle_B = torch.randperm(len(x_BD)).to(x_BD.device)
                bounds.append(estimator.bound(x_BD, y_BD, shuffle_B))
        return torch.stack(bounds).mean()


OBJECTIVES["momok"] = (MoMoKObjectiveConfig, lambda model, config, known: MoMoKObjective(model, config))
