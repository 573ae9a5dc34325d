"""AdaMF: adaptive fusion of any number of modalities, scored by RotatE (arXiv 2402.15444).

AdaMF-MAT is the same model, trained by the objective ``adversarial``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from momok.model.networks.base import JOINT, Candidates, Encoding, register
from momok.model.networks.layers import Modules
from momok.model.networks.modality import ModalityInput
from momok.model.networks.rotate import RotatingConfig, RotatingPredictor
from momok.model.rotation import rotate
from momok.model.scores import RotateBranch


class AdaMFConfig(RotatingConfig):
    """Shape of an AdaMF network."""

    model: str = "adamf"
    dim: int = Field(
        200,
        ge=1,
        description="d, complex coordinates of an entity: vectors are 2d wide, and so is what is learned.",
    )
    margin: float = Field(
        12.0,
        gt=0,
        description="γ: scores are γ minus a distance. It sets the scale of everything; from 1 to 36.",
    )


@register("adamf", AdaMFConfig)
class AdaMF(RotatingPredictor):
    """All modalities of an entity fused into one complex vector, which relations rotate.

    A learned modality has a table of width 2d, whatever width the configuration gives it; the others are
    projected to 2d. Relations are R phases; an inverse relation is the negated one.
    """

    config: AdaMFConfig

    def __init__(self, config: AdaMFConfig) -> None:
        width = 2 * config.dim
        super().__init__(config, [RotateBranch(JOINT, width, config.margin)])
        self.inputs = Modules(
            nn.Embedding(config.num_entities, width if shape.learned else shape.input_width)
            for shape in config.modalities
        )
        self.projections: Modules[nn.Module] = Modules(
            nn.Identity() if shape.learned else nn.Linear(shape.input_width, width)
            for shape in config.modalities
        )
        self.attention = nn.Linear(width, 1, bias=False)
        self.add_relations(config.dim, config.margin)
        for table, shape in zip(self.inputs, config.modalities, strict=True):
            if shape.learned:
                nn.init.uniform_(table.weight, -self._range / 2, self._range / 2)

    @property
    def gated_modalities(self) -> tuple[str, ...]:
        return ()

    def load_inputs(self, inputs: Sequence[ModalityInput]) -> None:
        with torch.no_grad():
            for table, shape, given in zip(self.inputs, self.config.modalities, inputs, strict=True):
                if not shape.learned:  # A learned one starts in the range that rotations need.
                    table.weight.copy_(given.table)
            self.present.copy_(torch.stack([given.present for given in inputs], dim=1))

    def encode(self, entity_B: Tensor, relation_B: Tensor) -> Encoding:
        fused_BX, weights_BM = self.fuse(self.parts(entity_B), self.present[entity_B])
        return Encoding({JOINT: rotate(fused_BX, self.phases(relation_B))}, weights_BM, {}, None)

    def candidates(self) -> Candidates:
        parts = [project(table.weight) for table, project in zip(self.inputs, self.projections, strict=True)]
        fused_NX, weights_NM = self.fuse(parts, self.present)
        return Candidates({JOINT: fused_NX}, weights_NM, {})

    def fused(self, entity_U: Tensor) -> Tensor:
        return self.fuse(self.parts(entity_U), self.present[entity_U])[0]

    def parts(self, entity_B: Tensor) -> list[Tensor]:
        """The modalities of entities before fusion, float[B, 2d] each."""
        pairs = zip(self.inputs, self.projections, strict=True)
        return [project(table(entity_B)) for table, project in pairs]

    def fuse(self, parts: Sequence[Tensor], present_BM: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``Σ_m a_m e_m`` float[B, 2d] with ``a = softmax_m(w · tanh(e_m))``, and the weights a, float[B, M].

        Where ``present_BM`` (bool) is false the weight is 0; every row needs one present modality.
        """
        logits_BM = torch.cat([self.attention(part_BX.tanh()) for part_BX in parts], dim=1)
        if present_BM is not None:
            logits_BM = logits_BM.masked_fill(~present_BM, float("-inf"))
        weights_BM = logits_BM.softmax(dim=1)
        fused_BX = sum(
            (weights_BM[:, m : m + 1] * part_BX for m, part_BX in enumerate(parts)),
            start=parts[0].new_zeros(()),
        )
        return fused_BX, weights_BM
