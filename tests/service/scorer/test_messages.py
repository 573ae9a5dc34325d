"""Questions and answers arrive as they were sent."""

from __future__ import annotations

import numpy as np
import pytest

from momok.model.answer import Query
from momok.model.bundle.bundle import Bundle
from momok.model.explanation import Explanation
from momok.service.scorer.local import LocalScorer
from momok.service.scorer.messages import (
    SIZES_BYTES,
    framed,
    placed_as_message,
    placed_of,
    questions_as_message,
    questions_of,
    size_of,
    taken_apart,
    written_as_message,
    written_of,
)
from momok.service.scorer.question import Question, Written
from tests.service.builders import Made

SOME = np.array([5, 2, 2], dtype=np.int64)
QUESTIONS = [
    Question(Query(1, 0, 5)),
    Question(Query(2, 4, 3, False, "observed"), False, 0.0),
    Question(Query(3, 1, 1, True, SOME), True, -1.5),
    Question(Query(4, 1, 2, False, np.array([], dtype=np.int64))),
    Question(Query(6, 0, 7, True, SOME)),
]


@pytest.fixture(scope="module")
def scorer(made: Made) -> LocalScorer:
    return LocalScorer(Bundle.open(made.path))


def received(questions: list[Question]) -> list[Question]:
    return questions_of(*taken_apart(framed(*questions_as_message(questions))))


def without_candidates(query: Query) -> dict[str, object]:
    return {name: value for name, value in vars(query).items() if name != "candidates"}


def test_a_message_is_what_its_sizes_say() -> None:
    for body in (b"", b"\x00{}"):
        message = framed({"number": 7}, body)
        assert len(message) == SIZES_BYTES + size_of(message)
        assert taken_apart(message + b"the next") == ({"number": 7}, body)


def test_questions() -> None:
    found = received(QUESTIONS)
    for (query, *options), (asked, *expected) in zip(found, QUESTIONS, strict=True):
        assert without_candidates(query) == without_candidates(asked)
        assert np.array_equal(query.candidates, asked.candidates)  # type: ignore[arg-type]
        assert options == expected
    assert found[2].query.candidates is found[4].query.candidates, "shared, so looked up once"
    for (query, *options), (asked, *expected) in zip(received(QUESTIONS[:2]), QUESTIONS[:2], strict=True):
        assert (vars(query), options) == (vars(asked), expected), "without any set"


def test_what_is_written(scorer: LocalScorer) -> None:
    written = scorer.write(QUESTIONS)
    assert len({answer.counted.engine for answer in written}) == 2, "engines may differ within a batch"
    assert written[3].counted.top_score is None, "nobody was a candidate"
    found = written_of(*taken_apart(framed(*written_as_message(written))))
    assert found == written
    assert all(isinstance(answer, Written) and type(answer.counted.exact) is bool for answer in found)


def test_placed_facts(scorer: LocalScorer) -> None:
    placed = scorer.rank(np.array([1, 2]), np.array([0, 4]), np.array([7, 9]))
    for fact, sent in zip(placed_of(*taken_apart(framed(*placed_as_message(placed)))), placed, strict=True):
        where, expected = fact.result, sent.result
        assert (where.score, where.raw_rank, where.filtered_rank) == (
            expected.score,
            expected.raw_rank,
            expected.filtered_rank,
        )
        assert np.array_equal(where.branch_values, expected.branch_values)
        same_trust(fact.explanation, sent.explanation)


def same_trust(found: Explanation, sent: Explanation) -> None:
    assert np.array_equal(found.modality_weights, sent.modality_weights)
    assert found.relation_temperature == sent.relation_temperature
    assert list(found.expert_gates) == list(sent.expert_gates), "in the same order"
    for name, gates in sent.expert_gates.items():
        if gates is None:
            assert found.expert_gates[name] is None
        else:
            assert np.array_equal(found.expert_gates[name], gates)  # type: ignore[arg-type]
