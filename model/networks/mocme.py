"""MoCME: complementary views inside and across modalities, scored by RotatE (arXiv 2507.20620).

Only the paper's prose was readable; docs/models.md names every choice that it leaves open.

Axes: B queries, N entities, M modalities, K views, F features, H hidden width, X width of the joint branch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from momok.model.networks.base import JOINT, Candidates, Encoding, register
from momok.model.networks.layers import Modules, equal_weights
from momok.model.networks.modality import ModalityInput
from momok.model.networks.rotate import RotatingConfig, RotatingPredictor
from momok.model.rotation import rotate
from momok.model.scores import RotateBranch


class MoCMEConfig(RotatingConfig):
    """Shape of a MoCME network."""

    model: str = "mocme"
    num_experts: int = Field(3, ge=1, description="K, the views of each modality.")
    dim: int = Field(128, ge=1, description="d, complex coordinates of an entity: vectors are 2d wide.")
    hidden_width: int = Field(128, ge=1, description="Width of a view's hidden layer.")
    margin: float = Field(
        9.0, gt=0, description="γ: a score is γ minus a distance, and γ sets the scale of all distances."
    )
    intra_fusion: bool = Field(
        True, description="Views weigh by how little they share; off, all views of a modality weigh the same."
    )
    inter_fusion: bool = Field(
        True,
        description="Modalities weigh by how little they share; off, all present modalities weigh the same.",
    )
    temperature: float = Field(
        0.2, gt=0, description="τ of both fusions, in nats a component: smaller ones choose more sharply."
    )


class ViewBank(nn.Module):
    """K views of a modality: two-layer nets into the space in which relations rotate."""

    def __init__(self, input_width: int, hidden_width: int, width: int, num_experts: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(input_width, num_experts * hidden_width)
        self.weight = nn.Parameter(torch.empty(num_experts, hidden_width, width))
        self.bias = nn.Parameter(torch.zeros(num_experts, width))
        nn.init.normal_(self.weight, std=hidden_width**-0.5)

    def forward(self, input_BF: Tensor, weights_BK: Tensor) -> Tensor:
        """``Σ_k w_k v_k`` float[B, X]: one product with the stacked views, instead of K that are summed."""
        weighted_BKH = self._hidden(input_BF) * weights_BK[:, :, None]
        return torch.addmm(weights_BK @ self.bias, weighted_BKH.flatten(1), self.weight.flatten(0, 1))

    def views(self, input_BF: Tensor) -> Tensor:
        """The views one by one, float[B, K, X]."""
        return torch.einsum("bkh,khx->bkx", self._hidden(input_BF), self.weight) + self.bias

    def _hidden(self, input_BF: Tensor) -> Tensor:
        return F.leaky_relu(self.hidden(input_BF)).view(len(input_BF), len(self.weight), -1)


@register("mocme", MoCMEConfig)
class MoCME(RotatingPredictor):
    """Views weighed into modalities, modalities weighed into one complex vector, which relations rotate.

    Each entity stores how complementary its views and modalities are (``view_complementarity``
    float32[N, M, K], ``modality_complementarity`` float32[N, M]; in nats a component, larger is more).
    Training estimates them; weights are ``softmax(c / τ)``, and depend on no other entity of a batch.
    """

    config: MoCMEConfig
    view_complementarity: Tensor
    modality_complementarity: Tensor
    input_scale: Tensor

    def __init__(self, config: MoCMEConfig) -> None:
        shapes, width = config.modalities, 2 * config.dim
        super().__init__(config, [RotateBranch(JOINT, width, config.margin)])
        self.inputs = Modules(nn.Embedding(config.num_entities, shape.input_width) for shape in shapes)
        self.banks: Modules[ViewBank] = Modules(
            ViewBank(shape.input_width, config.hidden_width, width, config.num_experts) for shape in shapes
        )
        self.add_relations(config.dim, config.margin)
        counts = (config.num_entities, len(shapes), config.num_experts)
        self.register_buffer("view_complementarity", torch.zeros(counts))
        self.register_buffer("modality_complementarity", torch.zeros(counts[:2]))
        self.register_buffer("input_scale", torch.ones(len(shapes)))

    def load_inputs(self, inputs: Sequence[ModalityInput]) -> None:
        super().load_inputs(inputs)
        for place, given in enumerate(inputs):
            # All modalities get one scale: one net cannot serve numbers around 1 and rows of length 1.
            square = given.table[given.present].square().mean().clamp_min(torch.finfo().tiny)
            self.input_scale[place] = square.rsqrt()

    def encode(self, entity_B: Tensor, relation_B: Tensor) -> Encoding:
        joint_BX, weights_BM, gates = self.fuse(entity_B)
        query_BX = rotate(joint_BX, self.phases(relation_B))
        return Encoding({JOINT: query_BX}, weights_BM, self.by_modality(gates.unbind(dim=1)), None)

    def candidates(self) -> Candidates:
        entity_N = torch.arange(self.config.num_entities, device=self.present.device)
        joint_NX, weights_NM, gates = self.fuse(entity_N)
        return Candidates({JOINT: joint_NX}, weights_NM, self.by_modality(gates.unbind(dim=1)))

    def fused(self, entity_U: Tensor) -> Tensor:
        return self.fuse(entity_U)[0]

    def fuse(self, entity_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Entities as complex vectors float[B, 2d], with modality weights float[B, M] and view weights
        float[B, M, K]."""
        view_weights_BMK = self.view_weights(entity_B)
        weights_BM = self.modality_weights(entity_B)
        joint_BX = torch.zeros((), device=entity_B.device)
        for place in range(len(self.banks)):
            fused_BX = self.modality(place, entity_B, view_weights_BMK[:, place])
            joint_BX = joint_BX + weights_BM[:, place : place + 1] * fused_BX
        return joint_BX, weights_BM, view_weights_BMK

    def modality(self, place: int, entity_B: Tensor, weights_BK: Tensor) -> Tensor:
        """One modality of entities, its views weighed, float[B, 2d]."""
        fused_BX: Tensor = self.banks[place](self._input(place, entity_B), weights_BK)
        return self._range / 2 * fused_BX

    def views(self, place: int, entity_B: Tensor) -> Tensor:
        """The views of one modality, float[B, K, 2d]."""
        return self._range / 2 * self.banks[place].views(self._input(place, entity_B))

    def view_weights(self, entity_B: Tensor) -> Tensor:
        """The weight of each view in its modality, float[B, M, K]."""
        given_BMK = self.view_complementarity[entity_B]
        return (given_BMK / self.config.temperature * self.config.intra_fusion).softmax(dim=2)

    def modality_weights(self, entity_B: Tensor) -> Tensor:
        """The weight of each modality, float[B, M]; 0 where it is absent."""
        present_BM = self.present[entity_B]
        if not self.config.inter_fusion:
            return equal_weights(present_BM)
        logits_BM = self.modality_complementarity[entity_B] / self.config.temperature
        return logits_BM.masked_fill(~present_BM, -torch.inf).softmax(dim=1)

    def _input(self, place: int, entity_B: Tensor) -> Tensor:
        given_BF: Tensor = self.inputs[place](entity_B)
        return given_BF * self.input_scale[place]
