"""Requests and answers of the API, which the command line prints too."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from model.decision import ScoreKind
from model.known import Split

Name = Annotated[str, Field(min_length=1, max_length=1024)]
End = Literal["head", "tail"]


CandidateSet = Annotated[
    Annotated[Literal["observed"], Tag("word")]
    | Annotated[list[Name], Tag("names"), Field(max_length=10_000)],
    # Told apart before validation, so that a wrong name is one mistake and not one of each kind.
    Discriminator(lambda given: "names" if isinstance(given, list) else "word"),
]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class QueryIn(_Request):
    """A fact with one end missing: give `head` or `tail`, by key or by a label that only one entity has."""

    head: Name | None = None
    relation: Name
    tail: Name | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if (self.head is None) == (self.tail is None):
            given = "neither is" if self.head is None else "both are"
            raise ValueError(f"give exactly one of head and tail; {given} given")
        return self

    @property
    def missing(self) -> End:
        return "tail" if self.tail is None else "head"


class PredictRequest(_Request):
    """Queries that are answered together."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "queries": [
                        {"head": "Degwwbryn", "relation": "speaks"},
                        {"relation": "in_region", "tail": "Region_A"},
                    ],
                    "k": 5,
                }
            ]
        }
    )

    queries: list[QueryIn] = Field(min_length=1)
    k: int = Field(10, ge=1, strict=True, description="Candidates wanted for each query.")
    exclude_known: bool = Field(True, strict=True, description="Leave out what the graph already holds.")
    candidates: CandidateSet | None = Field(
        None,
        description="Only these entities; `observed`: those seen at that end of that relation; null: all.",
    )
    min_score: float | None = Field(None, description="Leave out candidates that score less.")
    explain: bool = Field(True, strict=True, description="Say which branch, modality and expert was trusted.")


class EntityOut(BaseModel):
    key: str
    label: str


class RelationOut(BaseModel):
    key: str
    label: str


class QueryOut(BaseModel):
    head: EntityOut | None
    relation: RelationOut
    tail: EntityOut | None
    missing: End


class CandidateOut(BaseModel):
    """One offered entity; explanations are null when `explain` is false."""

    rank: int
    entity: EntityOut
    score: float
    known: Literal[False] | Split = Field(description="The first split that holds this fact, or false.")
    branch_scores: dict[str, float] | None = Field(
        description="What each branch adds to the decision: sigmoids that are averaged, logits summed, or "
        "a margin minus a distance."
    )
    modality_weights: dict[str, float] | None = Field(
        description="Weights with which the candidate's modalities were fused; absent ones weigh 0."
    )
    expert_gates: dict[str, list[float] | None] | None = Field(
        description="Gates of the candidate's experts, null where it lacks the modality; null for models "
        "without experts."
    )


class AnswerOut(BaseModel):
    query: QueryOut
    candidates: list[CandidateOut]
    modality_weights: dict[str, float] | None = Field(description="As for candidates, of the query.")
    expert_gates: dict[str, list[float] | None] | None = Field(description="As for candidates, of the query.")
    relation_temperature: float | None = Field(
        description="Sharpness of the query's gates, in (0, 1), smaller is sharper; null without one."
    )
    exact: bool = Field(description="True where these are provably the best candidates.")
    engine: str = Field(description="What found the candidates.")


class ModelRef(BaseModel):
    name: str
    version: str


class PredictResponse(BaseModel):
    model: ModelRef
    answers: list[AnswerOut]
    score_kind: ScoreKind


class EntityDetailsOut(EntityOut):
    description: str
    degree: int = Field(description="Facts that hold this entity, all splits.")
    modalities: list[str] = Field(description="The modalities this entity has.")
    picture: str | None = Field(description="Path of its picture on this server; null where it has none.")


class EntitiesOut(BaseModel):
    entities: list[EntityOut]
    next_offset: int | None = Field(description="`offset` of the next page; null on the last.")


class RelationInfoOut(RelationOut):
    num_facts: int


class RelationsOut(BaseModel):
    relations: list[RelationInfoOut]


class ModelOut(ModelRef):
    """What is being served."""

    kind: str = Field(description="Name of the model class, such as momok.")
    created_at: str
    fingerprint: str
    counts: dict[str, int]
    modalities: list[str]
    branches: dict[str, int] = Field(description="Width of each branch.")
    decision: str
    score_kind: ScoreKind
    index: str
    engines: dict[str, str]
    metrics: dict[str, dict[str, float]] = Field(description="Overall metrics by split.")
    protocol: str | None
    limits: dict[str, int]
    device: str
