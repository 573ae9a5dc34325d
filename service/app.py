"""create_app: the routes, what watches them, and what they need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from model import __version__
from service import problems
from service.answerer import Answerer
from service.keys import load_rings
from service.metrics import Metrics
from service.middleware import Observation
from service.routes import documentation, facts, graph, neighbors, operations, picture, predict
from service.routes.context import Context, context_of
from service.routes.context import problems as problem_responses
from service.security import CarefulHeaders, Security
from service.settings import Settings
from service.worker import ScorerThread

DESCRIPTION = "Link prediction on multi-modal knowledge graphs: ranked, explained answers."


def create_app(settings: Settings, answerer: Answerer | None = None) -> FastAPI:
    """An app that serves ``answerer``, opened from the settings where not given. Raises ``BundleError``."""
    rings = load_rings(
        settings.api_keys, settings.api_keys_file, settings.admin_keys, settings.admin_keys_file
    )
    app = build_api()
    metrics = Metrics(_routes(app))
    app.add_middleware(Security, rings=rings, settings=settings)
    app.add_middleware(Observation, metrics=metrics)
    app.add_middleware(CarefulHeaders)  # Around all, so that a 500 has them too.
    served = answerer or Answerer.open(settings.bundle, settings.device, settings.engine, settings.min_recall)
    served.warm()
    app.state.context = Context(served, settings, metrics, ScorerThread())
    return app


def build_api() -> FastAPI:
    """The routes alone: enough for their documentation, with nothing behind them."""
    app = FastAPIOffline(
        title="momok",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # A redirect would echo the whole address.
        lifespan=_lifespan,
    )
    # Pictures and neighbors before the graph, whose path of details takes in all: keys may hold slashes.
    for part in (predict, facts, picture, neighbors, graph, operations):
        app.include_router(part.router, responses=problem_responses(401))
    documentation.install(app)
    problems.install(app)
    _describe_keys(app.openapi())
    return app


def _describe_keys(schema: dict[str, Any]) -> None:
    """Say in the document of the API that a key may be needed."""
    text = "Needed where the server was given keys; the probes need none."
    schema["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": text}
    }
    schema["security"] = [{"key": []}, {}]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context = context_of(app)
    context.metrics.serve(context.answerer.reference())
    yield
    context.metrics.ready.set(0)
    context.scorer.close()


def _routes(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path template of every documented route."""
    return [(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods]
