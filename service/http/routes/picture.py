"""GET /v1/entities/{key}/picture: what an entity looks like."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response

from momok.model.bundle.pictures import MEDIA_TYPES
from momok.service.http.routes.context import Served, problems
from momok.service.http.routes.keys import KeyRoute

router = APIRouter(prefix="/v1", tags=["graph"], route_class=KeyRoute)


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
    found = served.answerer.graph.picture(key)
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
