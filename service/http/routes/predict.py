"""POST /v1/predict."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from starlette.requests import Request
from starlette.responses import Response

from momok.service.answering.answerer import Answerer
from momok.service.contract.errors import InvalidRequest, ProblemItem, pointer
from momok.service.contract.schemas import PredictRequest
from momok.service.http.work import Work
from momok.service.monitoring.metrics import Told
from momok.service.monitoring.tracing import Stage
from momok.service.scorer.question import Question
from momok.service.settings import Settings

INLINE_NAMES = 256
"""So many are looked up on the event loop in less time than a thread takes to begin."""


async def predict(request: Request) -> Response:
    """Parsed, checked, its names looked up, scored with other requests, and answered."""
    work = Work(request)
    body = work.parsed(PredictRequest)
    _check_limits(body, work.served.settings)
    work.admit(len(body.queries))
    answerer = work.served.answerer
    began = perf_counter()
    questions = await _resolve(body, work, answerer)
    resolved = perf_counter()
    resolve_s = resolved - began
    scored = await work.score(answerer.answer, questions)
    stages = scored.answers[0].stages
    work.exchange.stages = _stages(resolved, scored.wait_s, stages.seconds)
    counted = [written.counted for written in scored.answers]
    work.served.metrics.count(Told(counted, answerer.modality_names, resolve_s, stages.seconds))
    timing = f"resolve;dur={1000 * resolve_s:.3f}, {stages.timing}, queue;dur={1000 * scored.wait_s:.3f}"
    return Response(
        answerer.render(scored.answers), media_type="application/json", headers={"Server-Timing": timing}
    )


def _stages(began: float, wait_s: float, seconds: Mapping[str, float]) -> list[Stage]:
    """Queue, scoring and rendering of a batch, one after the other."""
    scoring = began + wait_s
    rendering = scoring + sum(seconds.values()) - seconds["serialise"]
    return [
        Stage("queue", began, scoring),
        Stage("scoring", scoring, rendering),
        Stage("rendering", rendering, rendering + seconds["serialise"]),
    ]


async def _resolve(body: PredictRequest, work: Work, answerer: Answerer) -> list[Question]:
    """On the event loop where that is quick: few names, all of them known."""
    num_names = 2 * len(body.queries) + (len(body.candidates) if isinstance(body.candidates, list) else 0)
    known = answerer.resolve_known(body) if num_names <= INLINE_NAMES else None
    if known is not None:
        return known
    return await work.looked_up(answerer.resolve, body)


def _check_limits(body: PredictRequest, settings: Settings) -> None:
    """Raises ``InvalidRequest``."""
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
