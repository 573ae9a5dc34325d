"""GET /v1/entities/{key}/neighbors: the facts around an entity."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from momok.service.answering.graph import Direction
from momok.service.contract.schemas import NeighborsOut
from momok.service.http.routes.answers import KeyRoute, Parameters, Served, problems, read

router = APIRouter(prefix="/v1", tags=["graph"], route_class=KeyRoute)


class NeighborParameters(Parameters):
    direction: Direction = Field(
        "both", description="Facts of which the entity is the head, the tail, or either."
    )
    relation: str | None = Field(
        None, min_length=1, max_length=1024, description="Only facts of this relation."
    )
    limit: int = Field(20, ge=1, le=200)
    offset: int = Field(0, ge=0, le=2**31 - 1)


@router.get(
    "/entities/{key:path}/neighbors",
    response_model=NeighborsOut,
    responses=problems(404, 422, 429, 503, 504),
)
async def neighbors(key: str, served: Served, asked: Annotated[NeighborParameters, Query()]) -> NeighborsOut:
    """The facts that the graph holds around an entity, with the split that each is known from."""
    graph = served.answerer.graph
    return await read(
        served, graph.neighbors, key, asked.direction, asked.relation, asked.limit, asked.offset
    )
