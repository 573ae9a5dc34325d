"""create_app: the routes, what watches them, and what they need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from model import __version__
from service import problems
from service.answerer import Answerer
from service.metrics import Metrics
from service.middleware import Observation
from service.routes import graph, operations, predict
from service.routes.context import Context
from service.settings import Settings
from service.worker import ScorerThread

DESCRIPTION = "Link prediction on multi-modal knowledge graphs: ranked, explained answers."


def create_app(settings: Settings, answerer: Answerer | None = None) -> FastAPI:
    """An app that serves ``answerer``, opened from the settings where not given. Raises ``BundleError``."""
    served = answerer or Answerer.open(settings.bundle, settings.device)
    scorer = ScorerThread()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        metrics.serve(served.reference())
        yield
        metrics.ready.set(0)
        scorer.close()

    app = FastAPIOffline(
        title="momok",
        version=__version__,
        description=DESCRIPTION,
        docs_url="/docs",
        redoc_url=None,
        lifespan=lifespan,
    )
    for router in (predict.router, graph.router, operations.router):
        app.include_router(router)
    metrics = Metrics(_routes(app))
    problems.install(app)
    app.add_middleware(Observation, metrics=metrics)
    app.state.context = Context(served, settings, metrics, scorer)
    return app


def _routes(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path template of every documented route."""
    return [(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods]
