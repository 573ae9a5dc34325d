"""Batches against a plain dictionary of what train says."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from momok.model.filter_index import FilterIndex
from momok.training.objectives.batches import Batch, QueryBatches

NUM_ENTITIES, NUM_RELATIONS = 6, 3

FACTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 5)), min_size=1, max_size=30)


def batches_of(facts: list[tuple[int, int, int]], batch_size: int) -> QueryBatches:
    known = FilterIndex.from_facts(
        {"train": np.array(facts)}, num_entities=NUM_ENTITIES, num_relations=NUM_RELATIONS
    )
    return QueryBatches(known, batch_size)


def answers_in_train(facts: list[tuple[int, int, int]]) -> dict[tuple[int, int], set[int]]:
    answers = defaultdict(set)
    for head, relation, tail in facts:
        answers[head, relation].add(tail)
        answers[tail, relation + NUM_RELATIONS].add(head)
    return answers


def queries(batches: list[Batch]) -> list[list[tuple[int, int]]]:
    return [list(zip(batch.entity.tolist(), batch.relation.tolist(), strict=True)) for batch in batches]


@given(facts=FACTS, batch_size=st.integers(2, 40), epoch=st.integers(0, 3))
@settings(deadline=None)
def test_an_epoch_asks_each_distinct_query_once_with_all_its_answers(
    facts: list[tuple[int, int, int]], batch_size: int, epoch: int
) -> None:
    expected = answers_in_train(facts)
    found = {}
    batches = list(batches_of(facts, batch_size).epoch(seed=3, epoch=epoch))
    for batch, asked in zip(batches, queries(batches), strict=True):
        for row, query in enumerate(asked):
            assert query not in found
            given_answers = batch.answer[batch.row == row].tolist()
            assert len(given_answers) == len(set(given_answers))
            found[query] = set(given_answers)
    assert found == expected


@given(facts=FACTS, batch_size=st.integers(2, 40))
@settings(deadline=None)
def test_sizes_differ_by_one_and_no_row_is_left_alone(
    facts: list[tuple[int, int, int]], batch_size: int
) -> None:
    batches = batches_of(facts, batch_size)
    sizes = [len(batch.entity) for batch in batches.epoch(0, 0)]
    assert len(sizes) == batches.num_batches
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2
    # One above the size asked for is the price of leaving no row alone; more would be waste.
    assert max(sizes) <= batch_size + 1


def test_ids_are_int64() -> None:
    (batch,) = batches_of([(0, 0, 1), (2, 1, 3)], 8).epoch(0, 0)
    for ids in (batch.entity, batch.relation, batch.row, batch.answer):
        assert ids.dtype == torch.int64


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    random = np.random.default_rng(1)
    facts = [tuple(fact) for fact in random.integers(0, [6, 3, 6], size=(40, 3)).tolist()]

    def order(seed: int, epoch: int) -> list[list[tuple[int, int]]]:
        torch.manual_seed(int(random.integers(1000)))  # Of no matter, nor what was asked for before.
        return queries(list(batches_of(facts, 7).epoch(seed, epoch)))

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    # As if seeds and epochs were added up: a run and its neighbour would share epochs.
    assert order(1, 1) != order(2, 0)


def test_a_later_start_leaves_out_that_many_batches() -> None:
    facts = [(head, relation, (head + 1) % 6) for head in range(6) for relation in range(3)]
    batches = batches_of(facts, 5)
    whole = queries(list(batches.epoch(4, 2)))
    for start in range(batches.num_batches + 1):
        assert queries(list(batches.epoch(4, 2, start=start))) == whole[start:]


def test_a_single_query_is_refused() -> None:
    known = FilterIndex.from_facts({"train": np.empty((0, 3), np.int64)}, num_entities=3, num_relations=1)
    with pytest.raises(ValueError, match="at least 2 queries"):
        QueryBatches(known, 4)
