"""GET /v1/entities/{key}/neighbors: the facts around an entity."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from momok.service.answering.graph import Direction
from momok.service.contract.schemas import NeighborsOut
from momok.service.http.routes.context import Served, problems
from momok.service.http.routes.keys import KeyRoute

router = APIRouter(prefix="/v1", tags=["graph"], route_class=KeyRoute)


@router.get("/entities/{key:path}/neighbors", response_model=NeighborsOut, responses=problems(404, 422))
def neighbors(
    key: str,
    served: Served,
    direction: Annotated[
        Direction, Query(description="Facts of which the entity is the head, the tail, or either.")
    ] = "both",
    relation: Annotated[
        str | None, Query(min_length=1, max_length=1024, description="Only facts of this relation.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> NeighborsOut:
    """The facts that the graph holds around an entity, with the split that each is known from."""
    return served.answerer.graph.neighbors(key, direction, relation, limit, offset)
