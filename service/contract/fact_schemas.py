"""Requests and answers about whole facts: their scores, and the relations that fit two entities."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from momok.model.kinds import ScoreKind, Split
from momok.service.contract.schemas import (
    EntityOut,
    ExpertGates,
    ModalityWeights,
    ModelRef,
    Name,
    RelationOut,
    Request,
    Temperature,
)

NOTE = (
    "No model here was trained to rank relations: it learned to rank entities for a given relation, and "
    "scores of different relations need not be comparable. Take the order as a hint."
)

Known = Annotated[
    Literal[False] | Split,
    Field(description="The first split that holds this fact, or false.", examples=["train", False]),
]
BranchScores = Annotated[
    dict[str, float] | None,
    Field(
        description="What each branch adds to the score, in its unit; null where `explain` is false.",
        examples=[{"structure": 24.2, "text": 26.8, "joint": 14.4}],
    ),
]


class FactIn(Request):
    """A whole fact, each name a key or a label that only one has."""

    head: Name = Field(examples=["NOR"])
    relation: Name = Field(examples=["borders"])
    tail: Name = Field(examples=["Sweden"])


class ScoreRequest(Request):
    """Facts that are scored together; each counts as two queries."""

    facts: list[FactIn] = Field(
        min_length=1, examples=[[{"head": "NOR", "relation": "borders", "tail": "Sweden"}]]
    )
    explain: bool = Field(
        True, strict=True, description="Say which branch, modality and expert was trusted.", examples=[True]
    )


class FactOut(BaseModel):
    head: EntityOut
    relation: RelationOut
    tail: EntityOut


class EndOut(BaseModel):
    """The fact as the answer to the query that lacks this end."""

    score: float = Field(examples=[65.4])
    raw_rank: float = Field(
        description="Its rank among all entities: 1 + those that score more + half of those that tie.",
        examples=[4.0],
    )
    filtered_rank: float = Field(
        description="The same without the other known answers, as `momok evaluate` counts.", examples=[1.0]
    )
    branch_scores: BranchScores
    modality_weights: ModalityWeights
    expert_gates: ExpertGates
    relation_temperature: Temperature


class ScoredEndsOut(BaseModel):
    head: EndOut
    tail: EndOut


class ScoredFactOut(BaseModel):
    fact: FactOut
    known: Known
    score: float = Field(description="The mean of the scores at both ends.", examples=[63.1])
    ends: ScoredEndsOut


class ScoreResponse(BaseModel):
    model: ModelRef
    facts: list[ScoredFactOut]
    score_kind: ScoreKind = Field(examples=["logit_sum"])


class RankRelationsRequest(Request):
    """Two entities, by key or by a label that only one has."""

    head: Name = Field(examples=["NOR"])
    tail: Name = Field(examples=["Sweden"])
    k: int = Field(10, ge=1, le=2**31 - 1, strict=True, description="Relations wanted.", examples=[5])
    explain: bool = Field(True, strict=True, description="Say what each branch adds.", examples=[True])


class EndsOut(BaseModel):
    """The score of the fact as the answer to the query that lacks this end."""

    head: float = Field(examples=[60.8])
    tail: float = Field(examples=[65.4])


class RankedRelationOut(BaseModel):
    rank: int = Field(examples=[1])
    relation: RelationOut
    score: float = Field(description="The mean of the scores at both ends.", examples=[63.1])
    ends: EndsOut
    known: Known
    branch_scores: BranchScores


class RankRelationsResponse(BaseModel):
    model: ModelRef
    head: EntityOut
    tail: EntityOut
    relations: list[RankedRelationOut]
    score_kind: ScoreKind = Field(examples=["logit_sum"])
    note: str = Field(NOTE, description="What this order is worth.", examples=[NOTE])
