"""Inference encoders: the results of the model itself, with expert outputs kept or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from momok.model.networks import inference
from momok.model.networks.base import Encoding, LinkPredictor, build_model
from momok.model.networks.relation_cache import RelationCache

MakeModel = Callable[..., LinkPredictor]
SWITCHED_OFF = [(), ("joint",), ("relation_temperature",), ("joint", "relation_temperature")]


def cache_of(model: LinkPredictor) -> RelationCache:
    side = model.inference_encoder()
    assert side is not None
    return RelationCache(side, 1 << 20)


def parts_of(encoding: Encoding) -> Iterator[torch.Tensor]:
    yield from encoding.query.values()
    yield from encoding.expert_gates.values()
    yield encoding.modality_weights
    if encoding.relation_temperature is not None:
        yield encoding.relation_temperature


@pytest.mark.parametrize("kept_bytes", [0, 1 << 20])
@pytest.mark.parametrize("num_modalities", [1, 3, 5])
@pytest.mark.parametrize("off", SWITCHED_OFF, ids="-".join)
@torch.inference_mode()
def test_every_query_alone_is_encoded_as_by_the_model(
    off: tuple[str, ...],
    num_modalities: int,
    kept_bytes: int,
    make_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference, "KEPT_BYTES", kept_bytes)
    whole = make_model("momok", num_modalities)
    lean = build_model(whole.config.model_copy(update=dict.fromkeys(off, False)))
    state = whole.state_dict()
    lean.load_state_dict({name: state[name] for name in lean.state_dict()})
    cache = cache_of(lean.eval())
    for entity in range(lean.config.num_entities):
        for relation in range(2 * lean.config.num_relations):
            query = torch.tensor([entity]), torch.tensor([relation])
            expected, found = lean.encode(*query), cache.encode(*query)
            assert list(found.query) == list(expected.query)
            assert list(found.expert_gates) == list(expected.expert_gates)
            for part, wanted in zip(parts_of(found), parts_of(expected), strict=True):
                assert part.dtype == wanted.dtype
                torch.testing.assert_close(part, wanted, rtol=1e-5, atol=1e-6)


def test_expert_outputs_are_computed_once_where_they_may_be_kept(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    momok = make_model("momok", 3)
    kept = cache_of(momok)
    monkeypatch.setattr(inference, "KEPT_BYTES", 0)
    made_anew = cache_of(momok)
    query = torch.tensor([5]), torch.tensor([1])
    before = kept.encode(*query)
    with torch.no_grad():
        for table in momok.get_submodule("inputs").parameters():
            table.mul_(2)
    assert torch.equal(kept.encode(*query).query["structure"], before.query["structure"])
    torch.testing.assert_close(
        made_anew.encode(*query).query["structure"], momok.encode(*query).query["structure"]
    )
    assert not torch.allclose(made_anew.encode(*query).query["structure"], before.query["structure"])
