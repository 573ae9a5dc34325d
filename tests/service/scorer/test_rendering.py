"""Answers written as JSON: what a plain reading of the bundle says they should hold."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from momok.model.answer import Query
from momok.model.bundle.bundle import Bundle
from momok.service.answering.answerer import Answerer
from momok.service.contract.schemas import PredictRequest, PredictResponse
from momok.service.scorer import rendering
from momok.service.scorer.local import LocalScorer, ThreadScorer
from momok.service.scorer.question import Question
from momok.service.scorer.rendering import Renderer
from tests.service.builders import Made, make_bundle

NASTY = 'say "hi" \\ \u2028\x01 </script> 🗿'


@pytest.mark.parametrize("explain", [True, False])
def test_what_is_written_is_what_the_model_says(made: Made, explain: bool) -> None:
    scorer, answerer = opened(made.path)
    request = PredictRequest.model_validate(
        {
            "queries": [{"head": "e0", "relation": "r0"}, {"relation": "r1", "tail": "e3"}],
            "k": 60,
            "exclude_known": False,
            "explain": explain,
        }
    )
    asked = answerer.resolve(request)
    scored = scorer.answer([question.query for question in asked])
    body = answerer.render(asyncio.run(answerer.answer(asked)))
    written = PredictResponse.model_validate_json(body)
    assert json.loads(body) == json.loads(written.model_dump_json()), "no field is missing, none too many"
    candidates = Bundle.open(made.path).candidates
    for answer, out in zip(scored, written.answers, strict=True):
        facts = {name: {tuple(fact) for fact in rows.tolist()} for name, rows in made.facts.items()}
        for rank, (entity, offer) in enumerate(zip(answer.ranking.entities, out.candidates, strict=True)):
            assert (offer.rank, offer.entity.key) == (rank + 1, f"e{entity}")
            assert offer.score == answer.ranking.scores[rank]
            ends = (answer.query.entity, int(entity))
            fact = (ends[0], 0, ends[1]) if out.query.missing == "tail" else (ends[1], 1, ends[0])
            splits = [name for name in ("train", "valid", "test") if fact in facts[name]]
            assert offer.known == (splits[0] if splits else False)
            if not explain:
                assert offer.branch_scores is None
                assert offer.modality_weights is None
                assert offer.expert_gates is None
                continue
            assert offer.modality_weights is not None and offer.expert_gates is not None
            weights = candidates.modality_weights[entity].tolist()
            assert list(offer.modality_weights.values()) == pytest.approx(weights, abs=1e-6)
            assert list(offer.branch_scores or {}) == [branch.name for branch in made.model.branches]
            for name, gates in offer.expert_gates.items():
                if name == "image" and entity % 2:
                    assert gates is None
                else:
                    assert gates == pytest.approx(candidates.expert_gates[name][entity].tolist(), abs=1e-6)


def test_a_batch_is_written_as_each_of_it_alone(made: Made) -> None:
    """Of any length, explained or not, with and without marks; the bounds of lists are not mixed up."""
    bundle = Bundle.open(made.path)
    scorer, renderer = LocalScorer(bundle), Renderer(bundle)
    nobody = np.array([], dtype=np.int64)
    questions = [
        Question(Query(entity, relation, k, exclude, nobody if k == 4 else None), explain)
        for entity, relation in ((0, 0), (3, 4), (7, 1))
        for k, exclude in ((1, True), (60, False), (4, True))
        for explain in (True, False)
    ]
    answers = scorer.answer([question.query for question in questions])
    for row in range(0, len(answers), 3):  # Some of theirs are not told, or none.
        scores = answers[row].ranking.scores
        questions[row] = questions[row]._replace(min_score=float(scores[row]) if row < len(scores) else 2.0)
    together = renderer.write(questions, answers)
    assert together == [
        renderer.write([question], answers.taken([row]))[0] for row, question in enumerate(questions)
    ]
    lengths = set()
    for question, answer, text in zip(questions, answers, together, strict=True):
        found, least = json.loads(text), question.min_score
        told = [score for score in answer.ranking.scores.tolist() if least is None or score >= least]
        assert [offer["score"] for offer in found["candidates"]] == told
        assert [offer["rank"] for offer in found["candidates"]] == list(range(1, len(told) + 1))
        assert (found["modality_weights"] is None) != question.explain
        lengths.add(len(told))
    assert len(lengths) > 3


def test_names_of_any_kind_are_written_safely(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "bundle", decision="sum", renamed={7: NASTY})
    answerer = Answerer.open(made.path, "cpu")
    request = PredictRequest.model_validate({"queries": [{"head": NASTY, "relation": "r0"}], "k": 60})
    body = json.loads(answerer.render(asyncio.run(answerer.answer(answerer.resolve(request)))))
    (answer,) = body["answers"]
    assert answer["query"]["head"] == {"key": NASTY, "label": "Entity 7"}


def test_what_is_kept_of_entities_is_bounded(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(made.path)
    asked = Query(1, 0, 60)
    answers = LocalScorer(bundle).answer([asked])
    whole = Renderer(bundle).write([Question(asked)], answers)
    monkeypatch.setattr(rendering, "KEPT", 5)
    other = Renderer(bundle)
    assert other.write([Question(asked)], answers) == whole
    assert len(other._kept) <= 5


def opened(path: Path) -> tuple[LocalScorer, Answerer]:
    bundle = Bundle.open(path)
    scorer = LocalScorer(bundle)
    return scorer, Answerer(bundle, ThreadScorer(scorer))
