"""POST /v1/score and /v1/relations/rank: questions that name both ends of a fact."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from momok.service.answering.facts import RelationScores
from momok.service.contract.errors import InvalidRequest, ProblemItem, pointer
from momok.service.contract.fact_schemas import RankRelationsRequest, ScoreRequest
from momok.service.http.work import Work

ResultT = TypeVar("ResultT")
FACTS_AT_ONCE = 4
"""Facts scored in one turn of the scorer: each is two scans of all entities, and others wait meanwhile."""


async def score(request: Request) -> Response:
    """How well facts score, and where each end ranks among all entities in its place."""
    work = Work(request)
    body, limit = work.parsed(ScoreRequest), work.served.settings.max_queries
    if 2 * len(body.facts) > limit:
        detail = (
            f"{len(body.facts)} facts, each two queries; this server takes {limit} queries in one request"
        )
        raise InvalidRequest([ProblemItem(pointer=pointer("facts"), detail=detail)])
    work.admit(2 * len(body.facts), turn=1)
    facts = work.served.answerer.facts
    ids = await work.looked_up(facts.resolve, body)
    parts = [ids[start : start + FACTS_AT_ONCE] for start in range(0, len(ids), FACTS_AT_ONCE)]
    placed = list(chain(*[await _turn(work, partial(facts.score, part), 2 * len(part)) for part in parts]))
    return await _rendered(work, lambda: facts.render(body, ids, placed))


async def rank_relations(request: Request) -> Response:
    """Which relations fit best between two entities."""
    work = Work(request)
    body, limit = work.parsed(RankRelationsRequest), work.served.settings.max_k
    if body.k > limit:
        detail = f"{body.k} relations; this server gives at most {limit}"
        raise InvalidRequest([ProblemItem(pointer=pointer("k"), detail=detail)])
    facts = work.served.answerer.facts
    parts = facts.relation_parts()
    work.admit(2 * sum(map(len, parts)), turn=1)
    head, tail = await work.looked_up(facts.resolve_pair, body)
    scores = RelationScores.joined(
        [await _turn(work, partial(facts.score_relations, head, tail, part), 2 * len(part)) for part in parts]
    )
    return await _rendered(work, lambda: facts.render_relations(body, head, tail, scores))


async def _turn(work: Work, call: Callable[[], Awaitable[ResultT]], size: int) -> ResultT:
    """One turn of the scorer, of the length of ``size`` queries."""

    async def answers(_: Sequence[None]) -> list[ResultT]:
        return [await call()]

    return (await work.score(answers, [None], size)).answers[0]


async def _rendered(work: Work, render: Callable[[], BaseModel]) -> Response:
    body = await work.looked_up(lambda: render().model_dump_json())
    work.served.metrics.queries.inc(work.exchange.queries)
    return Response(body, media_type="application/json")
