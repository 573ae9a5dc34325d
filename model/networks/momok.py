"""MoMoK: mixture of modality knowledge experts (arXiv 2405.16869), for any number of modalities.

Axes: B queries, N entities, R relations, D width, M modalities, K experts, G branches of one width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from pydantic import Field
from torch import Tensor, nn

from momok.model.networks.base import (
    JOINT,
    CachedRelation,
    Candidates,
    Encoding,
    InferenceEncoder,
    LinkPredictor,
    ModelConfig,
    register,
)
from momok.model.networks.inference import (
    InferenceExperts,
    InferenceFusion,
    alike,
    tucker_of_relations,
)
from momok.model.networks.layers import (
    AttentionFusion,
    ExpertBank,
    Modules,
    RelationGroups,
    TuckerScorer,
    equal_weights,
)
from momok.model.scores import Branch


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
    relation_temperature: bool = Field(
        True, description="The query's relation sharpens its gates; off, they read the entity alone."
    )
    joint: bool = Field(
        True, description="The branch that fuses all modalities; off, the decision runs over the modalities."
    )
    fusion_dropout: float = Field(0.2, ge=0, lt=1)
    input_dropout: float = Field(0.3, ge=0, lt=1, description="On the normalised query embedding.")
    matrix_dropout: float = Field(0.4, ge=0, lt=1, description="On the core contracted with a relation.")
    output_dropout: float = Field(0.5, ge=0, lt=1, description="On the query vector.")

    def for_inference(self) -> Self:
        return self.model_copy(update={"gate_noise": False})


@register("momok", MoMoKConfig)
class MoMoK(LinkPredictor):
    """Experts in each modality, a Tucker scorer in each branch, and a joint branch over all modalities.

    Without the joint branch nothing is fused: then all present modalities of an entity weigh the same.
    """

    config: MoMoKConfig

    def __init__(self, config: MoMoKConfig) -> None:
        shapes = config.modalities
        branches = [Branch(shape.name, shape.width) for shape in shapes]
        joint = [Branch(JOINT, config.joint_width)] if config.joint else []
        super().__init__(config, [*branches, *joint])
        # Lists, not ModuleDicts: a modality may have any name, and ModuleDict refuses names such as "type".
        self.inputs = Modules(nn.Embedding(config.num_entities, shape.input_width) for shape in shapes)
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
        self.temperature = nn.Embedding(2 * config.num_relations, 1) if config.relation_temperature else None
        relation_widths = [config.relation_width] * len(shapes) + [branch.width for branch in joint]
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
        self.entity_fusion = self._fusion([shape.width for shape in shapes]) if joint else None
        self.relation_fusion = self._fusion([config.relation_width for _ in shapes]) if joint else None
        for table in self.relations:
            nn.init.xavier_normal_(table.weight)

    def encode(self, entity_B: Tensor, relation_B: Tensor) -> Encoding:
        groups = RelationGroups(relation_B)
        temperature_B = None
        if self.temperature is not None:
            temperature_B = self.temperature(relation_B).squeeze(1).sigmoid()
        mixed, gates = self._mix([table(entity_B) for table in self.inputs], temperature_B)
        inputs, weights_BM = self._fuse(mixed, self.present[entity_B])
        query = {
            branch.name: scorer(mixed_BD, relation_RW, groups)
            for branch, scorer, mixed_BD, relation_RW in zip(
                self.branches,
                self.scorers,
                inputs,
                self.relation_vectors(groups.unique),
                strict=True,
            )
        }
        return Encoding(query, weights_BM, self.by_modality(gates), temperature_B)

    def inference_encoder(self) -> InferenceEncoder:
        return MoMoKInference(self)

    def relation_vectors(self, relation_R: Tensor) -> list[Tensor]:
        """Vectors of relations in each branch, float32[R, relation_width], the joint one last."""
        relations = [table(relation_R) for table in self.relations]
        if self.relation_fusion is None:
            return relations
        fused_RD, _ = self.relation_fusion(relations)
        return [*relations, fused_RD]

    def candidates(self) -> Candidates:
        mixed, gates = self._mix([table.weight for table in self.inputs], None)
        outputs, weights_NM = self._fuse(mixed, self.present)
        vectors = {branch.name: rows for branch, rows in zip(self.branches, outputs, strict=True)}
        return Candidates(vectors, weights_NM, self.by_modality(gates))

    @property
    def num_experts(self) -> int:
        return self.config.num_experts

    def expert_views(self, entity_B: Tensor, experts: Sequence[Sequence[int]]) -> list[Tensor]:
        """The outputs of the experts chosen in each modality, before mixing: float32[B, chosen, D] each."""
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

    def _fuse(self, mixed: list[Tensor], present_BM: Tensor) -> tuple[list[Tensor], Tensor]:
        """The input of each branch, the joint one last, and the modality weights float32[B, M]."""
        if self.entity_fusion is None:
            return mixed, equal_weights(present_BM)
        fused_BD, weights_of_attentions = self.entity_fusion(mixed, present_BM)
        return [*mixed, fused_BD], weights_of_attentions.mean(dim=0)

    def _fusion(self, widths: Sequence[int]) -> AttentionFusion:
        return AttentionFusion(
            widths,
            self.config.joint_width,
            num_attentions=self.config.num_attentions,
            dropout=self.config.fusion_dropout,
        )


class MoMoKInference(InferenceEncoder):
    """MoMoK as it encodes queries in evaluation.

    A cached relation is a matrix float32[G, D, D] and an offset float32[G, 1, D] for every G branches of one
    width.
    """

    @torch.no_grad()
    def __init__(self, model: MoMoK) -> None:
        self._model = model
        tables = [table.weight.detach() for table in model.inputs]
        self._experts = InferenceExperts(tables, model.reducers, list(model.experts))
        self._fusion = None if model.entity_fusion is None else InferenceFusion(model.entity_fusion)
        self._temperature_R = (
            None if model.temperature is None else model.temperature.weight.squeeze(1).sigmoid()
        )
        self._absent_NM = ~model.present
        self._same_width = alike([branch.width for branch in model.branches])

    @torch.no_grad()
    def prepare(self, relations: Sequence[int]) -> list[CachedRelation]:
        assert not self._model.training, "dropout would be cached"
        vectors = self._model.relation_vectors(torch.tensor(relations, device=self._absent_NM.device))
        pairs = [tucker_of_relations(*pair) for pair in zip(self._model.scorers, vectors, strict=True)]
        parts = []
        for branches in self._same_width:
            matrices, offsets = zip(*(pairs[branch] for branch in branches), strict=True)
            # Stacked for each relation alone, so that one may be kept without the others.
            parts.append([torch.stack(of_relation) for of_relation in zip(*matrices, strict=True)])
            parts.append([torch.stack(of_relation)[:, None] for of_relation in zip(*offsets, strict=True)])
        return list(zip(*parts, strict=True))

    def encode(self, entity_B: Tensor, relation_B: Tensor, cached: Mapping[int, CachedRelation]) -> Encoding:
        temperature_B = None
        if self._temperature_R is not None:
            temperature_B = self._temperature_R.index_select(0, relation_B)
        mixed, gates = self._experts.mix(self._experts.outputs(entity_B), temperature_B)
        absent_BM = self._absent_NM.index_select(0, entity_B)
        if self._fusion is None:
            weights_BM = equal_weights(~absent_BM)
        else:
            fused_BD, weights_BM = self._fusion(mixed, absent_BM)
            mixed.append(fused_BD)
        query = self._multiply(mixed, relation_B, cached)
        return Encoding(query, weights_BM, self._model.by_modality(gates), temperature_B)

    def _multiply(
        self, inputs: Sequence[Tensor], relation_B: Tensor, cached: Mapping[int, CachedRelation]
    ) -> dict[str, Tensor]:
        """Rows of each branch, by its name, times the matrices of their relations, plus the offsets."""
        # One query, or one relation: nothing to sort.
        groups = RelationGroups(relation_B) if len(cached) > 1 else None
        relations = cached if groups is None else groups.unique.tolist()
        parts = list(zip(*(cached[relation] for relation in relations), strict=True))
        outputs: dict[int, Tensor] = {}
        for branches, matrices, offsets in zip(self._same_width, parts[::2], parts[1::2], strict=True):
            input_GBD = torch.stack([inputs[branch] for branch in branches])
            if groups is None:
                output_GBD = torch.baddbmm(offsets[0], input_GBD, matrices[0])
            else:
                output_GBD = groups.multiply_add(input_GBD, matrices, offsets)
            outputs |= zip(branches, output_GBD.unbind(), strict=True)
        return {branch.name: outputs[place] for place, branch in enumerate(self._model.branches)}
