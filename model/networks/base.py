"""LinkPredictor: the interface of every model, and the registry of models.

A predictor factorises: a *query* (entity, relation) becomes one vector a branch, a candidate becomes one
vector a branch that is the same for all relations, and a branch score is their inner product, or a margin
minus their distance. So the candidates are computed once, at export.

Axes: B queries, C candidates, N entities, M modalities, K experts, D width of a branch, X of all branches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from momok.model.errors import describe
from momok.model.networks.layers import Modules
from momok.model.networks.modality import ModalityInput
from momok.model.scores import FUSIONS, Branch, Decision

SCORED_AT_ONCE = 1 << 19
"""Scores of one branch held at a time on a CPU: 2 MB, within reach of its second-level caches."""

JOINT = "joint"
"""The name of the branch that fuses all modalities, and of no modality."""


class ModalityShape(BaseModel):
    """Widths of one modality: of its input table, and of its branch, which a learned map may narrow."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    input_width: int = Field(ge=1)
    width: int = Field(ge=1)
    learned: bool = Field(False, description="Without features: the input of each entity is learned.")


class ModelConfig(BaseModel):
    """The fields from which a model is built before its weights are loaded; each model adds its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(description="Name in the registry.")
    num_entities: int = Field(ge=1)
    num_relations: int = Field(ge=1)
    modalities: tuple[ModalityShape, ...] = Field(min_length=1)
    decision: Decision = Field("sum", description="The fusion of branch scores; goes with the loss.")

    @field_validator("modalities")
    @classmethod
    def _distinct(cls, shapes: tuple[ModalityShape, ...]) -> tuple[ModalityShape, ...]:
        names = [shape.name for shape in shapes]
        if JOINT in names or len(set(names)) < len(names):
            raise ValueError(f"names must differ from each other and from {JOINT!r}, not {names}")
        return shapes

    def for_inference(self) -> Self:
        """The same model without the parameters that only training uses."""
        return self


@dataclass(frozen=True, eq=False)
class Encoding:
    """A batch of encoded queries, and the weights with which they were encoded.

    ``query``: branch -> float32[B, D]; ``modality_weights`` float32[B, M], rows sum to 1, absent modalities
    0; ``expert_gates``: gated modality -> float32[B, K], rows sum to 1; ``relation_temperature`` float32[B]
    in [0, 1], or None where a model has none.
    """

    query: dict[str, Tensor]
    modality_weights: Tensor
    expert_gates: dict[str, Tensor]
    relation_temperature: Tensor | None


@dataclass(frozen=True, eq=False)
class Candidates:
    """Every entity as a possible answer: ``vectors`` branch -> float32[N, D], and its weights and gates.

    ``joined`` float32[N, X]: the vectors side by side, of which ``vectors`` then are columns.
    """

    vectors: dict[str, Tensor]
    modality_weights: Tensor
    expert_gates: dict[str, Tensor]
    joined: Tensor | None = None


CachedRelation = tuple[Tensor, ...]
"""The tensors that an inference encoder derives from a relation alone; the encoder knows which they are."""


class InferenceEncoder(ABC):
    """A model's query encoder in evaluation, made once from the weights as they are.

    Changed weights need a new one: large tables of entities are shared with the model, not copied.
    """

    @abstractmethod
    def prepare(self, relations: Sequence[int]) -> list[CachedRelation]:
        """The tensors derived from each relation alone; every tensor owns its memory."""

    @abstractmethod
    def encode(self, entity_B: Tensor, relation_B: Tensor, cached: Mapping[int, CachedRelation]) -> Encoding:
        """As ``LinkPredictor.encode``; ``cached`` holds the relations of the batch and no others."""


class LinkPredictor(nn.Module, ABC):
    """Encodes queries and candidates; relations run over [0, 2R)."""

    present: Tensor
    inputs: Modules[nn.Embedding]
    """The input tables, one a modality, of a model that has one of each."""

    def __init__(self, config: ModelConfig, branches: Sequence[Branch]) -> None:
        super().__init__()
        self.config = config
        self.branches = tuple(branches)
        self.decision: Decision = config.decision
        shape = (config.num_entities, len(config.modalities))
        self.register_buffer("present", torch.ones(shape, dtype=torch.bool))

    @property
    def modality_names(self) -> tuple[str, ...]:
        return tuple(shape.name for shape in self.config.modalities)

    @property
    def gated_modalities(self) -> tuple[str, ...]:
        """The modalities that have experts, and so gates; empty for a model without experts."""
        return self.modality_names

    def load_inputs(self, inputs: Sequence[ModalityInput]) -> None:
        """Start from these input tables and presence masks, in the order of ``config.modalities``."""
        with torch.no_grad():
            for table, given in zip(self.inputs, inputs, strict=True):
                table.weight.copy_(given.table)
            self.present.copy_(torch.stack([given.present for given in inputs], dim=1))

    def by_modality(self, values: Iterable[Tensor]) -> dict[str, Tensor]:
        """Modality -> its value, from one of each."""
        return dict(zip(self.modality_names, values, strict=True))

    @abstractmethod
    def encode(self, entity_B: Tensor, relation_B: Tensor) -> Encoding:
        """Queries (entity int64[B], relation int64[B] in [0, 2R)) as one vector a branch."""

    def inference_encoder(self) -> InferenceEncoder | None:
        """The encoder for answering; None where caching relations gains nothing."""
        return None

    @abstractmethod
    def candidates(self) -> Candidates:
        """All N entities as candidates."""

    @property
    def num_experts(self) -> int:
        """K, where ``expert_views`` shows the experts of each modality; else 0."""
        return 0

    def expert_views(self, entity_B: Tensor, experts: Sequence[Sequence[int]]) -> list[Tensor]:
        """The outputs of the experts chosen in each modality, float[B, chosen, D] each."""
        raise NotImplementedError(f"{type(self).__name__} shows no experts")

    def query_and_candidates(
        self, entity_B: Tensor, relation_B: Tensor, candidate_P: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Query vectors and the vectors of some candidates: branch -> float[B, D] and float[P, D]."""
        query, table = self.encode(entity_B, relation_B).query, self.entity_table()
        # Not by an index: threads would add its gradients in any order.
        return query, {name: F.embedding(candidate_P, rows_ND) for name, rows_ND in table.items()}

    def entity_table(self) -> dict[str, Tensor]:
        """branch -> float32[N, D]: the vectors of the candidates."""
        return self.candidates().vectors

    def score(self, query: dict[str, Tensor], table: dict[str, Tensor]) -> Tensor:
        """Fused scores float32[B, C]."""
        return torch.cat(list(self.score_tiles(query, table)), dim=1)

    def score_tiles(self, query: dict[str, Tensor], table: dict[str, Tensor]) -> Iterator[Tensor]:
        """The same in parts, float32[B, C] for one tile of candidates after the other."""
        first = self.branches[0].name
        num_queries, num_candidates = len(query[first]), len(table[first])
        at_once = num_candidates  # On a CPU fewer, so that branch scores stay in its caches.
        if not self.present.is_cuda:
            at_once = max(SCORED_AT_ONCE // max(num_queries, 1), 256)
        for start in range(0, num_candidates, at_once):
            rows = slice(start, start + at_once)
            scores = (branch.scores(query[branch.name], table[branch.name][rows]) for branch in self.branches)
            yield FUSIONS[self.decision].combine(scores)


MODELS: dict[str, tuple[type[ModelConfig], type[LinkPredictor]]] = {}

FORMER_NAMES = {"adamf-mat": "adamf"}
"""Names in files of earlier versions: AdaMF-MAT is AdaMF, trained by the objective ``adversarial``."""


def register(
    name: str, config_class: type[ModelConfig]
) -> Callable[[type[LinkPredictor]], type[LinkPredictor]]:
    """Class decorator: register a predictor and its configuration as ``name``."""

    def add(predictor_class: type[LinkPredictor]) -> type[LinkPredictor]:
        MODELS[name] = (config_class, predictor_class)
        return predictor_class

    return add


def parse_config(fields: dict[str, Any]) -> ModelConfig:
    """The configuration of the model that ``fields["model"]`` names.

    Raises ``ValueError`` naming every unknown or ill-typed field.
    """
    fields = fields | {"model": FORMER_NAMES.get(str(fields.get("model")), fields.get("model"))}
    name = fields["model"]
    if not isinstance(name, str) or name not in MODELS:
        raise ValueError(f"model: {name!r} is not known; known are {', '.join(sorted(MODELS))}")
    try:
        return MODELS[name][0].model_validate(fields)
    except ValidationError as error:
        raise ValueError(describe(error)) from None


def build_model(config: ModelConfig) -> LinkPredictor:
    """A freshly initialised predictor for a configuration of a registered model."""
    predictor_class: Callable[[ModelConfig], LinkPredictor] = MODELS[config.model][1]
    return predictor_class(config)
