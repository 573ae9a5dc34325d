"""The retriever: its top k are the top k, and where it says exact it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from momok.model.retrieval.engine import EngineName, Engines
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.index_spec import IndexSpec
from momok.model.retrieval.ranking import Ranking
from momok.model.retrieval.retriever import Retriever
from momok.model.retrieval.selection import Selection
from momok.model.retrieval.table import EntityTable
from momok.model.scores import FUSIONS, Branch, Decision

DECISIONS: list[Decision] = ["mean_sigmoid", "sum"]
SCANS: list[EngineName] = ["scan", "scan-bfloat16", "scan-int8"]
CASES: list[tuple[Decision, EngineName]] = [
    ("sum", "faiss"), *((decision, engine) for decision in DECISIONS for engine in SCANS)
]  # fmt: skip
"""A mean of sigmoids is no inner product, so that FAISS cannot search it."""
NONE = np.empty(0, dtype=np.int64)
Vectors = dict[str, np.ndarray]
Attack = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Space:
    """A table of candidates and a batch of queries, float32."""

    table: Vectors
    query: Vectors

    @property
    def num_entities(self) -> int:
        return len(next(iter(self.table.values())))

    def retriever(self, decision: Decision, engine: EngineName = "scan") -> Retriever:
        branches = [Branch(name, rows.shape[1]) for name, rows in self.table.items()]
        table, fusion = EntityTable.of(branches, self.table), FUSIONS[decision]
        return Retriever(table, fusion, Engines(table, fusion, engine=engine))

    def row(self, row: int) -> Vectors:
        return {name: rows[row : row + 1] for name, rows in self.query.items()}


def space(table: Sequence[np.ndarray], query: Sequence[np.ndarray]) -> Space:
    names = [f"branch{index}" for index in range(len(table))]
    return Space(
        {name: rows.astype(np.float32) for name, rows in zip(names, table, strict=True)},
        {name: rows.astype(np.float32) for name, rows in zip(names, query, strict=True)},
    )


def plain_scores(given: Space, row: int, decision: Decision) -> list[float]:
    """The decided score of every entity, correctly rounded sums of exact products."""
    scores = []
    for entity in range(given.num_entities):
        terms = [
            [float(a) * float(b) for a, b in zip(given.query[name][row], rows[entity], strict=True)]
            for name, rows in given.table.items()
        ]
        if decision == "sum":
            scores.append(math.fsum(term for branch in terms for term in branch))
        else:
            scores.append(math.fsum(plain_sigmoid(math.fsum(branch)) for branch in terms) / len(terms))
    return scores


def plain_sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score)) if score > -700 else 0.0


def plain_top_k(scores: Sequence[float], wanted: Sequence[int], k: int) -> list[int]:
    return sorted(wanted, key=lambda entity: (-scores[entity], entity))[:k]


def eligible(selection: Selection, num_entities: int) -> list[int]:
    offered = range(num_entities) if selection.candidates is None else set(selection.candidates.tolist())
    return sorted(set(offered) - set(selection.excluded.tolist()))


def assert_top_k(ranking: Ranking, scores: Sequence[float], wanted: Sequence[int], k: int) -> None:
    """Nothing that is left out, and nothing lower down, scores better; the last digits are forgiven."""
    found = ranking.entities.tolist()
    assert len(found) == min(k, len(wanted)) == len(set(found))
    assert set(found) <= set(wanted)
    assert ranking.scores.tolist() == pytest.approx(
        [scores[entity] for entity in found], rel=1e-12, abs=1e-12
    )
    order = list(zip((-ranking.scores).tolist(), found, strict=True))
    assert order == sorted(order)
    best = [scores[entity] for entity in plain_top_k(scores, wanted, k)]
    assert [scores[entity] for entity in found] == pytest.approx(best, rel=1e-12, abs=1e-12)


def assert_same(found: Ranking, expected: Ranking) -> None:
    assert found.entities.tolist() == expected.entities.tolist()
    assert found.scores.tobytes() == expected.scores.tobytes()
    assert found.branch_values.tobytes() == expected.branch_values.tobytes()


def everything(retriever: Retriever, given: Space, row: int) -> Ranking:
    """All entities in their order, without any search."""
    all_of_them = np.arange(given.num_entities)
    return retriever.top_k(given.row(row), [Selection(len(all_of_them), NONE, all_of_them)])[0]


def random_space(
    rng: np.random.Generator, widths: Sequence[int], num_entities: int, num_queries: int, *, whole: bool
) -> Space:
    """Small whole numbers, where ties abound, or real numbers where a tenth of the rows are copies."""

    def rows(number: int, width: int) -> np.ndarray:
        if whole:
            return rng.integers(-2, 3, size=(number, width))
        return rng.standard_normal((number, width))

    table = [rows(num_entities, width) for width in widths]
    if not whole:
        copied, onto = rng.integers(0, num_entities, size=(2, num_entities // 10))
        for branch in table:
            branch[onto] = branch[copied]
    return space(table, [rows(num_queries, width) for width in widths])


@st.composite
def selections(draw: st.DrawFn, num_entities: int) -> Selection:
    k = draw(st.one_of(st.integers(1, 20), st.integers(1, num_entities + 3)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    # A share of 1 excludes all, nearly 1 is a hub.
    share = draw(st.sampled_from([0.0, 0.01, 0.3, 0.97, 1.0]))
    excluded = np.flatnonzero(rng.random(num_entities) < share)
    if draw(st.booleans()):
        return Selection(k, excluded)
    share = draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))
    return Selection(k, excluded, np.flatnonzero(rng.random(num_entities) < share))


@given(
    data=st.data(),
    seed=st.integers(0, 2**32 - 1),
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    num_entities=st.sampled_from([1, 2, 40, 300, 1000]),
    whole=st.booleans(),
    case=st.sampled_from(CASES),
)
@settings(max_examples=200, deadline=None)
def test_top_k_is_that_of_brute_force(
    data: st.DataObject,
    seed: int,
    widths: list[int],
    num_entities: int,
    whole: bool,
    case: tuple[Decision, EngineName],
) -> None:
    given_space = random_space(np.random.default_rng(seed), widths, num_entities, 3, whole=whole)
    decision, retriever = case[0], given_space.retriever(*case)
    chosen = [data.draw(selections(num_entities)) for _ in range(3)]
    for row, ranking in enumerate(retriever.top_k(given_space.query, chosen)):
        wanted, scores = eligible(chosen[row], num_entities), plain_scores(given_space, row, decision)
        assert ranking.exact
        assert_top_k(ranking, scores, wanted, chosen[row].k)
        if whole and decision == "sum":  # nothing is rounded, so nothing is forgiven
            assert ranking.entities.tolist() == plain_top_k(scores, wanted, chosen[row].k)
        full = everything(retriever, given_space, row).entities.tolist()
        kept = [entity for entity in full if entity in set(wanted)]
        assert ranking.entities.tolist() == kept[: chosen[row].k]


def test_every_way_to_an_answer_is_taken_and_says_so() -> None:
    rng = np.random.default_rng(0)
    given_space = random_space(rng, [8, 8], 4000, 5, whole=False)
    retriever = given_space.retriever("sum", "faiss")
    some, hub, few, all_but_one = (np.arange(number) for number in (200, 3000, 50, 3999))
    rankings = retriever.top_k(
        given_space.query,
        [
            Selection(10, NONE),
            Selection(10, some),
            Selection(10, hub),  # A search would fetch most entities.
            Selection(10, NONE, few),
            Selection(10, NONE, all_but_one),
        ],
    )
    engines = ["faiss-flat", "faiss-flat", "scan", "gather", "scan"]
    assert [ranking.engine for ranking in rankings] == engines
    assert all(ranking.exact for ranking in rankings)


def test_large_graphs_are_answered_from_the_search_and_rightly() -> None:
    given_space = random_space(np.random.default_rng(1), [16, 12, 20], 3000, 32, whole=False)
    retriever = given_space.retriever("sum", "faiss")
    rankings = retriever.top_k(given_space.query, [Selection(10, np.arange(row)) for row in range(32)])
    assert {ranking.engine for ranking in rankings} == {"faiss-flat"}
    for row in (0, 31):
        assert_top_k(rankings[row], plain_scores(given_space, row, "sum"), range(row, 3000), 10)


def test_what_a_search_does_not_prove_is_scanned() -> None:
    """Sixty entities tie with the tenth best: a search that does not go beyond them proves nothing."""
    column = np.concatenate([np.full(5, 3.0), np.full(60, 2.0), np.linspace(-1, 1, 1935)])[:, None]
    given_space = space([column], [np.ones((1, 1))])
    ranking = given_space.retriever("sum", "faiss").top_k(given_space.query, [Selection(10, NONE)])[0]
    assert (ranking.engine, ranking.exact) == ("scan", True)
    assert ranking.entities.tolist() == list(range(10))


@pytest.mark.parametrize("decision", DECISIONS)
@pytest.mark.parametrize("score", [100.0, 1000.0, -100.0, -1000.0])
def test_saturated_scores_tie_and_the_smallest_ids_come_first(decision: Decision, score: float) -> None:
    table = np.full((1000, 2), score / 2)
    given_space = space([table, table], [np.ones((1, 2)), np.ones((1, 2))])
    engine: EngineName = "faiss" if decision == "sum" else "scan"
    retriever = given_space.retriever(decision, engine)
    ranking = retriever.top_k(given_space.query, [Selection(7, np.array([2, 999]))])[0]
    assert ranking.entities.tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert ranking.engine == "scan"
    value = 2 * score if decision == "sum" else plain_sigmoid(score)
    assert ranking.scores.tolist() == pytest.approx([value] * 7, rel=1e-12)


def test_saturated_scores_that_differ_beyond_float64_tie() -> None:
    """Logits from 40 upwards are all 1 as probabilities: by id, however much their logits differ."""
    table = np.arange(40, 2040, dtype=np.float64)[:, None]
    given_space = space([table], [np.ones((1, 1))])
    ranking = given_space.retriever("mean_sigmoid").top_k(given_space.query, [Selection(5, NONE)])[0]
    assert ranking.entities.tolist() == [0, 1, 2, 3, 4]
    assert ranking.scores.tolist() == [1.0] * 5


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 30), case=st.sampled_from(CASES), whole=st.booleans())
@settings(max_examples=50, deadline=None)
def test_the_top_k_begin_the_top_k_plus_1(
    seed: int, k: int, case: tuple[Decision, EngineName], whole: bool
) -> None:
    given_space = random_space(np.random.default_rng(seed), [4, 3], 500, 1, whole=whole)
    retriever = given_space.retriever(*case)
    shorter, longer = (retriever.top_k(given_space.query, [Selection(n, NONE)])[0] for n in (k, k + 1))
    assert longer.entities[:k].tolist() == shorter.entities.tolist()
    assert longer.scores[:k].tobytes() == shorter.scores.tobytes()


@given(seed=st.integers(0, 2**32 - 1), case=st.sampled_from(CASES), whole=st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_query_alone_gives_the_list_it_gives_among_others(
    seed: int, case: tuple[Decision, EngineName], whole: bool
) -> None:
    rng = np.random.default_rng(seed)
    given_space = random_space(rng, [5, 9], 800, 32, whole=whole)
    retriever = given_space.retriever(*case)
    chosen = [Selection(int(rng.integers(1, 15)), rng.permutation(800)[:row]) for row in range(32)]
    for row, ranking in enumerate(retriever.top_k(given_space.query, chosen)):
        assert_same(ranking, retriever.top_k(given_space.row(row), [chosen[row]])[0])


def test_none_is_left_when_all_are_excluded_or_none_is_offered() -> None:
    given_space = random_space(np.random.default_rng(2), [3], 200, 2, whole=False)
    rankings = given_space.retriever("sum").top_k(
        given_space.query, [Selection(3, np.arange(200)), Selection(3, NONE, NONE)]
    )
    for ranking in rankings:
        assert ranking.entities.tolist() == ranking.scores.tolist() == []
        assert ranking.branch_values.shape == (0, 1)


@pytest.mark.parametrize("decision", DECISIONS)
def test_branch_values_add_up_to_the_score(decision: Decision) -> None:
    given_space = random_space(np.random.default_rng(3), [4, 2, 7], 100, 1, whole=False)
    ranking = given_space.retriever(decision).top_k(given_space.query, [Selection(20, NONE)])[0]
    for place, entity in enumerate(ranking.entities.tolist()):
        branches = []
        for name, rows in given_space.table.items():
            score = math.fsum(
                (rows[entity].astype(float) * given_space.query[name][0].astype(float)).tolist()
            )
            branches.append(score if decision == "sum" else plain_sigmoid(score))
        assert ranking.branch_values[place].tolist() == pytest.approx(branches, rel=1e-12)
        total = sum(branches) / (1 if decision == "sum" else len(branches))
        assert ranking.scores[place] == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    good = random_space(np.random.default_rng(4), [3, 3], 100, 2, whole=False)
    retriever = good.retriever("sum")
    good.query["branch1"][1, 2] = value
    with pytest.raises(ValueError, match="query vector is not finite"):
        retriever.top_k(good.query, [Selection(1, NONE)] * 2)
    good.table["branch0"][5, 0] = value
    with pytest.raises(ValueError, match="entity table holds values that are not finite"):
        good.retriever("sum")


# Attempts to make a proof lie. Each returns tables and queries, made to mislead arithmetic in float32.


def norms_of_all_sizes(rng: np.random.Generator, width: int) -> tuple[np.ndarray, np.ndarray]:
    table = rng.standard_normal((1500, width)) * 10 ** rng.uniform(-6, 6, size=(1500, 1))
    return table, rng.standard_normal((32, width)) * 10 ** rng.uniform(-6, 3, size=(32, 1))


def near_ties(rng: np.random.Generator, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that differ in the last bits of float32, so that a search orders them by its rounding."""
    base = rng.uniform(1, 2, size=width)
    table = base * (1 + rng.integers(-3, 4, size=(1500, width)) * 2.0**-23)
    return table, rng.uniform(0.5, 2, size=(32, width))


