"""GET /livez, /readyz, /metrics: for the machines that watch."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.routes.context import Served

router = APIRouter(tags=["operations"])


@router.get("/livez", response_class=PlainTextResponse)
async def livez() -> str:
    """200 while the process answers."""
    return "alive\n"


@router.get("/readyz", response_class=PlainTextResponse)
async def readyz() -> str:
    """200 once the bundle is loaded and answers its golden queries, which happens before the port opens."""
    return "ready\n"


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(served: Served) -> Response:
    """Prometheus exposition."""
    return Response(served.metrics.render(), media_type=CONTENT_TYPE_LATEST)
