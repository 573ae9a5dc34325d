"""Ranks of facts: those of double loops in exact arithmetic, whatever float32 rounds away."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momok.model.answer import Query
from momok.model.bundle.bundle import Bundle
from momok.model.filter_index import FilterIndex
from momok.model.retrieval import ranks
from momok.model.retrieval.kernel import Float32Kernel
from momok.model.retrieval.ranks import FactRanker
from momok.model.retrieval.table import EntityTable
from momok.model.scorer import Scorer
from momok.model.scores import FUSIONS, Branch, Decision, RotateBranch

NUM_ENTITIES, WIDTHS = 50, {"structure": 4, "image": 3, "joint": 5}
DECISIONS: tuple[Decision, ...] = ("sum", "mean_sigmoid")


class World:
    """Vectors of entities, some of them copies, some a last bit away from another; facts of one relation."""

    def __init__(self, decision: Decision, scale: float, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.decision = decision
        self.vectors = {
            name: (scale * random.standard_normal((NUM_ENTITIES, width))).astype(np.float32)
            for name, width in WIDTHS.items()
        }
        for rows in self.vectors.values():
            rows[10:20] = rows[:10]
            rows[20:30] = np.nextafter(rows[:10], np.float32(np.inf))
        self.query = {
            name: random.standard_normal((6, width)).astype(np.float32) for name, width in WIDTHS.items()
        }
        self.facts = np.column_stack(
            [random.integers(6, size=40), np.zeros(40, int), random.integers(NUM_ENTITIES, size=40)]
        )
        known = FilterIndex.from_facts({"train": self.facts}, num_entities=NUM_ENTITIES, num_relations=1)
        table = EntityTable.of([Branch(*item) for item in WIDTHS.items()], self.vectors)
        self.scores = FactRanker(Float32Kernel(table, FUSIONS[decision]), known)
        self.query_BX = table.join(self.query)

    def oracle(self, row: int, answer: int) -> tuple[float, float, float]:
        """Score, raw and filtered rank of one answer to one query."""
        scores = [self._score(row, entity) for entity in range(NUM_ENTITIES)]
        known = {tail for head, _, tail in self.facts.tolist() if head == row}
        raw = filtered = Fraction(1)
        for entity, score in enumerate(scores):
            if entity == answer:
                continue
            share = Fraction(1 if score > scores[answer] else 0)
            share += Fraction(1, 2) if score == scores[answer] else 0
            raw += share
            filtered += 0 if entity in known else share
        return float(scores[answer]), float(raw), float(filtered)

    def _score(self, row: int, entity: int) -> Fraction | float:
        logits = [
            sum(
                Fraction(a) * Fraction(b)
                for a, b in zip(self.query[name][row].tolist(), rows[entity].tolist(), strict=True)
            )
            for name, rows in self.vectors.items()
        ]
        if self.decision == "sum":
            return sum(logits, Fraction(0))
        return math.fsum(1 / (1 + math.exp(-float(logit))) for logit in logits) / len(logits)


@pytest.mark.parametrize("decision", DECISIONS)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(scale=st.sampled_from([0.01, 1.0, 8.0]), seed=st.integers(0, 50))
def test_ranks_are_those_of_double_loops(decision: Decision, scale: float, seed: int) -> None:
    world = World(decision, scale, seed)
    answers = np.random.default_rng(seed).integers(NUM_ENTITIES, size=6)
    placed = world.scores.rank(world.query_BX, [(row, 0) for row in range(6)], answers)
    for row, (answer, where) in enumerate(zip(answers.tolist(), placed, strict=True)):
        score, raw, filtered = world.oracle(row, answer)
        assert where.score == pytest.approx(score, rel=1e-12)
        assert (where.raw_rank, where.filtered_rank) == (raw, filtered)


def test_ties_count_half_and_known_answers_nothing() -> None:
    """By hand: entities 0 to 3 score 2, 1, 1, 0; the query's known answers are 0 and 2."""
    table = EntityTable([Branch("structure", 1)], np.array([[2], [1], [1], [0]], np.float32))
    facts = np.array([[0, 0, 0], [0, 0, 2]])
    known = FilterIndex.from_facts({"train": facts}, num_entities=4, num_relations=1)
    scores = FactRanker(Float32Kernel(table, FUSIONS["sum"]), known)
    query_BX = np.ones((4, 1), np.float32)
    placed = scores.rank(query_BX, [(0, 0)] * 4, np.arange(4))
    assert [where.raw_rank for where in placed] == [1, 2.5, 2.5, 4]
    assert [where.filtered_rank for where in placed] == [1, 1, 1.5, 2]
    assert [where.score for where in placed] == [2, 1, 1, 0]


