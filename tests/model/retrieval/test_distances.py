"""Retrieval by rotation distances: its top k are the top k."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from momok.model.answer import Query
from momok.model.bundle.bundle import Bundle
from momok.model.errors import UserError
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import LinkPredictor
from momok.model.retrieval.engine import EngineName, Engines
from momok.model.retrieval.retriever import Retriever
from momok.model.retrieval.selection import Selection
from momok.model.retrieval.table import EntityTable
from momok.model.scorer import Scorer
from momok.model.scores import FUSIONS, RotateBranch
from tests.model.retrieval.test_retriever import (
    NONE,
    Attack,
    assert_same,
    assert_top_k,
    eligible,
    selections,
)

MARGIN = 4.0
ENGINES: list[EngineName] = ["auto", "scan"]


def retriever_of(table_NX: np.ndarray, engine: EngineName) -> Retriever:
    branch, fusion = RotateBranch("joint", table_NX.shape[1], MARGIN), FUSIONS["single"]
    table = EntityTable([branch], table_NX.astype(np.float32))
    return Retriever(table, fusion, Engines(table, fusion, engine=engine))


def plain_scores(table_NX: np.ndarray, query_X: np.ndarray) -> list[float]:
    """The score of every entity, moduli and sums correctly rounded."""
    dim = table_NX.shape[1] // 2
    query, scores = query_X.astype(np.float32).tolist(), []
    for row in table_NX.astype(np.float32).tolist():
        moduli = [math.hypot(query[i] - row[i], query[i + dim] - row[i + dim]) for i in range(dim)]
        scores.append(MARGIN - math.fsum(moduli))
    return scores


def random_rows(rng: np.random.Generator, number: int, width: int, *, whole: bool) -> np.ndarray:
    """Small whole numbers, where ties abound, or real numbers where a tenth of the rows are copies."""
    if whole:
        return rng.integers(-2, 3, size=(number, width)).astype(np.float64)
    rows = rng.standard_normal((number, width))
    copied, onto = rng.integers(0, number, size=(2, number // 10))
    rows[onto] = rows[copied]
    return rows


@given(
    data=st.data(),
    seed=st.integers(0, 2**32 - 1),
    dim=st.integers(1, 6),
    num_entities=st.sampled_from([1, 2, 40, 300, 1000]),
    whole=st.booleans(),
    engine=st.sampled_from(ENGINES),
)
@settings(max_examples=120, deadline=None)
def test_top_k_is_that_of_brute_force(
    data: st.DataObject, seed: int, dim: int, num_entities: int, whole: bool, engine: EngineName
) -> None:
    rng = np.random.default_rng(seed)
    table_NX = random_rows(rng, num_entities, 2 * dim, whole=whole)
    query_BX = random_rows(rng, 3, 2 * dim, whole=whole)
    chosen = [data.draw(selections(num_entities)) for _ in range(3)]
    retriever = retriever_of(table_NX, engine)
    all_of_them = np.arange(num_entities)
    for row, ranking in enumerate(retriever.top_k({"joint": query_BX.astype(np.float32)}, chosen)):
        wanted, scores = eligible(chosen[row], num_entities), plain_scores(table_NX, query_BX[row])
        assert ranking.exact
        assert_top_k(ranking, scores, wanted, chosen[row].k)
        one = {"joint": query_BX[row : row + 1].astype(np.float32)}
        full = retriever.top_k(one, [Selection(num_entities, NONE, all_of_them)])[0].entities.tolist()
        kept = [entity for entity in full if entity in set(wanted)]
        assert ranking.entities.tolist() == kept[: chosen[row].k]
        assert_same(ranking, retriever.top_k(one, [chosen[row]])[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_vectors_tie_and_the_smallest_ids_come_first(engine: EngineName) -> None:
    table_NX = np.tile(np.linspace(-1, 1, 8), (500, 1))
    table_NX[[7, 300]] = 0.5
    ranking = retriever_of(table_NX, engine).top_k(
        {"joint": np.full((1, 8), 0.5, np.float32)}, [Selection(5, np.array([1]))]
    )[0]
    assert ranking.entities.tolist() == [7, 300, 0, 2, 3]
    assert ranking.scores[:2].tolist() == [MARGIN, MARGIN]


def attack_by_rounding(rng: np.random.Generator, num_entities: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances that differ by less than float32 sees."""
    table_NX = np.full((num_entities, 12), 1000.0) + rng.integers(0, 2, (num_entities, 12)) * 2.0**-13
    return table_NX, np.full((1, 12), -1000.0)


