"""GET /v1/entities, /v1/relations, /v1/model: what is being served."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from momok.service.contract.schemas import EntitiesOut, EntityDetailsOut, ModelOut, RelationsOut
from momok.service.http.routes.context import Served, client_of, problems

router = APIRouter(prefix="/v1", tags=["graph"])


@router.get("/entities", response_model=EntitiesOut, responses=problems(422, 429))
async def search_entities(
    request: Request,
    served: Served,
    search: Annotated[str, Query(max_length=256, description="Part of a label or key.")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> EntitiesOut:
    """Entities by part of a label or key: equal ones first, then beginnings, then the most connected."""
    served.limiter.admit(client_of(request.scope), 1)
    graph = served.answerer.graph
    async with served.searches:
        return await run_in_threadpool(graph.entities, search, limit, offset)


@router.get("/entities/{key:path}", response_model=EntityDetailsOut, responses=problems(404, 422))
def entity(key: str, served: Served) -> EntityDetailsOut:
    """One entity, by key or by a label that only one has."""
    return served.answerer.graph.entity(key)


@router.get("/relations", response_model=RelationsOut)
def relations(served: Served) -> RelationsOut:
    """All relations, with the number of facts of each."""
    return served.answerer.graph.relations()


@router.get("/model", response_model=ModelOut)
def model(served: Served) -> ModelOut:
    """The model being served: version, metrics, limits."""
    return served.answerer.describe(served.settings)
