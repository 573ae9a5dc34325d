"""Egns: negatives weighed by entropy, and MoCME's complementarity estimated (arXiv 2507.20620)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from momok.model.filter_index import FilterIndex
from momok.model.networks.base import LinkPredictor
from momok.model.networks.mocme import MoCME
from momok.training.objectives.base import Loss, ObjectiveConfig
from momok.training.objectives.batches import Batch
from momok.training.objectives.complementarity import Complementarity
from momok.training.objectives.losses import self_adversarial_weights
from momok.training.objectives.self_adversarial import SelfAdversarial, SelfAdversarialConfig

ESTIMATED_AT_ONCE = 16_384
"""Entities whose views are held together; from so many at the most, evenly spread, estimates are made."""
_LN2 = 0.6931471805599453
_LARGEST_SCORE = 30.0
"""Scores beyond are sure in float32, and infinite ones would make an entropy of 0 times infinity."""


class EgnsConfig(SelfAdversarialConfig):
    """Weights of negatives, and estimates of complementarity."""

    num_negatives: int = Field(256, ge=1, description="Negatives of each fact.")
    shared_by: int = Field(
        64, ge=1, description="Facts of a batch that share their negatives: 1 is several times slower."
    )
    weighting: Literal["egns", "self_adversarial", "uniform"] = Field(
        "egns",
        description="How negatives weigh: by entropy and band, by score as in RotatE, or all the same.",
    )
    beta: float = Field(2.0, ge=0, description="β of self_adversarial.")
    ambiguous_from: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Entropy over ln 2 from which a negative with p up to ½ is ambiguous and not easy.",
    )
    easy_weight: float = Field(0.05, ge=0, description="Of easy negatives: improbable, and surely so.")
    ambiguous_weight: float = Field(1.0, ge=0, description="Of ambiguous negatives.")
    hard_weight: float = Field(2.0, gt=0, description="Of hard negatives: those taken for true, p above ½.")
    refresh_every: int = Field(
        100, ge=1, description="Steps between two estimates of what views share; all weigh the same before."
    )
    components: int = Field(
        32, ge=1, description="Principal components of a view that its information is estimated on."
    )

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not self.easy_weight <= self.ambiguous_weight <= self.hard_weight:
            raise ValueError("harder negatives weigh more: easy_weight <= ambiguous_weight <= hard_weight")
        return self


def egns_weights(negative_Bn: Tensor, config: EgnsConfig) -> Tensor:
    """Weights of negatives by their scores, float[B, n], detached; rows sum to 1, negatives of -inf weigh 0.

    With p = σ(score) and u its entropy over ln 2, a negative is *hard* if p > ½, *ambiguous* if u reaches
    ``ambiguous_from``, else *easy*, and weighs its band's weight times ``1 + u``. Beyond ½ entropy falls
    again while a negative gets only harder, so there it is ``1 + (2 - u)``: weights never fall as p rises.
    """
    score_Bn = negative_Bn.detach().clamp(-_LARGEST_SCORE, _LARGEST_SCORE)
    p_Bn = score_Bn.sigmoid()
    uncertainty_Bn = (F.softplus(score_Bn) - score_Bn * p_Bn) / _LN2
    hard_Bn, ambiguous_Bn = p_Bn > 0.5, uncertainty_Bn >= config.ambiguous_from
    band_Bn = torch.where(ambiguous_Bn, config.ambiguous_weight, config.easy_weight)
    band_Bn = torch.where(hard_Bn, config.hard_weight, band_Bn)
    weight_Bn = band_Bn * (1 + torch.where(hard_Bn, 2 - uncertainty_Bn, uncertainty_Bn))
    weight_Bn = weight_Bn.masked_fill(negative_Bn.detach() == -torch.inf, 0.0)
    return weight_Bn / weight_Bn.sum(dim=1, keepdim=True).clamp_min(torch.finfo(weight_Bn.dtype).tiny)


class Egns(SelfAdversarial):
    """Facts against corrupted ones; every ``refresh_every`` steps complementarity is estimated anew."""

    config_class: ClassVar[type[ObjectiveConfig]] = EgnsConfig
    config: EgnsConfig
    num_steps: Tensor

    def __init__(self, model: LinkPredictor, config: EgnsConfig, known: FilterIndex) -> None:
        super().__init__(model, config, known)
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))

    def loss(self, model: LinkPredictor, batch: Batch) -> Loss:
        total, positive_B = self.against_negatives(model, self.corrupt(batch))
        return Loss(total, {"positive": -F.logsigmoid(positive_B.detach()).mean()})

    def weights(self, negative_Bn: Tensor) -> Tensor:
        """As configured."""
        if self.config.weighting == "egns":
            return egns_weights(negative_Bn, self.config)
        beta = 0.0 if self.config.weighting == "uniform" else self.config.beta
        return self_adversarial_weights(negative_Bn, beta)

    def after_step(self, model: LinkPredictor) -> dict[str, float]:
        self.num_steps += 1
        if isinstance(model, MoCME) and int(self.num_steps) % self.config.refresh_every == 0:
            self.refresh(model)
        return {}

    @torch.no_grad()
    def refresh(self, model: MoCME) -> None:
        """Estimate how complementary the views and the modalities of every entity are; the model keeps it."""
        if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
            return  # The trainer says so at the end of the epoch.
        for place in range(len(model.banks)):
            self._refresh_views(model, place)
        if len(model.banks) > 1:
            self._refresh_modalities(model)

    def _refresh_views(self, model: MoCME, place: int) -> None:
        having = model.present[:, place].nonzero().squeeze(1)

        def views(entity_n: Tensor) -> tuple[list[Tensor], Tensor]:
            views_nKX = model.views(place, entity_n)
            present_nK = torch.ones(views_nKX.shape[:2], dtype=torch.bool, device=entity_n.device)
            return list(views_nKX.unbind(dim=1)), present_nK

        self._estimate(having, views, model.view_complementarity[:, place])

    def _refresh_modalities(self, model: MoCME) -> None:
        entity_N = torch.arange(len(model.present), device=model.present.device)

        def modalities(entity_n: Tensor) -> tuple[list[Tensor], Tensor]:
            weights_nMK = model.view_weights(entity_n)
            fused = [
                model.modality(place, entity_n, weights_nMK[:, place]) for place in range(len(model.banks))
            ]
            return fused, model.present[entity_n]

        self._estimate(entity_N, modalities, model.modality_complementarity)

    def _estimate(
        self, entity_N: Tensor, views: Callable[[Tensor], tuple[list[Tensor], Tensor]], kept_NV: Tensor
    ) -> None:
        """Estimated on some of the entities, evenly spread, and kept for all in ``kept_NV`` float[N, V]."""
        step = max(-(-len(entity_N) // ESTIMATED_AT_ONCE), 1)
        estimate = Complementarity(*views(entity_N[::step]), self.config.components)
        for entity_n in torch.split(entity_N, ESTIMATED_AT_ONCE):
            kept_NV[entity_n] = estimate(*views(entity_n))
