"""Context: what every route needs of the app it stands in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from service.answerer import Answerer
from service.errors import Problem
from service.metrics import Metrics
from service.problems import MEDIA_TYPE
from service.settings import Settings
from service.worker import ScorerThread


@dataclass(frozen=True)
class Context:
    answerer: Answerer
    settings: Settings
    metrics: Metrics
    scorer: ScorerThread


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Served = Annotated[Context, Depends(_context)]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of the problem documents that a route may answer with."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"model": Problem, "content": {MEDIA_TYPE: {"schema": schema}}, "description": "Problem"}
        for status in statuses
    }