def a_few_better_by_a_hair(rng: np.random.Generator, width: int) -> tuple[np.ndarray, np.ndarray]:
    base = rng.standard_normal(width)
    table = np.tile(base, (1500, 1)).astype(np.float32)
    better = rng.permutation(1500)[:60]
    table[better] = np.nextafter(table[better], np.float32(100) * np.sign(base).astype(np.float32))
    return table, np.tile(base, (32, 1)) * rng.uniform(0.5, 2, size=(32, 1))


def cancellation(rng: np.random.Generator, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two enormous terms that cancel to the last digit and leave the score to the others."""
    table, query = rng.standard_normal((1500, width + 2)), rng.standard_normal((32, width + 2))
    table[:, 0] = table[:, 1] = rng.uniform(1e3, 1e4, size=1500)
    query[:, 0] = rng.uniform(1e3, 1e4, size=32)
    query[:, 1] = -query[:, 0]
    return table, query


def common_offset(rng: np.random.Generator, width: int) -> tuple[np.ndarray, np.ndarray]:
    table, query = rng.standard_normal((1500, width)), rng.standard_normal((32, width))
    return table + 1e4, query + 1e3


def underflow(rng: np.random.Generator, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Products below the smallest float32: a search sees zeros, float64 sees an order."""
    return rng.standard_normal((1500, width)) * 1e-24, rng.standard_normal((32, width)) * 1e-24


def subnormal(rng: np.random.Generator, width: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((1500, width)) * 1e-41, rng.standard_normal((32, width)) * 1e3


def overflow(rng: np.random.Generator, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The best entity is inf - inf to a search, which then never proposes it."""
    table, query = rng.standard_normal((1500, width + 16)), rng.standard_normal((32, width + 16))
    query[:] = np.abs(query) * 1e20
    table[:40] = np.abs(table[:40]) * 1e20
    table[40:41] = np.abs(table[40:41]) * 1e24
    table[40, width::5] *= -0.1
    return table, query


def zeros(rng: np.random.Generator, width: int) -> tuple[np.ndarray, np.ndarray]:
    table, query = rng.standard_normal((1500, width)), rng.standard_normal((32, width))
    table[::2] = 0
    query[::2] = 0
    return table, query


ATTACKS = [
    norms_of_all_sizes,
    near_ties,
    a_few_better_by_a_hair,
    cancellation,
    common_offset,
    underflow,
    subnormal,
    overflow,
    zeros,
]


def assert_honest(given_space: Space, decision: Decision, ks: Sequence[int], engine: EngineName) -> list[str]:
    """Every list, alone or in a batch, is the beginning of the list of all; the engines used."""
    retriever = given_space.retriever(decision, engine)
    num_queries = len(given_space.query["branch0"])
    chosen = [Selection(ks[row % len(ks)], NONE) for row in range(num_queries)]
    rankings = retriever.top_k(given_space.query, chosen)
    for row, ranking in enumerate(rankings):
        full = everything(retriever, given_space, row)
        for found in (ranking, retriever.top_k(given_space.row(row), [chosen[row]])[0]):
            assert found.exact
            assert found.entities.tolist() == full.entities[: chosen[row].k].tolist()
            assert found.scores.tobytes() == full.scores[: chosen[row].k].tobytes()
    return [ranking.engine for ranking in rankings]


@pytest.mark.parametrize(("decision", "engine"), CASES)
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("widths", [[1], [3, 40], [64, 5, 17]])
def test_no_table_makes_a_proof_lie(
    attack: Attack, decision: Decision, widths: list[int], engine: EngineName
) -> None:
    rng = np.random.default_rng(5)
    pairs = [attack(rng, width) for width in widths]
    given_space = space([table for table, _ in pairs], [query for _, query in pairs])
    assert_honest(given_space, decision, [1, 2, 7, 20], engine)


class Malicious(EntityIndex):
    """A search that errs as much as float32 may, and always against the best."""

    vectors: np.ndarray

    @classmethod
    def build(cls, vectors_ND: np.ndarray, spec: IndexSpec, progress: object = None) -> Self:
        made = super().build(vectors_ND, spec)
        made.vectors = vectors_ND.astype(np.float64)
        return made

    def search(self, query_BD: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        query_BD = query_BD.astype(np.float64)
        score_BN = query_BD @ self.vectors.T
        lengths_BN = np.outer(*(np.linalg.norm(rows, axis=1) for rows in (query_BD, self.vectors)))
        largest_error_BN = query_BD.shape[1] * 2.0**-24 * lengths_BN
        above_BN = score_BN > np.median(score_BN, axis=1, keepdims=True)
        best_BN = score_BN >= np.sort(score_BN, axis=1)[:, [-12]]
        found_BN = score_BN + np.where(best_BN, -1, np.where(above_BN, 0, 1)) * largest_error_BN
        entity_BC = np.argsort(-found_BN, axis=1, kind="stable")[:, :depth]
        return np.take_along_axis(found_BN, entity_BC, axis=1), entity_BC


@pytest.mark.parametrize("spread", [0.5, 4, 64, 4096])
@pytest.mark.parametrize("stretched", [0.0, 300.0])
def test_the_proof_allows_for_the_worst_rounding(
    spread: float, stretched: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("momok.model.retrieval.engine.EntityIndex", Malicious)
    rng = np.random.default_rng(7)
    base = rng.standard_normal(24)
    base /= np.linalg.norm(base)
    # Scores lie within a few rounding errors of each other, or well apart: both sides of the threshold.
    step = rng.uniform(-1, 1, size=(1500, 1)) * spread * 24 * 2.0**-24
    # A few of the best are long where the queries are 0: rounding hits them hardest.
    across = np.where(step >= np.sort(step, axis=0)[-4], stretched, 0.0)
    table = [np.hstack([base[:width] * (1 + step), across]) for width in (23, 11)]
    query = [np.tile(np.append(base[:width], 0), (4, 1)) for width in (23, 11)]
    engines = assert_honest(space(table, query), "sum", [1, 2, 7, 20], "faiss")
    assert stretched or spread < 4096 or set(engines) == {"faiss-flat"}


def test_the_first_search_is_deep_enough_for_those_excluded() -> None:
    """All the best are excluded: the answer lies behind them."""
    column = np.linspace(1, 0, 4000)[:, None]
    given_space = space([column], [np.ones((1, 1))])
    retriever = given_space.retriever("sum", "faiss")
    ranking = retriever.top_k(given_space.query, [Selection(5, np.arange(200))])[0]
    assert ranking.entities.tolist() == [200, 201, 202, 203, 204]
    assert ranking.engine == "faiss-flat"


@pytest.mark.parametrize("decision", DECISIONS)
def test_engines_agree_to_the_last_bit_with_one_thread_or_two(decision: Decision) -> None:
    given_space = random_space(np.random.default_rng(8), [32, 16], 3000, 64, whole=False)
    rng = np.random.default_rng(9)
    chosen = [Selection(10, np.sort(rng.permutation(3000)[: 4 * row])) for row in range(64)]
    threads, found = torch.get_num_threads(), []
    try:
        for engine in (engine for of, engine in CASES if of == decision):
            for number in (1, 2):
                torch.set_num_threads(number)
                found.append(given_space.retriever(decision, engine).top_k(given_space.query, chosen))
    finally:
        torch.set_num_threads(threads)
    for rankings in found[1:]:
        for ranking, expected in zip(rankings, found[0], strict=True):
            assert_same(ranking, expected)


@pytest.mark.parametrize(("decision", "engine"), CASES)
def test_ten_thousand_lists_of_which_none_lies(decision: Decision, engine: EngineName) -> None:
    """Random tables full of ties and saturated sigmoids: each list begins the list of everyone."""
    rng = np.random.default_rng(10)
    for case in range(10):
        scale = (1, 1, 30, 1e-3, 200)[case % 5]
        given_space = random_space(rng, [3, 5], 600, 250, whole=case % 2 == 0)
        for rows in given_space.table.values():
            rows *= np.float32(scale)
        retriever = given_space.retriever(decision, engine)
        chosen = [Selection(int(k), NONE) for k in rng.integers(1, 25, size=250)]
        everyone = np.arange(600)
        full = retriever.top_k(given_space.query, [Selection(600, NONE, everyone)] * 250)
        for found, selection, whole in zip(
            retriever.top_k(given_space.query, chosen), chosen, full, strict=True
        ):
            assert found.exact
            assert found.entities.tolist() == whole.entities[: selection.k].tolist()
            assert found.scores.tobytes() == whole.scores[: selection.k].tobytes()


@pytest.mark.parametrize(("decision", "engine"), CASES)
def test_large_candidate_sets_and_hubs_lose_none(decision: Decision, engine: EngineName) -> None:
    """Sets too large to be gathered, and queries of too many excluded, are masked in the scan."""
    given_space = random_space(np.random.default_rng(11), [6, 6], 2000, 2, whole=False)
    offered = np.arange(0, 2000, 2)
    chosen = [Selection(10, np.arange(1990)), Selection(10, np.arange(0, 900), offered)]
    rankings = given_space.retriever(decision, engine).top_k(given_space.query, chosen)
    for row, (ranking, selection) in enumerate(zip(rankings, chosen, strict=True)):
        assert ranking.exact and ranking.engine == ("scan" if engine == "faiss" else engine)
        scores = plain_scores(given_space, row, decision)
        assert_top_k(ranking, scores, eligible(selection, 2000), 10)


def test_queries_of_another_width_are_refused() -> None:
    given_space = random_space(np.random.default_rng(12), [3, 4], 50, 1, whole=False)
    query = given_space.query | {"branch1": np.zeros((1, 5), np.float32)}
    with pytest.raises(ValueError, match="queries of 'branch1' are 5 wide, its table 4"):
        given_space.retriever("sum").top_k(query, [Selection(1, NONE)])


def test_a_table_that_does_not_fit_its_branches_is_refused() -> None:
    with pytest.raises(ValueError, match="the tables are 4 wide, branches 3"):
        EntityTable([Branch("a", 1), Branch("b", 2)], np.zeros((3, 4), np.float32))
