"""Context: what every route needs of the app it stands in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Request
from starlette.concurrency import run_in_threadpool

from service.answerer import Answerer
from service.errors import InvalidRequest, Problem
from service.metrics import Metrics
from service.problems import MEDIA_TYPE
from service.settings import Settings
from service.worker import ScorerThread

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Context:
    answerer: Answerer
    settings: Settings
    metrics: Metrics
    scorer: ScorerThread


def context_of(app: FastAPI) -> Context:
    context: Context = app.state.context
    return context


def _served(request: Request) -> Context:
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
