"""Requests and answers of the API, which the command line prints too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from momok.model.kinds import ScoreKind, Split

if TYPE_CHECKING:
    from momok.model.bundle.names import Names

Name = Annotated[str, Field(min_length=1, max_length=1024)]
End = Literal["head", "tail"]


CandidateSet = Annotated[
    Annotated[Literal["observed"], Tag("word")]
    | Annotated[list[Name], Tag("names"), Field(max_length=10_000)],
    # Told apart before validation, so that a wrong name is one mistake and not one of each kind.
    Discriminator(lambda given: "names" if isinstance(given, list) else "word"),
]


class Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class QueryIn(Request):
    """A fact with one end missing: give `head` or `tail`, by key or by a label that only one entity has."""

    head: Name | None = Field(None, examples=["NOR"])
    relation: Name = Field(examples=["borders"])
    tail: Name | None = Field(None, examples=[None])

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if (self.head is None) == (self.tail is None):
            given = "neither is" if self.head is None else "both are"
            raise ValueError(f"give exactly one of head and tail; {given} given")
        return self

    @property
    def missing(self) -> End:
        return "tail" if self.tail is None else "head"


class PredictRequest(Request):
    """Queries that are answered together."""

    queries: list[QueryIn] = Field(
        min_length=1,
        examples=[[{"head": "NOR", "relation": "borders"}, {"relation": "member of", "tail": "OPEC"}]],
    )
    k: int = Field(
        10, ge=1, le=2**31 - 1, strict=True, description="Candidates wanted for each query.", examples=[5]
    )
    exclude_known: bool = Field(
        True, strict=True, description="Leave out what the graph already holds.", examples=[True]
    )
    candidates: CandidateSet | None = Field(
        None,
        description="Only these entities; `observed`: those seen at that end of that relation; null: all.",
        examples=["observed"],
    )
    min_score: float | None = Field(
        None, description="Leave out candidates that score less.", examples=[None]
    )
    explain: bool = Field(
        True, strict=True, description="Say which branch, modality and expert was trusted.", examples=[True]
    )


class EntityOut(BaseModel):
    key: str = Field(examples=["SWE"])
    label: str = Field(examples=["Sweden"])

    @classmethod
    def of(cls, names: Names, entity: int) -> EntityOut:
        """Built without validation: in long lists it would cost the most."""
        return EntityOut.model_construct(key=names.keys[entity], label=names.labels[entity])


class RelationOut(BaseModel):
    key: str = Field(examples=["member_of"])
    label: str = Field(examples=["member of"])

    @classmethod
    def of(cls, names: Names, relation: int) -> RelationOut:
        return RelationOut.model_construct(key=names.keys[relation], label=names.labels[relation])


class QueryOut(BaseModel):
    head: EntityOut | None
    relation: RelationOut
    tail: EntityOut | None
    missing: End = Field(examples=["tail"])


class CandidateOut(BaseModel):
    """One offered entity; explanations are null when `explain` is false."""

    rank: int = Field(examples=[1])
    entity: EntityOut
    score: float = Field(examples=[65.4])
    known: Literal[False] | Split = Field(
        description="The first split that holds this fact, or false.", examples=[False]
    )
    branch_scores: dict[str, float] | None = Field(
        description="What each branch adds to the decision: sigmoids that are averaged, logits summed, or "
        "a margin minus a distance.",
        examples=[{"structure": 24.2, "text": 26.8, "joint": 14.4}],
    )
    modality_weights: dict[str, float] | None = Field(
        description="Weights with which the candidate's modalities were fused; absent ones weigh 0.",
        examples=[{"structure": 0.62, "text": 0.38}],
    )
    expert_gates: dict[str, list[float] | None] | None = Field(
        description="Gates of the candidate's experts, null where it lacks the modality; null for models "
        "without experts.",
        examples=[{"structure": [0.4, 0.3, 0.3], "text": None}],
    )


ModalityWeights = Annotated[
    dict[str, float] | None,
    Field(
        description="As for candidates, of the query; null where `explain` is false.",
        examples=[{"structure": 0.57, "text": 0.43}],
    ),
]
ExpertGates = Annotated[
    dict[str, list[float] | None] | None,
    Field(
        description="As for candidates, of the query; null where `explain` is false.",
        examples=[{"structure": [0.4, 0.3, 0.3], "text": [0.3, 0.4, 0.3]}],
    ),
]
Temperature = Annotated[
    float | None,
    Field(
        description="Sharpness of the query's gates, in (0, 1), smaller is sharper; null without one.",
        examples=[0.49],
    ),
]


class AnswerOut(BaseModel):
    query: QueryOut
    candidates: list[CandidateOut]
    modality_weights: ModalityWeights
    expert_gates: ExpertGates
    relation_temperature: Temperature
    exact: bool = Field(description="True where these are provably the best candidates.", examples=[True])
    engine: str = Field(description="What found the candidates.", examples=["scan"])


class ModelRef(BaseModel):
    name: str = Field(examples=["world"])
    version: str = Field(examples=["1f0c9a7be2d4"])


class PredictResponse(BaseModel):
    model: ModelRef
    answers: list[AnswerOut]
    score_kind: ScoreKind = Field(examples=["logit_sum"])


class EntityDetailsOut(EntityOut):
    description: str = Field(examples=["a country in northern Europe"])
    degree: int = Field(description="Facts that hold this entity, all splits.", examples=[23])
    modalities: list[str] = Field(
        description="The modalities this entity has.", examples=[["structure", "text"]]
    )
    picture: str | None = Field(
        description="Path of its picture on this server; null where it has none.",
        examples=["/v1/entities/SWE/picture"],
    )


class EntitiesOut(BaseModel):
    entities: list[EntityOut]
    next_offset: int | None = Field(
        description="`offset` of the next page; null on the last.", examples=[None]
    )


class NeighborOut(BaseModel):
    """A fact that the graph holds."""

    head: EntityOut
    relation: RelationOut
    tail: EntityOut
    direction: Literal["outgoing", "incoming"] = Field(
        description="Whether the entity asked about is its head or its tail.", examples=["outgoing"]
    )
    known: Split = Field(description="The first split that holds this fact.", examples=["train"])


class NeighborsOut(BaseModel):
    entity: EntityOut
    facts: list[NeighborOut]
    num_facts: int = Field(
        description="Facts on all pages; one from the entity to itself counts once in each direction.",
        examples=[23],
    )
    next_offset: int | None = Field(description="`offset` of the next page; null on the last.", examples=[20])


class RelationInfoOut(RelationOut):
    num_facts: int = Field(examples=[240])


class RelationsOut(BaseModel):
    relations: list[RelationInfoOut]


class IndexOut(BaseModel):
    kind: str = Field(examples=["flat"])
    parameters: dict[str, Any] = Field(examples=[{}])
    recall: dict[str, float] = Field(
        description="Measured at export against the scan, for indexes that are not exact.", examples=[{}]
    )
    spaces: list[str] = Field(description="What is indexed, where not exactly.", examples=[[]])
    num_queries: int = Field(description="Held-out queries on which recall was measured.", examples=[0])
    build_s: float = Field(examples=[0.0])
    bytes_per_entity: float = Field(examples=[0.0])


class ModelOut(ModelRef):
    """What is being served."""

    kind: str = Field(description="Name of the model class.", examples=["momok"])
    created_at: str = Field(examples=["2026-01-31T12:00:00+00:00"])
    fingerprint: str = Field(
        description="Of the dataset that the model was trained on.", examples=["9f86d081884c7d65"]
    )
    counts: dict[str, int] = Field(examples=[{"entities": 350, "relations": 14}])
    modalities: list[str] = Field(examples=[["structure", "image", "text"]])
    branches: dict[str, int] = Field(
        description="Width of each branch.", examples=[{"structure": 64, "text": 64, "joint": 64}]
    )
    decision: str = Field(examples=["sum"])
    score_kind: ScoreKind = Field(examples=["logit_sum"])
    index: IndexOut
    engines: dict[str, str] = Field(
        description="What finds candidates, by the least size of batch for which it does.",
        examples=[{"1": "faiss-flat", "16": "scan"}],
    )
    metrics: dict[str, dict[str, float]] = Field(
        description="Overall metrics by split.", examples=[{"test": {"mrr": 0.37, "hits@10": 0.48}}]
    )
    protocol: str | None = Field(
        description="How they were measured.", examples=["filtered over all splits, both directions"]
    )
    provenance: dict[str, Any] = Field(
        description="How the model came about, as training and export wrote it down.",
        examples=[{"seed": 0, "command": "momok train build/world --out runs/world"}],
    )
    limits: dict[str, int] = Field(examples=[{"max_queries": 64, "max_k": 1000, "max_candidates": 10000}])
    device: str = Field(examples=["cpu"])
