"""FilterIndex, against a dict of sets."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momok.model.filter_index import SPLITS, FilterIndex, first_split, split_bit

N, R = 5, 3
Fact = tuple[int, int, int]
FACTS = st.dictionaries(
    st.sampled_from(SPLITS),
    st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, R - 1), st.integers(0, N - 1)), max_size=12),
)


def build(facts: dict[str, list[Fact]]) -> FilterIndex:
    arrays = {split: np.array(rows, dtype=np.int64).reshape(-1, 3) for split, rows in facts.items()}
    return FilterIndex.from_facts(arrays, num_entities=N, num_relations=R)


def plain(facts: dict[str, list[Fact]]) -> dict[tuple[int, int], dict[int, set[str]]]:
    """(entity, relation in [0, 2R)) -> answer -> splits that say so."""
    known: dict[tuple[int, int], dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for split, rows in facts.items():
        for head, relation, tail in rows:
            known[head, relation][tail].add(split)
            known[tail, relation + R][head].add(split)
    return known


def code_of(splits: set[str]) -> int:
    return sum({"train": 1, "valid": 2, "test": 4}[split] for split in splits)


@given(facts=FACTS)
def test_answers_and_splits_of_every_query(facts: dict[str, list[Fact]]) -> None:
    known, expected = build(facts), plain(facts)
    entity_N = np.arange(N)
    for entity in range(N):
        for relation in range(2 * R):
            row = expected.get((entity, relation), {})
            answers, codes = known.of(entity, relation)
            assert answers.tolist() == sorted(row)
            assert codes.tolist() == [code_of(row[answer]) for answer in sorted(row)]
            found = known.split_codes(entity, relation, entity_N).tolist()
            assert found == [code_of(row.get(answer, set())) for answer in range(N)]


@given(
    facts=FACTS,
    queries=st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, 2 * R - 1)), max_size=10),
)
def test_rows_of_a_batch(facts: dict[str, list[Fact]], queries: list[tuple[int, int]]) -> None:
    known, expected = build(facts), plain(facts)
    pairs = np.array(queries, dtype=np.int64).reshape(-1, 2)
    row_P, answer_P = known.rows(pairs[:, 0], pairs[:, 1])
    found = list(zip(row_P.tolist(), answer_P.tolist(), strict=True))
    assert found == [
        (row, answer) for row, query in enumerate(queries) for answer in sorted(expected.get(query, ()))
    ]
    of_each = known.of_each(pairs[:, 0], pairs[:, 1])
    assert [answers.tolist() for answers in of_each] == [sorted(expected.get(query, ())) for query in queries]


@given(facts=FACTS)
def test_observed_answers_of_every_relation(facts: dict[str, list[Fact]]) -> None:
    known, expected = build(facts), plain(facts)
    for relation in range(2 * R):
        answers = {answer for (_, asked), row in expected.items() if asked == relation for answer in row}
        assert known.observed(relation).tolist() == sorted(answers)


@given(facts=FACTS)
def test_facts_come_back_distinct(facts: dict[str, list[Fact]]) -> None:
    known = build(facts)
    for split in SPLITS:
        found = [tuple(fact) for fact in known.facts(split).tolist()]
        assert len(set(found)) == len(found)
        assert set(found) == set(facts.get(split, []))


def test_arrays_are_of_the_documented_types() -> None:
    for facts in ({}, {"train": [(0, 1, 2)]}):
        known = build(facts)
        for array in (known.queries, known.offsets, known.answers):
            assert array.dtype == np.int64
        assert known.splits.dtype == np.uint8
        assert len(known.offsets) == len(known.queries) + 1


def test_a_fact_is_known_from_its_earliest_split() -> None:
    assert [split_bit(split) for split in SPLITS] == [1, 2, 4]
    assert [first_split(code) for code in range(1, 8)] == [
        "train", "valid", "train", "test", "train", "valid", "train",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="not in tuple"):
        split_bit("dev")


GOOD = {"queries": [1, 4], "offsets": [0, 2, 3], "answers": [0, 2, 1], "splits": [1, 1, 4]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splits": [1, 1]}, "do not belong together"),
        ({"offsets": [0, 2, 2]}, "do not belong together"),
        ({"queries": [4, 1]}, "queries must ascend"),
        ({"queries": [4, 4]}, "queries must ascend"),
        ({"queries": [1, 2 * R * N]}, "out of range"),
        ({"queries": [-1, 4]}, "out of range"),
        ({"offsets": [0, 3, 3]}, "each with an answer at least"),
        ({"offsets": [1, 2, 3]}, "queries must ascend"),
        ({"answers": [0, N, 1]}, "out of range"),
        ({"splits": [1, 0, 4]}, "split code is out of range"),
        ({"splits": [1, 8, 4]}, "split code is out of range"),
        ({"answers": [2, 0, 1]}, "answers of a query must ascend"),
        ({"answers": [2, 2, 1]}, "answers of a query must ascend"),
    ],
)
def test_arrays_that_are_no_index_are_refused(change: dict[str, list[int]], message: str) -> None:
    def index(**arrays: list[int]) -> FilterIndex:
        ids = {name: np.array(values, dtype=np.int64) for name, values in arrays.items()}
        splits = ids.pop("splits").astype(np.uint8)
        return FilterIndex(num_entities=N, num_relations=R, splits=splits, **ids)

    assert index(**GOOD).of(1, 0)[0].tolist() == [0, 2]
    with pytest.raises(ValueError, match=message):
        index(**(GOOD | change))


def test_a_graph_too_large_for_the_numbers_of_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 64 bits"):
        FilterIndex.from_facts({}, num_entities=2**40, num_relations=2**24)


def test_indexes_are_compared_by_identity() -> None:
    """Arrays have no single truth value, so that a comparison by fields would raise."""
    assert build({}) != build({})
