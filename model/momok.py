"""MoMoK: mixture of modality knowledge experts (arXiv 2405.16869), for any number of modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from pydantic import Field
from torch import Tensor, nn

from model.layers import AttentionFusion, ExpertBank, Modules, RelationGroups, TuckerScorer
from model.modality import ModalityInput
from model.predictor import JOINT, Branch, Candidates, Encoding, LinkPredictor, ModelConfig, register


class MoMoKConfig(ModelConfig):
    """Shape of a MoMoK network; the defaults are the paper's."""

    model: str = "momok"
    num_experts: int = Field(3, ge=1, description="K, the views of each modality.")
    relation_width: int = Field(
        256, ge=1, description="Width of the relation tables; core size grows with it."
    )
    joint_width: int = Field(256, ge=2, description="Width of the joint branch and of its relation vectors.")
    num_attentions: int = Field(2, ge=1, description="Attentions over the modalities, summed.")
    gate_noise: bool = Field(True, description="Learned noise on the gates while training.")
    fusion_dropout: float = Field(0.2, ge=0, lt=1)
    input_dropout: float = Field(0.3, ge=0, lt=1, description="On the normalised query embedding.")
    matrix_dropout: float = Field(0.4, ge=0, lt=1, description="On the core contracted with a relation.")
    output_dropout: float = Field(0.5, ge=0, lt=1, description="On the query vector.")

    def for_inference(self) -> Self:
        return self.model_copy(update={"gate_noise": False})


@register("momok", MoMoKConfig)
class MoMoK(LinkPredictor):
    """Experts in each modality, a Tucker scorer in each branch, and a joint branch over all modalities."""

    config: MoMoKConfig

    def __init__(self, config: MoMoKConfig) -> None:
        shapes = config.modalities
        branches = [Branch(shape.name, shape.width) for shape in shapes]
        super().__init__(config, [*branches, Branch(JOINT, config.joint_width)])
        # Lists, not ModuleDicts: a modality may have any name, and ModuleDict refuses names such as "type".
        self.inputs: Modules[nn.Embedding] = Modules(
            nn.Embedding(config.num_entities, shape.input_width) for shape in shapes
        )
        self.reducers: Modules[nn.Module] = Modules(
            nn.Identity()
            if shape.width == shape.input_width
            else nn.Linear(shape.input_width, shape.width, bias=False)
            for shape in shapes
        )
        self.experts: Modules[ExpertBank] = Modules(
            ExpertBank(shape.width, config.num_experts, noise=config.gate_noise) for shape in shapes
        )
        self.relations: Modules[nn.Embedding] = Modules(
            nn.Embedding(2 * config.num_relations, config.relation_width) for _ in shapes
        )
        self.temperature = nn.Embedding(2 * config.num_relations, 1)
        relation_widths = [config.relation_width] * len(shapes) + [config.joint_width]
        self.scorers: Modules[TuckerScorer] = Modules(
            TuckerScorer(
                branch.width,
                relation_width,
                input_dropout=config.input_dropout,
                matrix_dropout=config.matrix_dropout,
                output_dropout=config.output_dropout,
            )
            for branch, relation_width in zip(self.branches, relation_widths, strict=True)
        )
        self.entity_fusion = self._fusion([shape.width for shape in shapes])
        self.relation_fusion = self._fusion([config.relation_width for _ in shapes])
        for table in self.relations:
            nn.init.xavier_normal_(table.weight)

    def load_inputs(self, inputs: Sequence[ModalityInput]) -> None:
        with torch.no_grad():
            for embedding, given in zip(self.inputs, inputs, strict=True):
                embedding.weight.copy_(given.table)
            self.present.copy_(torch.stack([given.present for given in inputs], dim=1))

    def encode(self, entity_B: Tensor, relation_B: Tensor) -> Encoding:
        groups = RelationGroups(relation_B)
        temperature_B = self.temperature(relation_B).squeeze(1).sigmoid()
        mixed, gates = self._mix([table(entity_B) for table in self.inputs], temperature_B)
        fused_BD, weights_JBM = self.entity_fusion(mixed, self.present[entity_B])
        relations = [table(groups.unique) for table in self.relations]
        fused_relation_UD, _ = self.relation_fusion(relations)
        query = {
            branch.name: scorer(mixed_BD, relation_UR, groups)
            for branch, scorer, mixed_BD, relation_UR in zip(
                self.branches, self.scorers, [*mixed, fused_BD], [*relations, fused_relation_UD], strict=True
            )
        }
        return Encoding(query, weights_JBM.mean(dim=0), self._by_modality(gates), temperature_B)

    def candidates(self) -> Candidates:
        mixed, gates = self._mix([table.weight for table in self.inputs], None)
        fused_ND, weights_JNM = self.entity_fusion(mixed, self.present)
        vectors = {branch.name: rows for branch, rows in zip(self.branches, [*mixed, fused_ND], strict=True)}
        return Candidates(vectors, weights_JNM.mean(dim=0), self._by_modality(gates))

    def expert_views(self, entity_B: Tensor, experts: Sequence[Sequence[int]]) -> list[Tensor]:
        """What the experts chosen in each modality say before mixing, float32[B, chosen, D] each."""
        return [
            bank.views(reducer(table(entity_B)), chosen)
            for table, reducer, bank, chosen in zip(
                self.inputs, self.reducers, self.experts, experts, strict=True
            )
        ]

    def _mix(
        self, inputs: Sequence[Tensor], temperature_B: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        pairs = [
            bank(reducer(given), temperature_B)
            for given, reducer, bank in zip(inputs, self.reducers, self.experts, strict=True)
        ]
        return [mixed for mixed, _ in pairs], [gates for _, gates in pairs]

    def _by_modality(self, values: Sequence[Tensor]) -> dict[str, Tensor]:
        return dict(zip(self.modality_names, values, strict=True))

    def _fusion(self, widths: Sequence[int]) -> AttentionFusion:
        return AttentionFusion(
            widths,
            self.config.joint_width,
            num_attentions=self.config.num_attentions,
            dropout=self.config.fusion_dropout,
        )
