"""POST /v1/predict."""

from __future__ import annotations

from time import perf_counter
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from model.scorer import Query
from service.answerer import Answerer
from service.errors import InvalidRequest, ProblemItem, pointer
from service.routes.context import Context, Served, problems
from service.schemas import PredictRequest, PredictResponse
from service.scoring import score

router = APIRouter(prefix="/v1", tags=["prediction"])

INLINE_NAMES, INLINE_CANDIDATES = 256, 256
"""So many are looked up or written on the event loop in less time than a thread takes to begin."""

Timeout = Annotated[
    int | None,
    Header(
        alias="X-Request-Timeout-Ms", ge=1, description="Answer within this time or not at all; 504 if not."
    ),
]


@router.post(
    "/predict",
    response_model=PredictResponse,
    responses=problems(408, 413, 422, 429, 500, 503, 504),
)
async def predict(
    body: PredictRequest, request: Request, served: Served, timeout_ms: Timeout = None
) -> Response:
    """Which entities complete these facts, how well, and which modality and expert was trusted."""
    started = perf_counter()
    state = request.scope["state"]
    state["queries"] = len(body.queries)
    _check_limits(body, served)
    served.limiter.admit(_client(request), len(body.queries))
    answerer = served.answerer
    queries = await _resolve(body, served, answerer)
    resolved = perf_counter()
    scored = await score(
        served.scorer, request, answerer.score, queries, _timeout_s(timeout_ms, served) + started - resolved
    )
    answers, received = scored.answers, perf_counter()
    if len(queries) * body.k <= INLINE_CANDIDATES:
        content = answerer.render(body, answers)
    else:
        content = await run_in_threadpool(answerer.render, body, answers)
    seconds = {
        "resolve": resolved - started, **answers[0].seconds, "serialise": perf_counter() - received
    }  # fmt: skip
    served.metrics.count(answers, answerer.modality_names, seconds)
    timing = ", ".join(
        f"{name};dur={1000 * taken_s:.3f}" for name, taken_s in (seconds | {"queue": scored.wait_s}).items()
    )
    return Response(content, media_type="application/json", headers={"Server-Timing": timing})


async def _resolve(body: PredictRequest, served: Context, answerer: Answerer) -> list[Query]:
    """On the event loop where that is quick: few names, all of them known."""
    num_names = 2 * len(body.queries) + (len(body.candidates) if isinstance(body.candidates, list) else 0)
    try:
        if num_names <= INLINE_NAMES:
            try:
                return answerer.resolve(body, suggest=False)
            except InvalidRequest:
                pass  # To be told what may have been meant, which takes searching.
        return await run_in_threadpool(answerer.resolve, body)
    except InvalidRequest as error:
        served.metrics.unknown_names.inc(len(error.errors))
        raise


def _timeout_s(timeout_ms: int | None, served: Context) -> float:
    most_s = served.settings.timeout_s
    return most_s if timeout_ms is None else min(most_s, timeout_ms / 1000)


def _client(request: Request) -> str:
    """Whose tokens a request takes: its key's, or its address's."""
    key: str | None = request.scope["state"].get("key_name")
    address = request.client.host if request.client else ""
    return f"key {key}" if key is not None else f"address {address}"


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
