"""Facts: how whole facts score, and which relations fit two entities best.

In the same three steps as the Answerer: ``resolve``, ``score`` on the event loop, ``render``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from momok.model.arrays import Float64, Int64
from momok.model.bundle.catalogue import Catalogue
from momok.model.explanation import explanation_out
from momok.model.filter_index import first_split
from momok.model.kinds import Split
from momok.model.scorer import RankedFact
from momok.model.scores import FUSIONS
from momok.service.answering.lookup import Lookup
from momok.service.contract.fact_schemas import (
    EndOut,
    EndsOut,
    FactOut,
    RankedRelationOut,
    RankRelationsRequest,
    RankRelationsResponse,
    ScoredEndsOut,
    ScoredFactOut,
    ScoreRequest,
    ScoreResponse,
)
from momok.service.contract.schemas import EntityOut, ModelRef, RelationOut
from momok.service.scorer.local import AnyScorer

RELATIONS_AT_ONCE = 16
"""Relations scored in one turn of the scorer, so that other requests need not wait for hundreds of them."""


@dataclass(frozen=True)
class RelationScores:
    """``ends`` float64[R, 2]: the score of each fact asked for its tail and for its head; ``branches``
    float64[R, branches]: what the branches add to the mean of both."""

    ends: Float64
    branches: Float64

    @classmethod
    def joined(cls, parts: Sequence[RelationScores]) -> RelationScores:
        return cls(
            np.concatenate([part.ends for part in parts]),
            np.concatenate([part.branches for part in parts]),
        )


class Facts:
    def __init__(self, bundle: Catalogue, scorer: AnyScorer, reference: ModelRef) -> None:
        self._known = bundle.known
        self._vocabulary = bundle.vocabulary
        self._branches, self._modalities = bundle.branch_names, bundle.modality_names
        self._num_relations = bundle.num_relations
        self._score_kind = FUSIONS[bundle.decision].score_kind
        self._scorer = scorer
        self._reference = reference

    def resolve(self, request: ScoreRequest) -> Int64:
        """The facts, int64[F, 3]. Raises ``InvalidRequest`` that lists every bad name."""
        lookup = Lookup(self._vocabulary)
        ids = [
            (
                lookup.entity(fact.head, ("facts", index, "head")),
                lookup.relation(fact.relation, ("facts", index, "relation")),
                lookup.entity(fact.tail, ("facts", index, "tail")),
            )
            for index, fact in enumerate(request.facts)
        ]
        lookup.finish()
        return np.array(ids, dtype=np.int64)

    async def score(self, fact_F3: Int64) -> list[tuple[RankedFact, RankedFact]]:
        """Each fact as an answer to the query for its tail, and to that for its head."""
        placed = await self._scorer.rank(*self._both_ways(fact_F3))
        return list(zip(placed[: len(fact_F3)], placed[len(fact_F3) :], strict=True))

    def render(
        self, request: ScoreRequest, fact_F3: Int64, placed: Sequence[tuple[RankedFact, RankedFact]]
    ) -> ScoreResponse:
        return ScoreResponse(
            model=self._reference,
            facts=[
                self._scored(fact, pair, request.explain)
                for fact, pair in zip(fact_F3.tolist(), placed, strict=True)
            ],
            score_kind=self._score_kind,
        )

    def resolve_pair(self, request: RankRelationsRequest) -> tuple[int, int]:
        """Head and tail. Raises ``InvalidRequest`` that lists both names where both are bad."""
        lookup = Lookup(self._vocabulary)
        pair = lookup.entity(request.head, ("head",)), lookup.entity(request.tail, ("tail",))
        lookup.finish()
        return pair

    def relation_parts(self) -> list[range]:
        """All relations, so many at a time as one turn of the scorer takes."""
        starts = range(0, self._num_relations, RELATIONS_AT_ONCE)
        return [range(s, min(s + RELATIONS_AT_ONCE, self._num_relations)) for s in starts]

    async def score_relations(self, head: int, tail: int, relations: range) -> RelationScores:
        facts = np.array([(head, relation, tail) for relation in relations], dtype=np.int64)
        score_Q, value_QS = await self._scorer.score(*self._both_ways(facts))
        halves = value_QS.reshape(2, len(facts), -1)
        return RelationScores(score_Q.reshape(2, -1).T, halves.mean(axis=0))

    def render_relations(
        self, request: RankRelationsRequest, head: int, tail: int, scores: RelationScores
    ) -> RankRelationsResponse:
        """The best ``k`` relations, ties by id."""
        mean_R = scores.ends.mean(axis=1)
        order = np.argsort(-mean_R, kind="stable")[: request.k].tolist()
        return RankRelationsResponse(
            model=self._reference,
            head=self._entity(head),
            tail=self._entity(tail),
            relations=[
                RankedRelationOut(
                    rank=rank,
                    relation=self._relation(relation),
                    score=float(mean_R[relation]),
                    ends=EndsOut(tail=float(scores.ends[relation, 0]), head=float(scores.ends[relation, 1])),
                    known=self._split(head, relation, tail),
                    branch_scores=self._by_branch(scores.branches[relation]) if request.explain else None,
                )
                for rank, relation in enumerate(order, start=1)
            ],
            score_kind=self._score_kind,
        )

    def _both_ways(self, fact_F3: Int64) -> tuple[Int64, Int64, Int64]:
        """Entity, relation and answer of the queries for the tails, then of those for the heads."""
        head, relation, tail = fact_F3.T
        return (
            np.concatenate([head, tail]),
            np.concatenate([relation, relation + self._num_relations]),
            np.concatenate([tail, head]),
        )

    def _scored(self, fact: list[int], pair: tuple[RankedFact, RankedFact], explain: bool) -> ScoredFactOut:
        head, relation, tail = fact
        by_tail, by_head = (self._end(placed, explain) for placed in pair)
        return ScoredFactOut(
            fact=FactOut(head=self._entity(head), relation=self._relation(relation), tail=self._entity(tail)),
            known=self._split(head, relation, tail),
            score=(by_tail.score + by_head.score) / 2,
            ends=ScoredEndsOut(head=by_head, tail=by_tail),
        )

    def _end(self, placed: RankedFact, explain: bool) -> EndOut:
        where = placed.result
        trusted = explanation_out(self._modalities, placed.explanation)
        return EndOut(
            score=where.score,
            raw_rank=where.raw_rank,
            filtered_rank=where.filtered_rank,
            branch_scores=self._by_branch(where.branch_values) if explain else None,
            **(trusted if explain else dict.fromkeys(trusted)),
        )

    def _split(self, head: int, relation: int, tail: int) -> Literal[False] | Split:
        (code,) = self._known.split_codes(head, relation, np.array([tail])).tolist()
        return first_split(code) if code else False

    def _by_branch(self, values: Float64) -> dict[str, float]:
        return dict(zip(self._branches, values.tolist(), strict=True))

    def _entity(self, entity: int) -> EntityOut:
        return EntityOut.of(self._vocabulary.entities, entity)

    def _relation(self, relation: int) -> RelationOut:
        return RelationOut.of(self._vocabulary.relations, relation)
