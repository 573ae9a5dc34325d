"""Calls: the requests of the API, and how their answers are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from momok.service.contract.fact_schemas import (
    FactIn,
    RankRelationsRequest,
    RankRelationsResponse,
    ScoreRequest,
    ScoreResponse,
)
from momok.service.contract.schemas import (
    EntitiesOut,
    EntityDetailsOut,
    ModelOut,
    ModelRef,
    NeighborsOut,
    PredictRequest,
    PredictResponse,
    QueryIn,
    RelationsOut,
)

AnswerT = TypeVar("AnswerT")
ModelT = TypeVar("ModelT", bound=BaseModel)

Asked = QueryIn | Mapping[str, str]
Stated = FactIn | Mapping[str, str]


@dataclass(frozen=True)
class Call(Generic[AnswerT]):
    """``repeats``: whether the request may be sent again after the server may have received it."""

    method: str
    path: str
    read: Callable[[bytes], AnswerT]
    body: bytes | None = None
    parameters: Mapping[str, str | int] | None = None
    repeats: bool = True


def predict(queries: Sequence[Asked], options: Mapping[str, Any]) -> Call[PredictResponse]:
    return _post("/v1/predict", PredictRequest(queries=list(queries), **options), PredictResponse)  # type: ignore[arg-type]


def score(facts: Sequence[Stated], options: Mapping[str, Any]) -> Call[ScoreResponse]:
    return _post("/v1/score", ScoreRequest(facts=list(facts), **options), ScoreResponse)  # type: ignore[arg-type]


def rank_relations(head: str, tail: str, options: Mapping[str, Any]) -> Call[RankRelationsResponse]:
    asked = RankRelationsRequest(head=head, tail=tail, **options)
    return _post("/v1/relations/rank", asked, RankRelationsResponse)


def entities(search: str, limit: int, offset: int) -> Call[EntitiesOut]:
    return _get("/v1/entities", EntitiesOut, {"search": search, "limit": limit, "offset": offset})


def entity(key: str) -> Call[EntityDetailsOut]:
    return _get(f"/v1/entities/{quote(key, safe='')}", EntityDetailsOut)


def neighbors(key: str, options: Mapping[str, str | int]) -> Call[NeighborsOut]:
    return _get(f"/v1/entities/{quote(key, safe='')}/neighbors", NeighborsOut, options)


def picture(key: str) -> Call[bytes]:
    return Call("GET", f"/v1/entities/{quote(key, safe='')}/picture", bytes)


def relations() -> Call[RelationsOut]:
    return _get("/v1/relations", RelationsOut)


def model() -> Call[ModelOut]:
    return _get("/v1/model", ModelOut)


def administer(action: str) -> Call[ModelRef]:
    """``reload`` or ``rollback``: a second one would do something else."""
    return Call("POST", f"/admin/{action}", ModelRef.model_validate_json, repeats=False)


def _post(path: str, asked: BaseModel, answer: type[ModelT]) -> Call[ModelT]:
    return Call("POST", path, answer.model_validate_json, asked.model_dump_json().encode())


def _get(path: str, answer: type[ModelT], parameters: Mapping[str, str | int] | None = None) -> Call[ModelT]:
    return Call("GET", path, answer.model_validate_json, parameters=parameters)
