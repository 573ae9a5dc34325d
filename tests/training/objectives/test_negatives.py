"""Negatives: the end that is corrupted, its negatives, and that no true fact is taken for false."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from momok.model.filter_index import FilterIndex
from momok.model.rotation import distance
from momok.model.scores import RotateBranch
from momok.training.objectives.batches import Batch, FactBatches
from momok.training.objectives.negatives import NegativeSampler

NUM_ENTITIES = 30
# Relation 0: entity 0 has ten tails; relation 1: ten heads have entity 1; relation 2: one to one.
FACTS = np.array(
    [[0, 0, tail] for tail in range(10, 20)]
    + [[head, 1, 1] for head in range(10, 20)]
    + [[entity, 2, entity + 10] for entity in range(10)]
)
KNOWN = FilterIndex.from_facts({"train": FACTS}, num_entities=NUM_ENTITIES, num_relations=3)


def batch_of(facts: np.ndarray) -> Batch:
    head, relation, tail = map(torch.from_numpy, facts.T.copy())
    return Batch(head, relation, torch.arange(len(facts)), tail)


@pytest.mark.parametrize("shared_by", [1, 7, 30, 1000])
def test_what_train_holds_is_marked_and_nothing_else(shared_by: int) -> None:
    torch.manual_seed(0)
    drawn = NegativeSampler(KNOWN).corrupt(batch_of(FACTS), 25, shared_by)
    assert sum(drawn.sizes) == len(FACTS) and max(drawn.sizes) <= shared_by
    assert drawn.negative.shape == (len(drawn.sizes), 25)
    facts = {tuple(fact) for fact in FACTS.tolist()}
    group = np.repeat(np.arange(len(drawn.sizes)), drawn.sizes)
    marked = 0
    for row, fact in enumerate(FACTS.tolist()):
        entity, relation, answer = (int(ids[row]) for ids in (drawn.entity, drawn.relation, drawn.answer))
        whole = (answer, relation - 3, entity) if relation >= 3 else (entity, relation, answer)
        assert whole == tuple(fact)
        for candidate, is_true in zip(
            drawn.negative[group[row]].tolist(), drawn.is_true[row].tolist(), strict=True
        ):
            end = (candidate, relation - 3, entity) if relation >= 3 else (entity, relation, candidate)
            assert is_true == (end in facts)
            marked += is_true
    assert marked > 0


def test_the_end_with_fewer_answers_is_asked_for() -> None:
    torch.manual_seed(0)
    sampler = NegativeSampler(KNOWN)
    asked_head = torch.zeros(len(FACTS))
    for _ in range(400):
        asked_head += sampler.corrupt(batch_of(FACTS), 1).relation >= 3
    share = asked_head.view(3, 10).mean(dim=1) / 400
    # Ten tails per head, one head per tail: 10 / 11; the other way round 1 / 11; one to one 1 / 2.
    assert share.tolist() == pytest.approx([10 / 11, 1 / 11, 1 / 2], abs=0.03)


def test_everyone_is_drawn_alike() -> None:
    torch.manual_seed(0)
    drawn = NegativeSampler(KNOWN).corrupt(batch_of(FACTS), 1000)
    counts = drawn.negative.flatten().bincount(minlength=NUM_ENTITIES)
    assert counts.min() > 850 and counts.max() < 1150 and len(counts) == NUM_ENTITIES


def test_scores_are_of_the_negatives_of_the_own_group() -> None:
    torch.manual_seed(0)
    drawn = NegativeSampler(KNOWN).corrupt(batch_of(FACTS), 4, shared_by=7)
    query, table = torch.randn(len(FACTS), 6), torch.randn(NUM_ENTITIES, 6)
    found = 4 - drawn.scores(RotateBranch("joint", 6, 4.0), query, table[drawn.negative.flatten()])
    group = np.repeat(np.arange(len(drawn.sizes)), drawn.sizes)
    for row, own in enumerate(group):
        expected = distance(query[row : row + 1], table[drawn.negative[own]])[0]
        torch.testing.assert_close(found[row], expected)


def test_facts_of_an_enormous_graph_are_told_apart() -> None:
    """91 million entities, 2,630 relations with their inverses: (r N + h) N + t would not fit 64 bits."""
    num_entities, num_relations = 91_000_000, 1_315
    facts = np.array([[90_999_999, 1_314, 5], [7, 1_314, 90_999_998], [7, 0, 90_999_998]])
    known = FilterIndex.from_facts({"train": facts}, num_entities=num_entities, num_relations=num_relations)
    sampler = NegativeSampler(known)
    entity_B, relation_B = torch.tensor([90_999_999, 7, 5]), torch.tensor([1_314, 1_314, 2_629])
    candidate_Bn = torch.tensor([[5, 6], [90_999_998, 5], [90_999_999, 7]])
    held = sampler.holds(entity_B, relation_B, candidate_Bn)
    assert held.tolist() == [[True, False], [True, False], [True, False]]


def test_fact_batches_hold_every_distinct_fact_once_in_a_reproducible_order() -> None:
    twice = FilterIndex.from_facts(
        {"train": np.concatenate([FACTS, FACTS[:3]])}, num_entities=NUM_ENTITIES, num_relations=3
    )
    batches = FactBatches(twice, 8)
    epochs = [list(batches.epoch(1, epoch)) for epoch in (0, 0, 1)]
    assert len(epochs[0]) == batches.num_batches == 4
    rows = [
        [
            row
            for b in epoch
            for row in zip(b.entity.tolist(), b.relation.tolist(), b.answer.tolist(), strict=True)
        ]
        for epoch in epochs
    ]
    assert sorted(rows[0]) == sorted(map(tuple, FACTS.tolist()))
    assert rows[0] == rows[1] != rows[2]
    assert [b.entity.tolist() for b in batches.epoch(1, 0, start=2)] == [
        b.entity.tolist() for b in epochs[0][2:]
    ]
    assert all(b.row.tolist() == list(range(len(b.entity))) for b in epochs[0])


def test_without_facts_there_are_no_batches() -> None:
    empty = FilterIndex.from_facts({}, num_entities=3, num_relations=1)
    with pytest.raises(ValueError, match="the train split has none"):
        FactBatches(empty, 8)
