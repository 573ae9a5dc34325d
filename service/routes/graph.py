"""GET /v1/entities and what is below it, /v1/relations, /v1/model: what is being served."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from model.pictures import MEDIA_TYPES
from service.routes.context import Served, problems
from service.schemas import EntitiesOut, EntityDetailsOut, ModelOut, RelationsOut

router = APIRouter(prefix="/v1", tags=["graph"])


@router.get("/entities", response_model=EntitiesOut, responses=problems(422))
def search_entities(
    served: Served,
    search: Annotated[str, Query(max_length=256, description="Part of a label or key.")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> EntitiesOut:
    """Entities by part of a label or key: equal ones first, then beginnings, then the most connected."""
    return served.answerer.entities(search, limit, offset)


# Before the details, whose path takes in all that follows: keys may hold slashes.
@router.get(
    "/entities/{key:path}/picture",
    response_class=Response,
    responses=problems(404, 422)
    | {200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}}, 304: {"description": "Not changed."}},
)
def picture(
    key: str, served: Served, if_none_match: Annotated[str | None, Header(max_length=1024)] = None
) -> Response:
    """The picture of an entity; `ETag` changes when it does."""
    found = served.answerer.picture(key)
    headers = {
        "ETag": f'"{found.sha256}"',
        "Cache-Control": "public, max-age=3600",
        # A picture is whatever someone put into the graph: let a browser show it and do nothing else.
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'",
    }
    if if_none_match is not None and (if_none_match.strip() == "*" or found.sha256 in if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(found.path.read_bytes(), media_type=found.media_type, headers=headers)


@router.get("/entities/{key:path}", response_model=EntityDetailsOut, responses=problems(404, 422))
def entity(key: str, served: Served) -> EntityDetailsOut:
    """One entity, by key or by a label that only one has."""
    return served.answerer.entity(key)


@router.get("/relations", response_model=RelationsOut)
def relations(served: Served) -> RelationsOut:
    """All relations, with the number of facts of each."""
    return served.answerer.relations()


@router.get("/model", response_model=ModelOut)
def model(served: Served) -> ModelOut:
    """The model being served: version, metrics, limits."""
    return served.answerer.describe(served.settings)
