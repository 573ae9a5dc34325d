"""Context: what every route needs of the app it stands in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Header, Request
from starlette.concurrency import run_in_threadpool
from starlette.types import Scope

from momok.service.answering.answerer import Answerer
from momok.service.batching.batcher import MicroBatcher
from momok.service.contract.errors import InvalidRequest, Problem
from momok.service.deployment.deployment import Deployment
from momok.service.http.limiter import Limiter
from momok.service.http.problems import MEDIA_TYPE
from momok.service.monitoring.metrics import Metrics
from momok.service.settings import Settings

ResultT = TypeVar("ResultT")

SEARCHES = 2
"""Searches for entities at a time: they share threads with what looks up many names, and one connection."""


@dataclass(frozen=True)
class Context:
    settings: Settings
    metrics: Metrics
    deployment: Deployment
    scorer: MicroBatcher
    limiter: Limiter
    searches: asyncio.Semaphore = field(default_factory=partial(asyncio.Semaphore, SEARCHES))

    @property
    def answerer(self) -> Answerer:
        """What answers now, to be asked for once in a request. Raises ``Starting``."""
        return self.deployment.answerer

    @property
    def trouble(self) -> str | None:
        """Why this server should be given up, None while all is well."""
        return self.scorer.trouble or self.deployment.trouble


MOST_MS = 86_400_000

Timeout = Annotated[
    int | None,
    Header(
        alias="X-Request-Timeout-Ms",
        ge=1,
        le=MOST_MS,
        description="Answer within this time or not at all; 504 if not.",
    ),
]


def context_of(app: FastAPI) -> Context:
    context: Context = app.state.context
    return context


async def _served(request: Request) -> Context:
    return context_of(request.app)


Served = Annotated[Context, Depends(_served)]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of the problem documents that a route may answer with."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"model": Problem, "content": {MEDIA_TYPE: {"schema": schema}}, "description": "Problem"}
        for status in statuses
    }


async def resolved(served: Context, resolve: Callable[[], ResultT]) -> ResultT:
    """What names lead to, looked up beside the event loop; those that lead nowhere are counted."""
    try:
        return await run_in_threadpool(resolve)
    except InvalidRequest as error:
        served.metrics.unknown_names.inc(len(error.errors))
        raise


def allowed_s(timeout_ms: int | None, served: Context) -> float:
    """The time that a request has."""
    most_s = served.settings.timeout_s
    return most_s if timeout_ms is None else min(most_s, timeout_ms / 1000)


def client_of(scope: Scope) -> str:
    """Whose tokens a request takes: its key's, or its address's."""
    key: str | None = scope["state"].get("key_name")
    address = scope["client"][0] if scope.get("client") else ""
    return f"key {key}" if key is not None else f"address {address}"
