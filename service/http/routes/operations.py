"""GET /livez, /readyz, /startupz, /metrics: for the machines that watch."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from momok.service.contract.errors import NotAlive
from momok.service.http.routes.answers import NoParameters, Served, problems

router = APIRouter(tags=["operations"])
PROBLEMS = problems(413, 422, 503)


@router.get("/livez", response_class=PlainTextResponse, responses=PROBLEMS)
async def livez(served: Served, _: NoParameters) -> str:
    """200 while the scorer works, however much there is to do; 503 when it is stuck or keeps failing."""
    if (trouble := served.trouble) is not None:
        raise NotAlive(trouble)
    return "alive\n"


@router.get("/readyz", response_class=PlainTextResponse, responses=PROBLEMS)
async def readyz(served: Served, _: NoParameters) -> str:
    """200 while queries are answered: the bundle is loaded, has answered its golden queries, and the server
    is not shutting down."""
    served.deployment.check_ready(served.trouble)
    return "ready\n"


@router.get("/startupz", response_class=PlainTextResponse, responses=PROBLEMS)
async def startupz(served: Served, _: NoParameters) -> str:
    """200 once the first bundle is loaded."""
    served.deployment.check_started()
    return "started\n"


@router.get("/metrics", response_class=PlainTextResponse, responses=problems(413, 422))
async def metrics(served: Served, _: NoParameters) -> Response:
    """Prometheus exposition."""
    return Response(served.metrics.render(), media_type=CONTENT_TYPE_LATEST)
