"""MoMoK with parts switched off: what is left computes what it computed before, and nothing else is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from momok.model.answer import Query
from momok.model.bundle.bundle import Bundle
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import LinkPredictor, build_model
from momok.model.networks.relation_cache import RelationCache
from momok.model.scorer import Scorer

MakeModel = Callable[..., LinkPredictor]
NUM_MODALITIES = 3


@pytest.fixture
def whole(make_model: MakeModel) -> LinkPredictor:
    return make_model("momok", NUM_MODALITIES)


def without(whole: LinkPredictor, *parts: str) -> LinkPredictor:
    """The same weights in a model that lacks some parts."""
    lean = build_model(whole.config.model_copy(update=dict.fromkeys(parts, False)))
    state = whole.state_dict()
    lean.load_state_dict({name: state[name] for name in lean.state_dict()})
    return lean.eval()


def everything(model: LinkPredictor) -> tuple[torch.Tensor, torch.Tensor]:
    entities, relations = model.config.num_entities, 2 * model.config.num_relations
    return torch.arange(entities).repeat_interleave(relations), torch.arange(relations).repeat(entities)


@torch.inference_mode()
def test_without_the_joint_branch_the_modalities_score_as_before(whole: LinkPredictor) -> None:
    lean = without(whole, "joint")
    assert [branch.name for branch in lean.branches] == list(whole.modality_names)
    assert not any("fusion" in name for name in lean.state_dict())
    assert len(list(lean.children())) < len(list(whole.children()))
    expected, found = whole.encode(*everything(whole)), lean.encode(*everything(lean))
    table, lean_table = whole.entity_table(), lean.entity_table()
    assert set(found.query) == set(lean_table) == set(whole.modality_names)
    for name in lean.modality_names:
        assert torch.equal(found.query[name], expected.query[name])
        assert torch.equal(lean_table[name], table[name])
    by_hand = sum(expected.query[name] @ table[name].T for name in whole.modality_names)
    torch.testing.assert_close(lean.score(found.query, lean_table), by_hand)


@torch.inference_mode()
def test_without_the_joint_branch_present_modalities_weigh_the_same(whole: LinkPredictor) -> None:
    lean = without(whole, "joint")
    weights_NM = lean.candidates().modality_weights
    for has_M, weights_M in zip(whole.present.tolist(), weights_NM.tolist(), strict=True):
        assert weights_M == pytest.approx([1 / sum(has_M) if has else 0 for has in has_M])


@torch.inference_mode()
def test_without_relation_temperature_queries_have_the_gates_of_candidates(whole: LinkPredictor) -> None:
    lean = without(whole, "relation_temperature")
    assert "temperature.weight" not in lean.state_dict()
    entity_B, relation_B = everything(lean)
    encoding, candidates = lean.encode(entity_B, relation_B), lean.candidates()
    assert encoding.relation_temperature is None
    for name, gates_BK in encoding.expert_gates.items():
        torch.testing.assert_close(gates_BK, candidates.expert_gates[name][entity_B])
        assert not torch.allclose(gates_BK, whole.encode(entity_B, relation_B).expert_gates[name])


@pytest.mark.parametrize(
    "parts", [("joint",), ("relation_temperature",), ("joint", "relation_temperature", "gate_noise")]
)
@torch.inference_mode()
def test_folded_relations_change_nothing_whatever_is_switched_off(
    parts: tuple[str, ...], whole: LinkPredictor
) -> None:
    lean = without(whole, *parts)
    side = lean.inference_encoder()
    assert side is not None
    found = RelationCache(side, 1 << 20).encode(*everything(lean))
    expected = lean.encode(*everything(lean))
    for name, query_BD in expected.query.items():
        torch.testing.assert_close(found.query[name], query_BD, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.modality_weights, expected.modality_weights)
    assert (found.relation_temperature is None) == ("relation_temperature" in parts)


@pytest.mark.parametrize("num_modalities", [1, 2, 5])
def test_a_bundle_without_joint_opens_and_answers_without_it(
    num_modalities: int,
    make_model: MakeModel,
    write_bundle: Callable[[Path, LinkPredictor, dict[str, np.ndarray]], None],
    tmp_path: Path,
) -> None:
    lean = without(make_model("momok", num_modalities), "joint", "relation_temperature")
    facts = {"train": np.array([[0, 0, 1], [2, 1, 3]]), "valid": np.empty((0, 3), np.int64)}
    facts["test"] = facts["valid"]
    write_bundle(tmp_path / "bundle", lean, facts)
    bundle = Bundle.open(tmp_path / "bundle", torch.device("cpu"))
    assert [branch.name for branch in bundle.model.branches] == list(lean.modality_names)
    known = FilterIndex.from_facts(facts, num_entities=9, num_relations=2)
    (expected,) = Scorer(lean, lean.candidates(), known).answer([Query(0, 0, 9)])
    (found,) = Scorer(bundle.model, bundle.candidates, bundle.known).answer([Query(0, 0, 9)])
    assert found.ranking.entities.tolist() == expected.ranking.entities.tolist()
    assert found.ranking.branch_values.shape[1] == num_modalities
    assert found.relation_temperature is None
