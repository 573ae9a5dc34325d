"""Context: what every route needs of the app it stands in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request

from service.answerer import Answerer
from service.batcher import MicroBatcher
from service.deployment import Deployment
from service.errors import Problem
from service.limiter import Limiter
from service.metrics import Metrics
from service.problems import MEDIA_TYPE
from service.settings import Settings


@dataclass(frozen=True)
class Context:
    settings: Settings
    metrics: Metrics
    deployment: Deployment
    scorer: MicroBatcher
    limiter: Limiter

    @property
    def answerer(self) -> Answerer:
        """What answers now, to be asked for once in a request. Raises ``Starting``."""
        return self.deployment.answerer


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
