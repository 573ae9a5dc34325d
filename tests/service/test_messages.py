"""Questions and answers arrive as they were sent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.bundle import Bundle
from model.scorer import Answer, PlacedFact, Query, Scorer
from service.messages import (
    answers_as_message,
    answers_of,
    pack,
    placed_as_message,
    placed_of,
    queries_as_arrays,
    queries_of,
    unpack,
)
from tests.service.builders import Made

SOME = np.array([5, 2, 2], dtype=np.int64)
QUERIES = [
    Query(1, 0, 5),
    Query(2, 4, 3, False, "observed"),
    Query(3, 1, 1, True, SOME),
    Query(4, 1, 2, False, np.array([], dtype=np.int64)),
    Query(6, 0, 7, True, SOME),
]


@pytest.fixture(scope="module")
def scorer(made: Made) -> Scorer:
    bundle = Bundle.open(made.path)
    return Scorer(bundle.model, bundle.candidates, bundle.known)


def received(queries: list[Query]) -> list[Query]:
    return queries_of(unpack(pack({}, queries_as_arrays(queries)))[1])


def test_queries() -> None:
    found = received(QUERIES)
    for query, asked in zip(found, QUERIES, strict=True):
        assert replace(query, candidates=None) == replace(asked, candidates=None)
        assert np.array_equal(query.candidates, asked.candidates)  # type: ignore[arg-type]
    assert found[2].candidates is found[4].candidates, "shared, so looked up once"
    assert received(QUERIES[:2]) == QUERIES[:2], "without any set"


def test_answers(scorer: Scorer) -> None:
    answers = scorer.answer(QUERIES[:3])
    answers[1] = replace(
        answers[1], relation_temperature=None, expert_gates={**answers[1].expert_gates, "image": None}
    )
    found = answers_of(QUERIES[:3], *unpack(pack(*answers_as_message(answers))))
    assert len({answer.ranking.engine for answer in answers}) == 2, "engines may differ within a batch"
    for answer, sent in zip(found, answers, strict=True):
        assert answer.query is sent.query
        assert (answer.num_excluded, answer.seconds) == (sent.num_excluded, sent.seconds)
        ranking, expected = answer.ranking, sent.ranking
        assert (ranking.exact, ranking.engine, ranking.depth) == (
            expected.exact,
            expected.engine,
            expected.depth,
        )
        for name in ("entities", "scores", "branch_values"):
            sent_part = getattr(expected, name)
            assert np.array_equal(getattr(ranking, name), sent_part)
            assert getattr(ranking, name).dtype == sent_part.dtype
        same_trust(answer, sent)


def test_an_answer_without_gates_or_candidates(scorer: Scorer) -> None:
    (answer,) = scorer.answer([QUERIES[3]])
    answer = replace(answer, expert_gates={})
    (found,) = answers_of([QUERIES[3]], *unpack(pack(*answers_as_message([answer]))))
    assert len(found.ranking.scores) == 0
    assert found.ranking.branch_values.shape == answer.ranking.branch_values.shape
    assert found.expert_gates == {}


def test_placed_facts(scorer: Scorer) -> None:
    placed = scorer.place(np.array([1, 2]), np.array([0, 4]), np.array([7, 9]))
    for fact, sent in zip(placed_of(*unpack(pack(*placed_as_message(placed)))), placed, strict=True):
        where, expected = fact.placement, sent.placement
        assert (where.score, where.raw_rank, where.filtered_rank) == (
            expected.score,
            expected.raw_rank,
            expected.filtered_rank,
        )
        assert np.array_equal(where.branch_values, expected.branch_values)
        same_trust(fact, sent)


def same_trust(found: Answer | PlacedFact, sent: Answer | PlacedFact) -> None:
    assert np.array_equal(found.modality_weights, sent.modality_weights)
    assert found.relation_temperature == sent.relation_temperature
    assert list(found.expert_gates) == list(sent.expert_gates), "in the same order"
    for name, gates in sent.expert_gates.items():
        if gates is None:
            assert found.expert_gates[name] is None
        else:
            assert np.array_equal(found.expert_gates[name], gates)  # type: ignore[arg-type]