def attack_by_size(rng: np.random.Generator, num_entities: int) -> tuple[np.ndarray, np.ndarray]:
    """Squares that overflow float32."""
    return rng.standard_normal((num_entities, 4)) * 1e25, np.ones((1, 4))


def attack_by_smallness(rng: np.random.Generator, num_entities: int) -> tuple[np.ndarray, np.ndarray]:
    """Squares that underflow float32."""
    return rng.standard_normal((num_entities, 4)) * 1e-30, np.zeros((1, 4))


def attack_from_the_middle(rng: np.random.Generator, num_entities: int) -> tuple[np.ndarray, np.ndarray]:
    """A query that lies in no direction at all."""
    table_NX = rng.standard_normal((num_entities, 8))
    return np.concatenate([table_NX, -table_NX]), np.zeros((1, 8))


ATTACKS: list[Attack] = [attack_by_rounding, attack_by_size, attack_by_smallness, attack_from_the_middle]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_what_float32_cannot_tell_apart_is_ranked_all_the_same(attack: Attack, engine: EngineName) -> None:
    table_NX, query_BX = attack(np.random.default_rng(1), 600)
    ranking = retriever_of(table_NX, engine).top_k(
        {"joint": query_BX.astype(np.float32)}, [Selection(9, NONE)]
    )[0]
    assert_top_k(ranking, plain_scores(table_NX, query_BX[0]), range(len(table_NX)), 9)


def test_values_that_are_not_finite_are_refused() -> None:
    rows = np.zeros((3, 4), np.float32)
    with pytest.raises(ValueError, match="not finite"):
        retriever_of(np.full((3, 4), np.inf), "scan")
    with pytest.raises(ValueError, match="not finite"):
        retriever_of(rows, "scan").top_k({"joint": rows * np.nan}, [Selection(1, NONE)] * 3)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_scorer_answers_as_the_model_scores(
    engine: EngineName,
    tmp_path: Path,
    facts: dict[str, np.ndarray],
    make_model: Callable[..., LinkPredictor],
    write_bundle: Callable[[Path, LinkPredictor, dict[str, np.ndarray]], None],
) -> None:
    model = make_model("adamf", 3, num_entities=40, num_relations=4)
    write_bundle(tmp_path / "bundle", model, facts)
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.candidates.expert_gates == {}
    assert bundle.manifest.branches[0].geometry == "rotate"
    known = FilterIndex.from_facts(facts, num_entities=40, num_relations=4)
    scorer = Scorer(bundle.model, bundle.candidates, bundle.known, engine=engine)
    scorer.warm()
    queries = [Query(entity, relation, 5) for entity in range(0, 40, 7) for relation in (0, 3, 4, 7)]
    with torch.inference_mode():
        for query, answer in zip(queries, scorer.answer(queries), strict=True):
            encoding = model.encode(torch.tensor([query.entity]), torch.tensor([query.relation]))
            scores = model.score(encoding.query, model.entity_table())[0]
            scores[known.of(query.entity, query.relation)[0]] = -torch.inf
            best = scores.topk(5)
            assert answer.ranking.scores.tolist() == pytest.approx(best.values.tolist(), rel=1e-5, abs=1e-5)
            assert answer.ranking.exact
            assert answer.expert_gates == {} and answer.relation_temperature is None
            assert answer.ranking.branch_values[:, 0].tolist() == answer.ranking.scores.tolist()
            np.testing.assert_allclose(answer.modality_weights, encoding.modality_weights[0], rtol=1e-5)


@pytest.mark.parametrize("engine", ["faiss", "scan-bfloat16", "scan-int8"])
def test_distances_are_scanned_in_float32(engine: EngineName) -> None:
    told = f"there is no engine {engine} for scores that are distances; take engine scan"
    with pytest.raises(UserError, match=told):
        retriever_of(np.ones((10, 4)), engine)
    retriever = retriever_of(np.random.default_rng(0).standard_normal((300, 4)), "auto")
    retriever.measure({"joint": np.ones((2, 4), np.float32)})
    assert engine not in retriever.engines.choices.values()
