"""GET /v1/entities, /v1/relations, /v1/model: what is being served."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from momok.service.contract.schemas import EntitiesOut, EntityDetailsOut, ModelOut, RelationsOut
from momok.service.http.routes.answers import NoParameters, Parameters, Served, problems, read

router = APIRouter(prefix="/v1", tags=["graph"])


class SearchParameters(Parameters):
    search: str = Field("", max_length=256, description="Part of a label or key.")
    limit: int = Field(20, ge=1, le=200)
    offset: int = Field(0, ge=0, le=2**31 - 1)


@router.get("/entities", response_model=EntitiesOut, responses=problems(422, 429, 503, 504))
async def search_entities(served: Served, asked: Annotated[SearchParameters, Query()]) -> EntitiesOut:
    """Entities by part of a label or key: equal ones first, then beginnings, then the most connected."""
    return await read(served, served.answerer.graph.entities, asked.search, asked.limit, asked.offset)


@router.get(
    "/entities/{key:path}", response_model=EntityDetailsOut, responses=problems(404, 422, 429, 503, 504)
)
async def entity(key: str, request: Request, served: Served, _: NoParameters) -> EntityDetailsOut:
    """One entity, by key or by a label that only one has."""
    found = await read(served, served.answerer.graph.entity, key)
    if found.picture is not None:  # A path that a client of a proxy can ask for.
        found.picture = request.scope.get("root_path", "") + found.picture
    return found


@router.get("/relations", response_model=RelationsOut, responses=problems(422, 429, 503, 504))
async def relations(served: Served, _: NoParameters) -> RelationsOut:
    """All relations, with the number of facts of each."""
    return await read(served, served.answerer.graph.relations)


@router.get("/model", response_model=ModelOut, responses=problems(422, 429, 503, 504))
async def model(served: Served, _: NoParameters) -> ModelOut:
    """The model being served: version, metrics, limits."""
    return await read(served, served.answerer.describe, served.settings)
