"""Ranks against double loops, on a predictor whose every score is written down in a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from momok.model.bundle.names import Names
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import Candidates, Encoding, LinkPredictor, ModalityShape, ModelConfig
from momok.model.networks.modality import ModalityInput
from momok.model.scores import Branch
from momok.training.evaluation.ranking import PROTOCOL, evaluate, evaluation_lines, rank_facts, summarise
from tests.training.builders import start

N, R = 6, 2
RELATIONS = Names("relation", ["P0", "P1"], ["near", "far"])
Facts = dict[str, list[tuple[int, int, int]]]


class Tabulated(LinkPredictor):
    """``score[relation][entity][candidate]`` and ``gate[relation][entity]`` are what they are given to be."""

    def __init__(self, score: Any, gate: Any = None) -> None:
        shapes = tuple(ModalityShape(name=name, input_width=1, width=1) for name in ("structure", "text"))
        config = ModelConfig(model="table", num_entities=N, num_relations=R, modalities=shapes)
        super().__init__(config, [Branch("structure", N)])
        self.table_RNN = torch.tensor(np.asarray(score), dtype=torch.float32)
        gate = np.full((2 * R, N, 2), 0.5) if gate is None else gate
        self.gate_RNK = torch.tensor(np.asarray(gate), dtype=torch.float32)
        self.dropout = torch.nn.Dropout(0.5)

    def load_inputs(self, inputs: Sequence[ModalityInput]) -> None:
        raise NotImplementedError

    def encode(self, entity_B: Tensor, relation_B: Tensor) -> Encoding:
        weights_BM = torch.tensor([0.75, 0.25]).expand(len(entity_B), 2)
        weights_BM = torch.where((relation_B == 1)[:, None], weights_BM.flip(1), weights_BM)
        gates_BK = self.gate_RNK[relation_B, entity_B]
        query_BD = self.dropout(self.table_RNN[relation_B, entity_B])
        return Encoding({"structure": query_BD}, weights_BM, {"structure": gates_BK, "text": gates_BK}, None)

    def candidates(self) -> Candidates:
        return Candidates({"structure": torch.eye(N)}, torch.ones(N, 2) / 2, {})


def known_of(facts: Facts) -> FilterIndex:
    arrays = {split: np.array(rows, dtype=np.int64).reshape(-1, 3) for split, rows in facts.items()}
    return FilterIndex.from_facts(arrays, num_entities=N, num_relations=R)


def array(facts: Sequence[tuple[int, int, int]]) -> np.ndarray:
    return np.array(facts, dtype=np.int64).reshape(-1, 3)


def plain_rank(
    scores: Sequence[float], truth: int, others: set[int], greater: float = 0, equal: float = 0
) -> float:
    for candidate in range(N):
        if candidate == truth or candidate in others:
            continue
        greater += scores[candidate] > scores[truth]
        equal += scores[candidate] == scores[truth]
    return 1 + greater + equal / 2


def plain_ranks(
    score: Any, asked: list[tuple[int, int, int]], facts: Facts
) -> dict[Any, tuple[float, float]]:
    """Fact -> (rank of the tail, rank of the head)."""
    true = {fact for rows in facts.values() for fact in rows}
    ranks = {}
    for head, relation, tail in asked:
        tails = {t for t in range(N) if (head, relation, t) in true}
        heads = {h for h in range(N) if (h, relation, tail) in true}
        ranks[head, relation, tail] = (
            plain_rank(score[relation][head], tail, tails),
            plain_rank(score[relation + R][tail], head, heads),
        )
    return ranks


def plain_summary(ranks: list[float]) -> dict[str, float]:
    count = len(ranks)
    hits = {f"hits@{k}": sum(rank <= k for rank in ranks) / count if count else 0.0 for k in (1, 3, 10)}
    mrr = sum(1 / rank for rank in ranks) / count if count else 0.0
    return {"mrr": mrr, "mr": sum(ranks) / count if count else 0.0, **hits, "num_queries": count}


FACT = st.tuples(st.integers(0, N - 1), st.integers(0, R - 1), st.integers(0, N - 1))
GRAPHS = st.fixed_dictionaries(
    {
        "train": st.lists(FACT, min_size=1, max_size=12),
        "valid": st.lists(FACT, max_size=6),
        "test": st.lists(FACT, max_size=10),
    }
)
# Four values for six candidates: nearly every query has ties.
SCORES = st.lists(st.integers(-1, 2), min_size=2 * R * N * N, max_size=2 * R * N * N).map(
    lambda values: np.array(values, dtype=np.float64).reshape(2 * R, N, N)
)


@given(facts=GRAPHS, score=SCORES, batch_size=st.integers(1, 9))
@settings(deadline=None)
def test_ranks_are_those_of_double_loops(facts: Facts, score: np.ndarray, batch_size: int) -> None:
    asked = facts["test"]
    expected = plain_ranks(score.tolist(), asked, facts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("momok.training.evaluation.ranking.rows_at_once", lambda table_ND: batch_size)
        ranks = rank_facts(Tabulated(score), array(asked), known_of(facts))
    assert ranks.tail.tolist() == [expected[fact][0] for fact in asked]
    assert ranks.head.tolist() == [expected[fact][1] for fact in asked]


@given(facts=GRAPHS, score=SCORES)
@settings(deadline=None)
def test_report_is_that_of_double_loops(facts: Facts, score: np.ndarray) -> None:
    model = Tabulated(score)
    seen = {entity for head, _, tail in facts["train"] for entity in (head, tail)}
    report = evaluate(
        model, array(facts["test"]), known_of(facts), seen=np.array(sorted(seen)), relations=RELATIONS
    )
    # Every distinct fact once, those of train and valid among them.
    expected = plain_ranks(score.tolist(), facts["test"], facts)
    tail = [pair[0] for pair in expected.values()]
    head = [pair[1] for pair in expected.values()]
    known_ends = [fact[0] in seen and fact[2] in seen for fact in expected]
    of_seen = [
        rank for pair, known in zip(expected.values(), known_ends, strict=True) if known for rank in pair
    ]
    unseen = [
        rank for pair, known in zip(expected.values(), known_ends, strict=True) if not known for rank in pair
    ]
    assert report["num_facts"] == len(expected)
    assert report["protocol"] == PROTOCOL
    assert report["metrics"] == pytest.approx(plain_summary(tail + head))
    assert report["by_direction"]["tail"] == pytest.approx(plain_summary(tail))
    assert report["by_direction"]["head"] == pytest.approx(plain_summary(head))
    assert report["by_entities"]["seen"] == pytest.approx(plain_summary(of_seen))
    assert report["by_entities"]["unseen"] == pytest.approx(plain_summary(unseen))
    assert set(report["by_relation"]) == {RELATIONS.keys[relation] for _, relation, _ in expected}
    for key, row in report["by_relation"].items():
        relation = RELATIONS.keys.index(key)
        for place, end in enumerate(("tail", "head")):
            ranks = [pair[place] for fact, pair in expected.items() if fact[1] == relation]
            assert row[end] == pytest.approx(plain_summary(ranks))
        assert row["label"] == RELATIONS.labels[relation]
    assert evaluation_lines(report)


def test_ranks_worked_out_by_hand() -> None:
    score = np.zeros((2 * R, N, N))
    score[0, 0] = [5, 4, 4, 4, 9, 1]  # (0, near, 1): 4 is known and out; 0 above; 2 and 3 tie.
    score[R, 1] = [1, 2, 3, 3, 0, 0]  # (?, near, 1), truth 0: 5 is known and out; 1, 2, 3 above; 4 below.
    facts: Facts = {"train": [(0, 0, 4)], "valid": [(5, 0, 1)], "test": [(0, 0, 1)]}
    ranks = rank_facts(Tabulated(score), array(facts["test"]), known_of(facts))
    assert ranks.tail.tolist() == [3.0]
    assert ranks.head.tolist() == [4.0]
    assert summarise(ranks.both()) == {
        "mrr": pytest.approx((1 / 3 + 1 / 4) / 2),
        "mr": 3.5,
        "hits@1": 0.0,
        "hits@3": 0.5,
        "hits@10": 1.0,
        "num_queries": 2,
    }


def test_equal_scores_everywhere_rank_in_the_middle() -> None:
    facts: Facts = {"test": [(0, 0, 1)]}
    ranks = rank_facts(Tabulated(np.ones((2 * R, N, N))), array(facts["test"]), known_of(facts))
    assert ranks.both().tolist() == [1 + (N - 1) / 2] * 2


def test_a_truth_that_is_not_known_does_not_tie_with_itself() -> None:
    score = np.zeros((2 * R, N, N))
    score[:, :, 1] = score[:, :, 0] = 1
    ranks = rank_facts(Tabulated(score), array([(0, 0, 1)]), known_of({"train": [(3, 1, 4)]}))
    assert ranks.both().tolist() == [1.5, 1.5]


def test_a_table_that_is_given_is_used() -> None:
    facts: Facts = {"test": [(0, 0, 1)]}
    score = np.zeros((2 * R, N, N))
    score[0, 0, 3] = 1
    known, asked = known_of(facts), array(facts["test"])
    assert rank_facts(Tabulated(score), asked, known).tail[0] > 1
    to_truth = torch.eye(N)[[0, 3, 2, 1, 4, 5]]
    assert rank_facts(Tabulated(score), asked, known, table={"structure": to_truth}).tail[0] == 1


def test_nothing_to_rank_gives_zeros() -> None:
    model = Tabulated(np.zeros((2 * R, N, N)))
    report = evaluate(model, array([]), known_of({}), seen=np.arange(2), relations=RELATIONS)
    assert report["metrics"] == plain_summary([])
    assert report["by_relation"] == {}
    assert evaluation_lines(report)


# Gates


def gate_report(gate: Any, asked: Facts, present: Any = None) -> dict[str, Any]:
    model = Tabulated(np.zeros((2 * R, N, N)), gate)
    if present is not None:
        model.present.copy_(torch.tensor(present))
    return evaluate(model, array(asked["test"]), known_of(asked), seen=np.arange(N), relations=RELATIONS)


def test_gates_of_known_entropy() -> None:
    """Queries: (0, near, ?), (1, far, ?), and the inverse ones of entities 2 and 3."""
    gate = np.zeros((2 * R, N, 2))
    gate[0, 0] = [1, 0]
    gate[1, 1] = [0.5, 0.5]
    gate[R, 2] = [0.25, 0.75]
    gate[R + 1, 3] = [0.25, 0.75]
    present = np.ones((N, 2), dtype=bool)
    present[[2, 3], 1] = False  # These lack the text, so its gates there say nothing.
    report = gate_report(gate, {"test": [(0, 0, 2), (1, 1, 3)]}, present)
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(2)
    structure, text = report["gates"]["structure"], report["gates"]["text"]
    assert structure["entropy"] == pytest.approx((0 + 1 + 2 * quarter) / 4)
    assert structure["mean"] == pytest.approx([0.5, 0.5])
    assert structure["spread"] == pytest.approx(np.std([1, 0.5, 0.25, 0.25]))
    assert text["entropy"] == pytest.approx(0.5)
    assert text["mean"] == pytest.approx([0.75, 0.25])
    assert text["spread"] == pytest.approx(0.25)


def test_spread_is_between_relations_and_not_between_queries() -> None:
    """Entities disagree as much as can be, but each relation hears both of them."""
    gate = np.zeros((2 * R, N, 2))
    gate[:, 0::2] = [1, 0]
    gate[:, 1::2] = [0, 1]
    report = gate_report(gate, {"test": [(0, 0, 2), (1, 0, 3), (0, 1, 2), (1, 1, 3)]})
    assert report["gates"]["structure"]["spread"] == pytest.approx(0)
    assert report["gates"]["structure"]["entropy"] == pytest.approx(0)


def test_a_single_expert_has_no_entropy() -> None:
    report = gate_report(np.ones((2 * R, N, 1)), {"test": [(0, 0, 1)]})
    assert report["gates"]["text"] == {"mean": [1.0], "entropy": 0.0, "spread": 0.0}


def test_a_modality_that_no_query_has_is_left_out() -> None:
    present = np.ones((N, 2), dtype=bool)
    present[:, 1] = False
    assert set(gate_report(None, {"test": [(0, 0, 1)]}, present)["gates"]) == {"structure"}


def test_modality_weights_are_means_over_queries_and_by_relation() -> None:
    """Relation 1 weighs text by 0.75, all others structure; so one query of four turns it around."""
    report = gate_report(None, {"test": [(0, 0, 1), (2, 1, 3)]})
    assert report["modality_weights"] == pytest.approx({"structure": 0.625, "text": 0.375})
    far = report["by_relation"]["P1"]["modality_weights"]
    assert far["tail"] == pytest.approx({"structure": 0.25, "text": 0.75})
    assert far["head"] == pytest.approx({"structure": 0.75, "text": 0.25})


def test_fresh_gates_are_uniform_and_all_alike(tmp_path: Any) -> None:
    trainer = start(tmp_path)
    dataset = trainer.run.dataset()
    report = evaluate(
        trainer.model,
        dataset.facts["test"],
        dataset.known(),
        seen=dataset.seen_entities(),
        relations=dataset.relations,
    )
    assert set(report["gates"]) == {"structure", "text", "numeric"}
    for gates in report["gates"].values():
        assert gates["entropy"] == pytest.approx(1)
        assert gates["spread"] == pytest.approx(0, abs=1e-7)
        assert gates["mean"] == pytest.approx([1 / 3] * 3)


# Manners


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("candidate", [1, 5])
def test_a_score_that_is_not_finite_raises(value: float, candidate: int) -> None:
    """Of the truth (1) or of any other candidate: NaN would count as below it."""
    vectors = torch.eye(N)
    vectors[candidate] = value
    model = Tabulated(np.ones((2 * R, N, N))).train()
    known = known_of({"test": [(0, 0, 1)]})
    with pytest.raises(ValueError, match="not finite"):
        rank_facts(model, array([(0, 0, 1)]), known, table={"structure": vectors})
    assert model.training


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_draws_no_random_numbers_and_leaves_the_mode(training: bool) -> None:
    model = Tabulated(np.random.default_rng(0).normal(size=(2 * R, N, N))).train(training)
    before = torch.get_rng_state()
    facts: Facts = {"test": [(0, 0, 1), (2, 1, 3)]}
    for _ in range(2):
        ranks = rank_facts(model, array(facts["test"]), known_of(facts))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training is training
    expected = plain_ranks(model.table_RNN.tolist(), facts["test"], facts)  # Dropout would show.
    assert [*ranks.tail, *ranks.head] == [pair[end] for end in (0, 1) for pair in expected.values()]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_query_with_several_answers_is_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    facts: Facts = {"test": [(0, 0, 1), (0, 0, 2), (0, 0, 3), (4, 1, 3)]}
    model = Tabulated(np.arange(2 * R * N * N, dtype=float).reshape(2 * R, N, N))
    scored = []
    score = model.score_tiles

    def watched(query: dict[str, torch.Tensor], table: dict[str, torch.Tensor]) -> Iterator[torch.Tensor]:
        scored.append(len(next(iter(query.values()))))
        yield from score(query, table)

    monkeypatch.setattr(model, "score_tiles", watched)
    rank_facts(model, array(facts["test"]), known_of(facts))
    assert sum(scored) == 2 + 4  # Two tails are asked for, and the heads of four facts.
