"""POST /v1/predict."""

from __future__ import annotations

from time import perf_counter

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from momok.service.answering.answerer import Answerer
from momok.service.contract.errors import InvalidRequest, ProblemItem, ServiceError, pointer
from momok.service.contract.schemas import PredictRequest, PredictResponse
from momok.service.http.limits import Replay
from momok.service.http.problems import answer, left
from momok.service.http.routes.context import (
    MOST_MS,
    Context,
    Served,
    Timeout,
    allowed_s,
    client_of,
    problems,
    resolved,
)
from momok.service.http.scoring import ClientGone, check_room, score
from momok.service.monitoring.metrics import Told
from momok.service.scorer.question import Question

router = APIRouter(prefix="/v1", tags=["prediction"])

PATH = "/predict"
INLINE_NAMES = 256
"""So many are looked up on the event loop in less time than a thread takes to begin."""


@router.post(
    PATH,
    response_model=PredictResponse,
    responses=problems(408, 413, 422, 429, 500, 503, 504),
)
async def predict(
    body: PredictRequest, request: Request, served: Served, timeout_ms: Timeout = None
) -> Response:
    """Which entities complete these facts, how well, and which modality and expert was trusted."""
    return await _predict(served, request.scope, request.receive, body, timeout_ms)


class FastLane:
    """Answers well-formed requests for predictions itself, and leaves all others to the app.

    The app's way to the same function costs several times what the function does; what is wrong with a
    request it tells better.
    """

    def __init__(self, app: ASGIApp, served: Context) -> None:
        self.app = app
        self._served = served
        self._path = f"{router.prefix}{PATH}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        message = await receive()
        asked = _asked(dict(scope["headers"]), message)
        if asked is None:
            await self.app(scope, Replay(message, receive), send)
            return
        scope["route"] = router.routes[0]
        try:
            response = await _predict(self._served, scope, receive, *asked)
        except ServiceError as error:
            response = answer(scope, error)
        except ClientGone:
            response = left(scope)
        await response(scope, receive, send)


def _asked(headers: dict[bytes, bytes], message: Message) -> tuple[PredictRequest, int | None] | None:
    """What is asked, and how many milliseconds there are for it; None where anything is unusual."""
    timeout = headers.get(b"x-request-timeout-ms", b"")
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip()
    whole = message["type"] == "http.request" and not message.get("more_body", False)
    timed = timeout.isdigit() and len(timeout) < 9 and 1 <= int(timeout) <= MOST_MS
    if not whole or kind != b"application/json" or (timeout and not timed):
        return None
    try:
        request = PredictRequest.model_validate_json(message.get("body", b""))
    except ValidationError:
        return None
    return request, int(timeout) if timeout else None


async def _predict(
    served: Context, scope: Scope, receive: Receive, body: PredictRequest, timeout_ms: int | None
) -> Response:
    started = perf_counter()
    scope["state"]["queries"] = len(body.queries)
    _check_limits(body, served)
    served.limiter.admit(client_of(scope), len(body.queries))
    answerer, timeout_s = served.answerer, allowed_s(timeout_ms, served)
    check_room(served.scorer, len(body.queries), timeout_s)
    questions = await _resolve(body, served, answerer)
    found = perf_counter()
    scored = await score(served.scorer, receive, answerer.answering, questions, timeout_s + started - found)
    resolve_s, stages = found - started, scored.answers[0].stages
    counted = [written.counted for written in scored.answers]
    served.metrics.count(Told(counted, answerer.modality_names, resolve_s, stages.seconds))
    timing = f"resolve;dur={1000 * resolve_s:.3f}, {stages.timing}, queue;dur={1000 * scored.wait_s:.3f}"
    return _Rendered(answerer.render(scored.answers), timing)


class _Rendered(Response):
    """A body of JSON that is ready, whose headers are known: the framework goes a longer way to the same."""

    def __init__(self, body: bytes, timing: str) -> None:
        self.status_code, self.background, self.body = 200, None, body
        self.raw_headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"server-timing", timing.encode()),
        ]


async def _resolve(body: PredictRequest, served: Context, answerer: Answerer) -> list[Question]:
    """On the event loop where that is quick: few names, all of them known."""
    num_names = 2 * len(body.queries) + (len(body.candidates) if isinstance(body.candidates, list) else 0)
    known = answerer.resolve_known(body) if num_names <= INLINE_NAMES else None
    # Else in a thread, where there is time to find what may have been meant.
    return known if known is not None else await resolved(served, lambda: answerer.resolve(body))


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
