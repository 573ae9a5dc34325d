"""POST /v1/score and /v1/relations/rank: questions that name both ends of a fact."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from service.errors import InvalidRequest, ProblemItem, pointer
from service.fact_schemas import RankRelationsRequest, RankRelationsResponse, ScoreRequest, ScoreResponse
from service.facts import RelationScores
from service.routes.context import Served, problems, resolved

router = APIRouter(prefix="/v1", tags=["prediction"])


@router.post("/score", response_model=ScoreResponse, responses=problems(422, 500))
async def score(body: ScoreRequest, served: Served) -> Response:
    """How well these facts score, and where each end ranks among all entities in its place."""
    limit = served.settings.max_queries
    if 2 * len(body.facts) > limit:
        detail = (
            f"{len(body.facts)} facts, each two queries; this server takes {limit} queries in one request"
        )
        raise InvalidRequest([ProblemItem(pointer=pointer("facts"), detail=detail)])
    facts = served.answerer.facts
    ids = await resolved(served, lambda: facts.resolve(body))
    placed = await served.scorer.run(lambda: facts.score(ids))
    response = await run_in_threadpool(lambda: facts.render(body, ids, placed).model_dump_json())
    served.metrics.queries.inc(2 * len(body.facts))
    return Response(response, media_type="application/json")


@router.post("/relations/rank", response_model=RankRelationsResponse, responses=problems(422, 500))
async def rank_relations(body: RankRelationsRequest, served: Served) -> Response:
    """Which relations fit best between two entities; no model here was trained for this question."""
    if body.k > served.settings.max_k:
        detail = f"{body.k} relations; this server gives at most {served.settings.max_k}"
        raise InvalidRequest([ProblemItem(pointer=pointer("k"), detail=detail)])
    facts = served.answerer.facts
    head, tail = await resolved(served, lambda: facts.resolve_pair(body))
    scores = RelationScores.joined(
        [
            await served.scorer.run(partial(facts.score_relations, head, tail, part))
            for part in facts.relation_parts()
        ]
    )
    response = await run_in_threadpool(
        lambda: facts.render_relations(body, head, tail, scores).model_dump_json()
    )
    served.metrics.queries.inc(2 * len(scores.ends))
    return Response(response, media_type="application/json")
