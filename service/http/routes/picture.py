"""GET /v1/entities/{key}/picture: what an entity looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Response

from momok.model.bundle.pictures import MEDIA_TYPES
from momok.service.http.routes.answers import KeyRoute, NoParameters, Served, problems, read

router = APIRouter(prefix="/v1", tags=["graph"], route_class=KeyRoute)

PICTURE = {
    "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()}
}


@router.get(
    "/entities/{key:path}/picture",
    response_class=Response,
    responses=problems(404, 422, 429, 503, 504)
    | {200: {"description": "The picture.", **PICTURE}, 304: {"description": "Not changed."}},
)
async def picture(
    key: str,
    served: Served,
    _: NoParameters,
    if_none_match: Annotated[str | None, Header(max_length=1024)] = None,
) -> Response:
    """The picture of an entity; `ETag` changes when it does."""
    found = await read(served, served.answerer.graph.picture, key)
    headers = {
        "ETag": f'"{found.sha256}"',
        "Cache-Control": "public, max-age=3600",
        # A picture is whatever someone put into the graph: let a browser show it and do nothing else.
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'",
    }
    if if_none_match is not None and (if_none_match.strip() == "*" or found.sha256 in if_none_match):
        return Response(status_code=304, headers=headers)
    picture = await read(served, Path.read_bytes, found.path)
    return Response(picture, media_type=found.media_type, headers=headers)
