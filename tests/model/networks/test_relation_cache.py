"""Relation cache: queries encoded as by the model itself, and a cache that keeps its budget and order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from momok.model.answer import Query
from momok.model.bundle.bundle import Bundle
from momok.model.networks.base import CachedRelation, Encoding, InferenceEncoder, LinkPredictor
from momok.model.networks.relation_cache import PREPARED_AT_ONCE, RelationCache
from momok.model.scorer import Scorer

ENTRY_BYTES = 40


class CountingSide(InferenceEncoder):
    """Folds a relation into ten numbers, itself, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def prepare(self, relations: Sequence[int]) -> list[CachedRelation]:
        self.asked.append(list(relations))
        return [(torch.full((6,), float(relation)), torch.zeros(4)) for relation in relations]

    def encode(self, entity_B: Tensor, relation_B: Tensor, cache: Mapping[int, CachedRelation]) -> Encoding:
        raise NotImplementedError


@pytest.fixture
def side() -> CountingSide:
    return CountingSide()


def kept(cache: RelationCache) -> set[int]:
    return {relation for relation in range(1000) if relation in cache}


def test_each_distinct_relation_is_folded_once_and_the_misses_of_a_batch_together(side: CountingSide) -> None:
    cache = RelationCache(side, 10 * ENTRY_BYTES)
    found = cache.of([3, 1, 3, 2])
    assert {relation: int(entry[0][0]) for relation, entry in found.items()} == {3: 3, 1: 1, 2: 2}
    assert (cache.hits, cache.misses, cache.evicted) == (0, 3, 0)
    again = cache.of([2, 4, 3, 3])
    assert again[3] is found[3]
    assert side.asked == [[3, 1, 2], [4]]
    assert (cache.hits, cache.misses, cache.evicted) == (2, 4, 0)
    assert cache.size_bytes == 4 * ENTRY_BYTES
    assert len(cache) == 4


def test_those_used_longest_ago_make_room(side: CountingSide) -> None:
    cache = RelationCache(side, 3 * ENTRY_BYTES + ENTRY_BYTES // 2)
    cache.of([1, 2, 3])
    cache.of([1])
    cache.of([4])
    assert kept(cache) == {1, 3, 4}
    cache.of([5, 3])
    assert kept(cache) == {3, 4, 5}
    assert cache.evicted == 2
    assert cache.size_bytes == 3 * ENTRY_BYTES


def test_a_batch_larger_than_the_budget_is_complete(side: CountingSide) -> None:
    cache = RelationCache(side, 2 * ENTRY_BYTES)
    cache.of([7])
    found = cache.of([7, *range(5)])
    assert {relation: int(entry[0][0]) for relation, entry in found.items()} == {r: r for r in (7, *range(5))}
    assert kept(cache) == {3, 4}
    assert cache.size_bytes <= cache.budget_bytes


@pytest.mark.parametrize("budget_bytes", [0, ENTRY_BYTES - 1])
def test_what_is_larger_than_the_budget_is_computed_and_not_kept(
    side: CountingSide, budget_bytes: int
) -> None:
    cache = RelationCache(side, budget_bytes)
    for _ in range(2):
        assert set(cache.of([1, 2])) == {1, 2}
    cache.warm([1])
    assert (len(cache), cache.size_bytes, cache.evicted, cache.misses) == (0, 0, 0, 4)


def test_many_misses_are_folded_some_at_a_time(side: CountingSide) -> None:
    RelationCache(side, 0).of(range(2 * PREPARED_AT_ONCE + 1))
    assert [len(asked) for asked in side.asked] == [PREPARED_AT_ONCE, PREPARED_AT_ONCE, 1]


def test_warming_fills_the_budget_in_order_and_the_first_are_evicted_last(side: CountingSide) -> None:
    cache = RelationCache(side, 3 * ENTRY_BYTES)
    cache.warm([5, 6, 5, 7, 8])
    assert kept(cache) == {5, 6, 7}
    assert (cache.hits, cache.misses, cache.evicted) == (0, 0, 0)
    cache.of([9])
    assert kept(cache) == {5, 6, 9}
    cache.of([10])
    assert kept(cache) == {5, 9, 10}


def test_warming_evicts_nothing_and_ends_with_its_time(side: CountingSide) -> None:
    cache = RelationCache(side, 2 * ENTRY_BYTES)
    cache.of([1])
    cache.warm([1, 2, 3])
    assert kept(cache) == {1, 2}
    late = RelationCache(side, 100 * ENTRY_BYTES)
    late.warm(range(10), within_s=0)
    assert not len(late)


def cache_of(model: LinkPredictor, budget_bytes: int = 1 << 20) -> RelationCache:
    side = model.inference_encoder()
    assert side is not None
    return RelationCache(side, budget_bytes)


def test_every_kept_tensor_owns_its_memory(small_model: LinkPredictor) -> None:
    cache = cache_of(small_model)
    for entry in cache.of(range(8)).values():
        assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in entry)


