"""The scorer: its answers are those of plain loops over the model's own numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from momok.model.answer import Answer, Query
from momok.model.bundle.bundle import Bundle
from momok.model.networks.base import LinkPredictor
from momok.model.scorer import Scorer

NUM_ENTITIES, NUM_RELATIONS = 40, 4


@pytest.fixture(scope="module")
def bundle(small_bundle: Path) -> Bundle:
    return Bundle.open(small_bundle)


@pytest.fixture(scope="module")
def scorer(bundle: Bundle) -> Scorer:
    return Scorer(bundle.model, bundle.candidates, bundle.known)


def all_queries(k: int, *, exclude_known: bool) -> list[Query]:
    return [
        Query(entity, relation, k, exclude_known=exclude_known)
        for entity in range(NUM_ENTITIES)
        for relation in range(2 * NUM_RELATIONS)
    ]


@torch.inference_mode()
def plain_scores(bundle: Bundle, entity: int, relation: int) -> dict[int, list[float]]:
    """The probability that each branch gives to each candidate, from the tables as shipped."""
    encoding = bundle.model.encode(torch.tensor([entity]), torch.tensor([relation]))
    scores: dict[int, list[float]] = {candidate: [] for candidate in range(NUM_ENTITIES)}
    for branch, rows in bundle.candidates.vectors.items():
        query = encoding.query[branch][0].tolist()
        for candidate, row in enumerate(rows.tolist()):
            logit = math.fsum(a * b for a, b in zip(query, row, strict=True))
            scores[candidate].append(1 / (1 + math.exp(-logit)))
    return scores


def plain_known(facts: dict[str, np.ndarray], entity: int, relation: int) -> set[int]:
    triples = [tuple(fact) for split in facts.values() for fact in split.tolist()]
    if relation < NUM_RELATIONS:
        return {tail for head, between, tail in triples if (head, between) == (entity, relation)}
    return {head for head, between, tail in triples if (tail, between) == (entity, relation - NUM_RELATIONS)}


def assert_answer(answer: Answer, scores: dict[int, list[float]], wanted: set[int], k: int) -> None:
    means = {candidate: sum(scores[candidate]) / len(scores[candidate]) for candidate in wanted}
    expected = sorted(wanted, key=lambda candidate: (-means[candidate], candidate))[:k]
    ranking = answer.ranking
    assert ranking.entities.tolist() == expected
    assert ranking.scores.tolist() == pytest.approx([means[entity] for entity in expected], rel=1e-5)
    for entity, values in zip(expected, ranking.branch_values.tolist(), strict=True):
        assert values == pytest.approx(scores[entity], rel=1e-5)
    assert ranking.exact


@pytest.mark.parametrize("exclude_known", [True, False])
def test_answers_are_those_of_plain_loops(
    bundle: Bundle, scorer: Scorer, facts: dict[str, np.ndarray], exclude_known: bool
) -> None:
    queries = all_queries(5, exclude_known=exclude_known)
    answers = list(scorer.answer(queries))
    assert [answer.query for answer in answers] == queries
    for answer in answers[::7]:
        query = answer.query
        known = plain_known(facts, query.entity, query.relation) if exclude_known else set()
        scores = plain_scores(bundle, query.entity, query.relation)
        assert_answer(answer, scores, set(range(NUM_ENTITIES)) - known, 5)


def test_known_answers_of_every_split_are_left_out_or_not(
    scorer: Scorer, facts: dict[str, np.ndarray]
) -> None:
    for split in facts.values():
        head, relation, tail = split[0].tolist()
        for entity, asked, answer in ((head, relation, tail), (tail, relation + NUM_RELATIONS, head)):
            without, with_known = scorer.answer(
                [
                    Query(entity, asked, NUM_ENTITIES),
                    Query(entity, asked, NUM_ENTITIES, exclude_known=False),
                ]
            )
            assert answer not in without.ranking.entities
            assert answer in with_known.ranking.entities
            assert len(with_known.ranking.entities) == NUM_ENTITIES
            known = plain_known(facts, entity, asked)
            assert set(with_known.ranking.entities.tolist()) - known == set(without.ranking.entities.tolist())


@pytest.mark.parametrize("exclude_known", [True, False])
def test_observed_candidates_have_been_an_answer_of_the_relation(
    bundle: Bundle, scorer: Scorer, facts: dict[str, np.ndarray], exclude_known: bool
) -> None:
    for relation in range(2 * NUM_RELATIONS):
        observed = set().union(*(plain_known(facts, entity, relation) for entity in range(NUM_ENTITIES)))
        query = Query(3, relation, NUM_ENTITIES, exclude_known=exclude_known, candidates="observed")
        wanted = observed - plain_known(facts, 3, relation) if exclude_known else observed
        assert_answer(scorer.answer([query])[0], plain_scores(bundle, 3, relation), wanted, NUM_ENTITIES)


def test_a_relation_in_no_fact_has_no_observed_candidates(scorer: Scorer) -> None:
    answer = scorer.answer([Query(0, NUM_RELATIONS - 1, 10, candidates="observed")])[0]
    assert answer.ranking.entities.tolist() == []


def test_given_candidates_are_ranked_once_each_in_whatever_order_they_come(
    bundle: Bundle, scorer: Scorer
) -> None:
    given = np.array([9, 3, 30, 3, 9, 12])
    answer = scorer.answer([Query(1, 2, 10, exclude_known=False, candidates=given)])[0]
    assert_answer(answer, plain_scores(bundle, 1, 2), {3, 9, 12, 30}, 10)
    known = np.array([0], dtype=np.int64)
    assert scorer.answer([Query(1, 2, 10, candidates=known[:0])])[0].ranking.entities.tolist() == []


def test_a_query_alone_is_answered_as_in_a_batch(scorer: Scorer) -> None:
    together = list(scorer.answer(all_queries(6, exclude_known=True)))
    for answer in together[::11]:
        alone = scorer.answer([answer.query])[0]
        assert alone.ranking.entities.tolist() == answer.ranking.entities.tolist()
        np.testing.assert_allclose(alone.ranking.scores, answer.ranking.scores, rtol=1e-5)
        np.testing.assert_allclose(alone.modality_weights, answer.modality_weights, atol=1e-6)


@torch.inference_mode()
def test_an_answer_tells_what_its_encoding_trusted(bundle: Bundle, scorer: Scorer) -> None:
    for answer in list(scorer.answer(all_queries(1, exclude_known=True)))[::5]:
        entity, relation = answer.query.entity, answer.query.relation
        encoding = bundle.model.encode(torch.tensor([entity]), torch.tensor([relation]))
        weights = encoding.modality_weights[0].tolist()
        assert answer.modality_weights.tolist() == pytest.approx(weights, abs=1e-6)
        assert encoding.relation_temperature is not None
        assert answer.relation_temperature == pytest.approx(float(encoding.relation_temperature), abs=1e-6)
        for place, modality in enumerate(bundle.model.modality_names):
            gates = answer.expert_gates[modality]
            if bundle.model.present[entity, place]:
                assert gates is not None
                expected = encoding.expert_gates[modality][0].tolist()
                assert gates.tolist() == pytest.approx(expected, abs=1e-6)
            else:
                assert gates is None
                assert answer.modality_weights[place] == 0


def test_absent_and_present_modalities_both_occur(scorer: Scorer) -> None:
    answers = scorer.answer([Query(entity, 0, 1) for entity in range(NUM_ENTITIES)])
    absent = [sum(gates is None for gates in answer.expert_gates.values()) for answer in answers]
    assert set(absent) == {0, 1, 2}


def test_a_model_in_training_is_refused_and_left_so(bundle: Bundle, small_model: LinkPredictor) -> None:
    small_model.train()
    with pytest.raises(ValueError, match=r"in training mode.*call eval\(\)"):
        Scorer(small_model, bundle.candidates, bundle.known)
    assert small_model.training


def test_a_model_that_gives_no_numbers_is_refused_and_the_next_query_answered(bundle: Bundle) -> None:
    model = Bundle.open(bundle.path).model
    with torch.no_grad():
        model.get_submodule("inputs.0").get_parameter("weight")[7] = math.nan
    scorer = Scorer(model, bundle.candidates, bundle.known)
    for batch in ([Query(1, 0, 3), Query(7, 0, 3)], [Query(7, 0, 3)]):
        with pytest.raises(ValueError, match="not finite"):
            scorer.answer(batch)
    assert len(scorer.answer([Query(1, 0, 3)])[0].ranking.entities) == 3
