"""POST /v1/score and /v1/relations/rank: questions that name both ends of a fact."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain
from time import perf_counter
from typing import TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from momok.service.answering.facts import RelationScores
from momok.service.contract.errors import InvalidRequest, ProblemItem, pointer
from momok.service.contract.fact_schemas import (
    RankRelationsRequest,
    RankRelationsResponse,
    ScoreRequest,
    ScoreResponse,
)
from momok.service.http import scoring
from momok.service.http.routes.context import (
    Context,
    Served,
    Timeout,
    allowed_s,
    client_of,
    problems,
    resolved,
)

ResultT = TypeVar("ResultT")
FACTS_AT_ONCE = 4
"""Facts scored in one turn of the scorer: each is two scans of all entities, and others wait meanwhile."""

PROBLEMS = problems(408, 413, 422, 429, 500, 503, 504)

router = APIRouter(prefix="/v1", tags=["prediction"])


@router.post("/score", response_model=ScoreResponse, responses=PROBLEMS)
async def score(body: ScoreRequest, request: Request, served: Served, timeout_ms: Timeout = None) -> Response:
    """How well these facts score, and where each end ranks among all entities in its place."""
    limit = served.settings.max_queries
    if 2 * len(body.facts) > limit:
        detail = (
            f"{len(body.facts)} facts, each two queries; this server takes {limit} queries in one request"
        )
        raise InvalidRequest([ProblemItem(pointer=pointer("facts"), detail=detail)])
    work = _Work(served, request, 2 * len(body.facts), timeout_ms)
    facts = served.answerer.facts
    ids = await resolved(served, lambda: facts.resolve(body))
    starts = range(0, len(ids), FACTS_AT_ONCE)
    parts = [ids[start : start + FACTS_AT_ONCE] for start in starts]
    placed = list(chain(*[await work.score(partial(facts.score, part), 2 * len(part)) for part in parts]))
    response = await run_in_threadpool(lambda: facts.render(body, ids, placed).model_dump_json())
    served.metrics.queries.inc(2 * len(body.facts))
    return Response(response, media_type="application/json")


@router.post(
    "/relations/rank",
    response_model=RankRelationsResponse,
    responses=PROBLEMS,
)
async def rank_relations(
    body: RankRelationsRequest, request: Request, served: Served, timeout_ms: Timeout = None
) -> Response:
    """Which relations fit best between two entities; no model here was trained for this question."""
    if body.k > served.settings.max_k:
        detail = f"{body.k} relations; this server gives at most {served.settings.max_k}"
        raise InvalidRequest([ProblemItem(pointer=pointer("k"), detail=detail)])
    facts = served.answerer.facts
    parts = facts.relation_parts()
    work = _Work(served, request, 2 * sum(map(len, parts)), timeout_ms)
    head, tail = await resolved(served, lambda: facts.resolve_pair(body))
    scores = RelationScores.joined(
        [await work.score(partial(facts.score_relations, head, tail, part), 2 * len(part)) for part in parts]
    )
    response = await run_in_threadpool(
        lambda: facts.render_relations(body, head, tail, scores).model_dump_json()
    )
    served.metrics.queries.inc(2 * len(scores.ends))
    return Response(response, media_type="application/json")


class _Work:
    """What one request has the scorer do, in one turn or several, all within its time.

    Raises ``RateLimited`` where the client has asked too much, ``QueueFull`` where nothing more may wait.
    """

    def __init__(self, served: Context, request: Request, num_queries: int, timeout_ms: int | None) -> None:
        request.scope["state"]["queries"] = num_queries
        served.limiter.admit(client_of(request.scope), num_queries)
        self._scorer, self._receive = served.scorer, request.receive
        timeout_s = allowed_s(timeout_ms, served)
        self._deadline = perf_counter() + timeout_s
        scoring.check_room(self._scorer, 1, timeout_s)

    async def score(self, call: Callable[[], ResultT], size: int) -> ResultT:
        """One turn, of the length of ``size`` queries. Raises as ``momok.service.http.scoring.score``."""
        left_s = self._deadline - perf_counter()
        scored = await scoring.score(self._scorer, self._receive, lambda _: [call()], [None], left_s, size)
        return scored.answers[0]