def test_a_model_in_training_is_refused(make_model: Callable[..., LinkPredictor]) -> None:
    model = make_model("momok", 2)
    cache = cache_of(model)
    model.train()
    with pytest.raises(AssertionError, match="dropout would be cached"):
        cache.encode(torch.tensor([1, 2, 3]), torch.tensor([0, 1, 0]))
    assert len(cache) == 0


@torch.inference_mode()
def test_close_to_float64_where_the_means_are_large(make_model: Callable[..., LinkPredictor]) -> None:
    """A mean far from 0 beside a small deviation is where merging a batch norm could cancel."""
    model = make_model("momok", 3)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer += 20
        elif name.endswith("running_var"):
            buffer *= 0.01
    entity_B, relation_B = torch.arange(9), torch.arange(9) % 4
    plain, found = model.encode(entity_B, relation_B), cache_of(model).encode(entity_B, relation_B)
    exact = model.double().encode(entity_B, relation_B)
    for name, rows in exact.query.items():
        allowed = 1e-5 * rows.norm(dim=1)
        assert ((found.query[name] - rows).norm(dim=1) <= allowed).all()
        assert ((plain.query[name] - rows).norm(dim=1) <= allowed).all()


def test_a_new_scorer_answers_with_new_weights(
    small_bundle: Path, make_model: Callable[..., LinkPredictor]
) -> None:
    bundle = Bundle.open(small_bundle)
    other = make_model("momok", 3, num_entities=40, num_relations=4, decision=bundle.model.decision, seed=5)
    query = Query(5, 1, 40, exclude_known=False)
    before = Scorer(bundle.model, bundle.candidates, bundle.known).answer([query])[0].ranking
    expected = Scorer(other, bundle.candidates, bundle.known).answer([query])[0].ranking
    bundle.model.load_state_dict(other.state_dict())
    after = Scorer(bundle.model, bundle.candidates, bundle.known).answer([query])[0].ranking
    assert after.entities.tolist() == expected.entities.tolist()
    np.testing.assert_allclose(after.scores, expected.scores, rtol=1e-6)
    assert not np.allclose(after.scores, before.scores, rtol=1e-3)


@pytest.mark.parametrize("cache_bytes", [0, 500, 1 << 30])
def test_a_scorer_answers_the_same_warm_or_not_and_with_any_budget(
    small_bundle: Path, cache_bytes: int
) -> None:
    bundle = Bundle.open(small_bundle)
    queries = [Query(entity, entity % 8, 40) for entity in range(40)]
    plain = Scorer(bundle.model, bundle.candidates, bundle.known).answer(queries)
    scorer = Scorer(bundle.model, bundle.candidates, bundle.known, cache_bytes=cache_bytes)
    scorer.warm()
    for found, expected in zip(scorer.answer(queries), plain, strict=True):
        assert found.ranking.entities.tolist() == expected.ranking.entities.tolist()
        np.testing.assert_allclose(found.ranking.scores, expected.ranking.scores, rtol=1e-6)


def test_warming_a_scorer_prepares_the_relations_with_most_answers(small_bundle: Path) -> None:
    bundle = Bundle.open(small_bundle)
    counts = bundle.known.answers_of_relations()
    assert counts[[3, 7]].tolist() == [0, 0]  # In no fact.
    assert counts.sum() == len(bundle.known.answers)
    probe = cache_of(bundle.model)
    probe.of([0])
    scorer = Scorer(bundle.model, bundle.candidates, bundle.known, cache_bytes=2 * probe.size_bytes)
    scorer.warm()
    cache = scorer._cache
    assert cache is not None
    assert kept(cache) == set(np.argsort(-counts, kind="stable")[:2].tolist())
    plenty = Scorer(bundle.model, bundle.candidates, bundle.known)
    plenty.warm()
    assert plenty._cache is not None
    assert kept(plenty._cache) == set(np.flatnonzero(counts).tolist())


def test_a_scorer_prepares_together_the_relations_named(small_bundle: Path) -> None:
    bundle = Bundle.open(small_bundle)
    scorer = Scorer(bundle.model, bundle.candidates, bundle.known)
    scorer.answer([Query(0, 2, 1)], together=[5, 2])
    cache = scorer._cache
    assert cache is not None
    assert kept(cache) == {2, 5}
    scorer.answer([Query(0, 2, 1), Query(1, 5, 1), Query(2, 6, 1)])
    assert (cache.hits, cache.misses) == (2, 2)


def test_where_one_is_missing_all_are_folded_together_again(side: CountingSide) -> None:
    """The last bits of one depend on the others."""
    cache = RelationCache(side, 2 * ENTRY_BYTES)
    assert list(cache.of([2], together=[1, 2, 3])) == [2]
    assert kept(cache) == {2, 3}
    assert list(cache.of([3, 2], together=[1, 2, 3])) == [3, 2]
    assert side.asked == [[1, 2, 3]]
    assert list(cache.of([1, 2], together=[1, 2, 3])) == [1, 2]
    assert side.asked == [[1, 2, 3]] * 2
    assert cache.size_bytes == 2 * ENTRY_BYTES
