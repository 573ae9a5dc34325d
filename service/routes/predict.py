"""POST /v1/predict."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from fastapi import APIRouter
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from model.scorer import Answer
from service.answerer import Answerer
from service.errors import InvalidRequest, ProblemItem, pointer
from service.routes.context import Context, Served, problems, resolved
from service.schemas import PredictRequest, PredictResponse

router = APIRouter(prefix="/v1", tags=["prediction"])


@router.post("/predict", response_model=PredictResponse, responses=problems(422, 500))
async def predict(body: PredictRequest, served: Served) -> Response:
    """Which entities complete these facts, how well, and which modality and expert was trusted."""
    _check_limits(body, served)
    started = perf_counter()
    queries = await resolved(served, lambda: served.answerer.resolve(body))
    found = perf_counter()
    answers = await served.scorer.run(lambda: served.answerer.score(queries))
    scored = perf_counter()
    content, response = await run_in_threadpool(_render, body, answers, served.answerer)
    served.metrics.count(response)
    for stage, seconds in (
        ("resolve", found - started),
        ("score", scored - found),
        ("render", perf_counter() - scored),
    ):
        served.metrics.stage_seconds.labels(stage).observe(seconds)
    return Response(content, media_type="application/json")


def _render(
    body: PredictRequest, answers: Sequence[Answer], answerer: Answerer
) -> tuple[str, PredictResponse]:
    response = answerer.render(body, answers)
    return response.model_dump_json(), response


def _check_limits(body: PredictRequest, served: Context) -> None:
    settings = served.settings
    items = []
    if len(body.queries) > settings.max_queries:
        detail = f"{len(body.queries)} queries; this server takes {settings.max_queries} in one request"
        items.append(ProblemItem(pointer=pointer("queries"), detail=detail))
    if body.k > settings.max_k:
        detail = f"{body.k} candidates; this server gives at most {settings.max_k}"
        items.append(ProblemItem(pointer=pointer("k"), detail=detail))
    if not items and len(body.queries) * body.k > settings.max_candidates:
        detail = (
            f"{len(body.queries)} queries of {body.k} candidates; this server gives at most "
            f"{settings.max_candidates} in one request: ask for fewer, or in several requests"
        )
        items.append(ProblemItem(pointer=pointer("k"), detail=detail))
    if items:
        raise InvalidRequest(items)