def test_distances_are_ranked_too() -> None:
    """Copies tie, and a last bit apart does not, where float32 distances cannot tell."""
    random = np.random.default_rng(3)
    rows = random.standard_normal((30, 8)).astype(np.float32)
    rows[10:20] = rows[:10]
    rows[20:30] = np.nextafter(rows[:10], np.float32(np.inf))
    table = EntityTable([RotateBranch("structure", 8, 4.0)], rows)
    known = FilterIndex.from_facts({"train": np.array([[0, 0, 3]])}, num_entities=30, num_relations=1)
    scores = FactRanker(Float32Kernel(table, FUSIONS["single"]), known)
    query_BX = random.standard_normal((1, 8)).astype(np.float32)
    exact = [
        4 - math.fsum(math.hypot(*pair) for pair in (query_BX[0] - row).reshape(2, 4).T)
        for row in rows.astype(np.float64)
    ]
    placed = scores.rank(query_BX.repeat(30, axis=0), [(0, 0)] * 30, np.arange(30))
    for entity, where in enumerate(placed):
        others = [(index, score) for index, score in enumerate(exact) if index != entity]
        shares = {
            index: 0.5 if abs(score - exact[entity]) < 1e-13 else float(score > exact[entity])
            for index, score in others
        }
        assert where.score == pytest.approx(exact[entity], rel=1e-12)
        assert where.raw_rank == 1 + sum(shares.values())
        assert where.filtered_rank == where.raw_rank - shares.get(3, 0)
    assert placed[0].raw_rank % 1 == 0.5


@pytest.mark.parametrize("decision", DECISIONS)
def test_scores_beyond_float32_are_ranked(decision: Decision) -> None:
    sizes = np.array([[3e38], [-3e38], [1e38], [1e38], [0]], np.float32)
    table = EntityTable([Branch("structure", 1)], sizes)
    known = FilterIndex.from_facts({}, num_entities=5, num_relations=1)
    scores = FactRanker(Float32Kernel(table, FUSIONS[decision]), known)
    placed = scores.rank(np.full((5, 1), 8, np.float32), [(0, 0)] * 5, np.arange(5))
    above = [1.0, 5.0, 2.5, 2.5, 4.0] if decision == "sum" else [2.0, 5.0, 2.0, 2.0, 4.0]
    assert [where.raw_rank for where in placed] == above


def test_few_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("mean_sigmoid", 1.0)
    asked = [(row, 0) for row in range(6)]
    at_once = world.scores.rank(world.query_BX, asked, np.arange(6))
    monkeypatch.setattr(ranks, "CELLS", 2 * NUM_ENTITIES)
    in_parts = world.scores.rank(world.query_BX, asked, np.arange(6))
    assert [(one.raw_rank, one.filtered_rank) for one in at_once] == [
        (one.raw_rank, one.filtered_rank) for one in in_parts
    ]


def test_the_scorer_ranks_as_it_answers(small_bundle: Path) -> None:
    bundle = Bundle.open(small_bundle)
    scorer = Scorer(bundle.model, bundle.candidates, bundle.known)
    (answer,) = scorer.answer([Query(3, 5, 40, exclude_known=False)])
    order = answer.ranking.entities
    placed = scorer.rank(np.full(40, 3), np.full(40, 5), order)
    scores, values = scorer.score(np.full(40, 3), np.full(40, 5), order)
    assert [fact.result.raw_rank for fact in placed] == list(range(1, 41)), "no ties among random vectors"
    np.testing.assert_allclose(scores, answer.ranking.scores, rtol=1e-5)
    np.testing.assert_allclose(values, answer.ranking.branch_values, rtol=1e-5)
    np.testing.assert_allclose(placed[0].explanation.modality_weights, answer.modality_weights, rtol=1e-5)
    assert placed[0].explanation.relation_temperature == pytest.approx(answer.relation_temperature)
