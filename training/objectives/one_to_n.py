"""OneToN: each query against all entities in every branch, and experts kept apart by mutual information."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Adam, Optimizer

from momok.model.filter_index import FilterIndex
from momok.model.networks.base import LinkPredictor
from momok.model.networks.layers import Modules
from momok.model.scores import Decision
from momok.training.objectives.base import Loss, Objective, ObjectiveConfig
from momok.training.objectives.batches import Batch, Batches, QueryBatches
from momok.training.objectives.club import ClubEstimator, Likelihood
from momok.training.objectives.losses import LOSSES


class OneToNConfig(ObjectiveConfig):
    """Losses of branches that score by inner products, and of experts."""

    loss: Literal["ce", "bce"] = Field(
        "ce",
        description="ce learns within hundreds of steps; bce, as released, needs tens of thousands.",
    )
    club_weight: float = Field(
        1e-4, ge=0, description="λ, weight of the experts' mutual information; 0: none."
    )
    club_likelihood: Likelihood = Field("complete", description="The likelihood that the estimators fit.")
    club_learning_rate: float = Field(1e-3, gt=0, description="Adam's step for the estimators.")

    def paired_decision(self) -> Decision:
        return "sum" if self.loss == "ce" else "mean_sigmoid"


class OneToN(Objective):
    """The losses of the branches, summed, plus λ times the CLUB bound (MoMoK section 3.4, ExID).

    Each step draws one pair of experts a modality and bounds their mutual information over the batch; the
    bounds are averaged over modalities. A model without a pair of experts has no such term.
    """

    config_class: ClassVar[type[ObjectiveConfig]] = OneToNConfig

    def __init__(self, model: LinkPredictor, config: OneToNConfig, known: FilterIndex) -> None:
        super().__init__(model, config, known)
        for branch in model.branches:
            if branch.geometry != "dot":
                raise ValueError(
                    f"one_to_n learns inner products, and branch {branch.name!r} scores by a distance; "
                    "take [objective] kind = 'self_adversarial'"
                )
        if not model.num_experts and (given := sorted(config.model_fields_set - {"kind", "loss"})):
            raise ValueError(
                f"objective: {', '.join(given)} is of experts, and the model has none; leave it out"
            )
        self.config = config
        self.estimators: Modules[ClubEstimator] = Modules()
        if config.club_weight > 0 and model.num_experts > 1:
            self.estimators.extend(ClubEstimator(shape.width) for shape in model.config.modalities)
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._optimizer = (
            Adam(self.estimators.parameters(), lr=config.club_learning_rate) if self.estimators else None
        )

    def batches(self, known: FilterIndex, batch_size: int) -> Batches:
        return QueryBatches(known, batch_size)

    def loss(self, model: LinkPredictor, batch: Batch) -> Loss:
        query, table = model.encode(batch.entity, batch.relation).query, model.entity_table()
        loss = LOSSES[self.config.loss]
        losses = {name: loss(query[name], table[name], batch.row, batch.answer) for name in query}
        total = torch.stack(list(losses.values())).sum()
        if self.estimators:
            # In full precision: a bound is a small difference of large sums.
            with torch.autocast(batch.entity.device.type, enabled=False):
                losses["club"] = self._club_bound(model, batch.entity)
            total = total + self.config.club_weight * losses["club"]
        return Loss(total, losses)

    def after_step(self, model: LinkPredictor) -> dict[str, float]:
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

    def _club_bound(self, model: LinkPredictor, entity_B: Tensor) -> Tensor:
        bounds, self._pairs = [], []
        experts = [torch.randperm(model.num_experts)[:2].tolist() for _ in self.estimators]
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
