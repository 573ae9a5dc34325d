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
from momok.service.http.access import Access
from momok.service.http.connections import Connections
from momok.service.http.context import Context, context_of
from momok.service.http.gate import Gate
from momok.service.http.limiter import Limiter
from momok.service.http.observation import Observation
from momok.service.http.paths import Paths
from momok.service.http.routes import (
    admin,
    documentation,
    documented,
    facts,
    graph,
    neighbors,
    operations,
    picture,
    predict,
)
from momok.service.http.routes.answers import problems as problem_responses
from momok.service.monitoring.histogram import Series
from momok.service.monitoring.metrics import Metrics
from momok.service.monitoring.tracing import Tracer
from momok.service.settings import Settings

PREDICTIONS = {
    "/v1/predict": predict.predict,
    "/v1/score": facts.score,
    "/v1/relations/rank": facts.rank_relations,
}
"""Plain routes: FastAPI's way to an endpoint costs several times as much as the endpoint does."""
CLOSE_S = 5.0
"""How long a scorer that is done by rights may take to end."""
GIVEN_UP = 2
"""A scorer is ended after ``stuck_s``; if that does not help for as long again, the server is not alive."""
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
    connections = Connections(settings.max_connections)
    access = Access(settings)
    tracer = Tracer.from_environment() if settings.traces else None
    app = build_api()
    paths = Paths(app.openapi()["paths"])
    metrics = Metrics(paths.operations)
    deployment = Deployment(
        settings, open_bundle, metrics.serve, lambda result: metrics.reloads[result].inc()
    )
    scorer = MicroBatcher(
        lanes=settings.scorers,
        max_batch=settings.max_batch,
        max_queue=settings.max_queue,
        stuck_s=GIVEN_UP * settings.stuck_s,
        max_failures=settings.max_failures,
        check=lambda: deployment.answerer.check(),
        on_batch=metrics.batch,
    )
    metrics.queue_limit.set(settings.max_queue)
    limiter = Limiter(settings.rate_limit, settings.rate_burst)
    app.state.context = context = Context(
        settings, metrics, deployment, scorer, access, limiter, connections, tracer
    )
    metrics.watch(
        queued=lambda: scorer.queued,
        connections=lambda: len(connections),
        alive=lambda: context.trouble is None,
        ready=lambda: deployment.is_ready and context.trouble is None,
        gpu_memory=lambda: deployment.gpu_memory,
        scorer_pid=lambda: next(iter(deployment.scorer_pids), 0),
    )
    app.add_middleware(Gate, context, paths)
    app.add_middleware(Observation, context, paths)  # The outermost, as it is added last.
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
        generate_unique_id_function=lambda route: route.name,
        # /metrics is what watches this app; otherwise looked up anew at every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    for path, endpoint in PREDICTIONS.items():
        app.add_route(path, endpoint, methods=["POST"])
    # Pictures and neighbors before the graph, whose path of details takes in all: keys may hold slashes.
    for part in (documented, picture, neighbors, graph, operations, admin):
        app.include_router(part.router, responses=problem_responses(401, 421))
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
    context.lookups.close()
    if context.tracer is not None:
        context.tracer.close()
    context.deployment.close()
    await context.scorer.close(CLOSE_S)


async def _measure_lag(lag: Series) -> None:
    """Between what is asked of the event loop and what it does, again and again."""
    while True:
        due = perf_counter() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        lag.observe(max(0.0, perf_counter() - due))
