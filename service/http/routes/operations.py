"""GET /livez, /readyz, /startupz, /metrics: for the machines that watch."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from momok.service.contract.errors import NotAlive
from momok.service.http.routes.context import Served, problems

router = APIRouter(tags=["operations"])


@router.get("/livez", response_class=PlainTextResponse, responses=problems(503))
async def livez(served: Served) -> str:
    """200 while the scorer is well, however much there is to do; 503 when it is stuck or keeps failing."""
    if (trouble := served.trouble) is not None:
        raise NotAlive(trouble)
    return "alive\n"


@router.get("/readyz", response_class=PlainTextResponse, responses=problems(503))
async def readyz(served: Served) -> str:
    """200 while queries are answered: the bundle is loaded, has answered its golden queries, and the server
    is not about to end."""
    served.deployment.check_ready(served.trouble)
    return "ready\n"


@router.get("/startupz", response_class=PlainTextResponse, responses=problems(503))
async def startupz(served: Served) -> str:
    """200 once the first bundle is loaded."""
    served.deployment.check_started()
    return "started\n"


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(served: Served) -> Response:
    """Prometheus exposition."""
    return Response(served.metrics.render(), media_type=CONTENT_TYPE_LATEST)
