"""The POST routes of /v1 as the OpenAPI document has them: plain routes answer them (``app.py``)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header

from momok.service.contract.fact_schemas import (
    RankRelationsRequest,
    RankRelationsResponse,
    ScoreRequest,
    ScoreResponse,
)
from momok.service.contract.schemas import PredictRequest, PredictResponse
from momok.service.http.parsing import MOST_MS
from momok.service.http.routes.answers import problems

PROBLEMS = problems(408, 413, 415, 422, 429, 500, 503, 504)
router = APIRouter(prefix="/v1", tags=["prediction"])

Timeout = Annotated[
    int | None,
    Header(
        alias="X-Request-Timeout-Ms",
        ge=1,
        le=MOST_MS,
        description="Answer within this time or not at all; 408 if not.",
    ),
]


@router.post("/predict", response_model=PredictResponse, responses=PROBLEMS)
async def predict(body: PredictRequest, timeout_ms: Timeout = None) -> None:
    """Which entities complete these facts, how well, and which modality and expert was trusted."""


@router.post("/score", response_model=ScoreResponse, responses=PROBLEMS)
async def score(body: ScoreRequest, timeout_ms: Timeout = None) -> None:
    """How well these facts score, and where each end ranks among all entities in its place."""


@router.post("/relations/rank", response_model=RankRelationsResponse, responses=PROBLEMS)
async def rank_relations(body: RankRelationsRequest, timeout_ms: Timeout = None) -> None:
    """Which relations fit best between two entities; no model here was trained for this question."""
