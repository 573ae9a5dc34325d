"""create_app: the routes, what watches them, and what they need."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from momok import __version__
from momok.service.answering.answerer import Answerer
from momok.service.batching.batcher import MicroBatcher
from momok.service.deployment.deployment import Deployment
from momok.service.deployment.opening import Open, open_here
from momok.service.http import problems
from momok.service.http.keys import KeyRing, load_rings
from momok.service.http.limiter import Limiter
from momok.service.http.limits import Guard
from momok.service.http.middleware import Observation
from momok.service.http.routes import (
    admin,
    documentation,
    facts,
    graph,
    neighbors,
    operations,
    picture,
    predict,
)
from momok.service.http.routes.context import Context, context_of
from momok.service.http.routes.context import problems as problem_responses
from momok.service.http.security import Security
from momok.service.monitoring.histogram import Series
from momok.service.monitoring.metrics import Metrics
from momok.service.settings import Settings

CLOSE_S = 5.0
"""How long a scorer that is done by rights may take to end."""
LAG_EVERY_S = 0.25

DESCRIPTION = "Link prediction on multi-modal knowledge graphs: ranked, explained answers."


def create_app(settings: Settings, answerer: Answerer | None = None) -> FastAPI:
    """An app that serves ``answerer``, opened from the settings where not given. Raises ``BundleError``."""
    app = unloaded_app(settings)
    context_of(app).deployment.start(answerer)
    return app


def unloaded_app(settings: Settings, open_bundle: Open = open_here) -> FastAPI:
    """An app that answers its probes, and other requests once its ``deployment`` has started.

    Raises ``UserError`` for keys that cannot be read.
    """
    rings = load_rings(
        settings.api_keys, settings.api_keys_file, settings.admin_keys, settings.admin_keys_file
    )
    app = build_api()
    metrics = Metrics(_routes(app))
    deployment = Deployment(
        settings, open_bundle, metrics.serve, lambda result: metrics.reloads[result].inc()
    )
    scorer = MicroBatcher(
        max_batch=settings.max_batch,
        max_queue=settings.max_queue,
        stuck_s=settings.stuck_s,
        max_failures=settings.max_failures,
        check=lambda: deployment.answerer.verify(),
        on_batch=metrics.batch,
    )
    metrics.queue_limit.set(settings.max_queue)
    limiter = Limiter(settings.rate_limit, settings.rate_burst)
    app.state.context = context = Context(settings, metrics, deployment, scorer, limiter)
    metrics.watch(
        queued=lambda: scorer.queued,
        alive=lambda: context.trouble is None,
        ready=lambda: deployment.is_ready and context.trouble is None,
        gpu_memory=lambda: deployment.gpu_memory,
        scorer_pid=lambda: deployment.scorer_pid,
    )
    _surround(app, rings)
    return app


def _surround(app: FastAPI, rings: tuple[KeyRing, KeyRing]) -> None:
    """Our layers, outside of the framework's: what is answered in the fast lane does not go through those."""
    context, settings = context_of(app), context_of(app).settings
    stack = predict.FastLane(app.build_middleware_stack(), context)
    guard = Guard(stack, settings.max_body_bytes, settings.receive_timeout_s)
    app.middleware_stack = Observation(Security(guard, rings, settings), context.metrics)


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
        # Looked up anew at every request otherwise; /metrics is what watches this app.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    # Pictures and neighbors before the graph, whose path of details takes in all: keys may hold slashes.
    for part in (predict, facts, picture, neighbors, graph, operations, admin):
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
    lag = asyncio.create_task(_measure_lag(context.metrics.loop_lag))
    if context.settings.watch:
        threading.Thread(target=context.deployment.watch, daemon=True).start()
    yield
    context.deployment.draining = True
    lag.cancel()
    context.deployment.close()
    await context.scorer.close(CLOSE_S)


async def _measure_lag(lag: Series) -> None:
    """Between what is asked of the event loop and what it does, again and again."""
    while True:
        due = perf_counter() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        lag.observe(max(0.0, perf_counter() - due))


def _routes(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path template of every documented route."""
    return [(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods]
