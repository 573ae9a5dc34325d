"""What an entity lacks stays absent from its dataset's file to the answer that a server gives."""

from __future__ import annotations

from typing import Any

import pytest

from momok.commands.text import answer_lines
from momok.model.bundle.bundle import Bundle
from momok.model.networks.base import MODELS
from momok.service.answering.answerer import Answerer
from momok.service.contract.schemas import PredictRequest
from momok.training.data.dataset import Dataset
from momok.training.export.export import export_run
from tests.training.builders import CPU, make_dataset, make_recipe, start

ABSENT = {"e0": ["text"], "e1": [], "e36": ["text", "numeric"], "e37": ["numeric"]}
"""Entities and what ``make_dataset`` gives them no features of."""


@pytest.fixture(scope="module", params=sorted(MODELS))
def answerer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    """The answers of each model, trained for a moment and exported."""
    folder = tmp_path_factory.mktemp("presence")
    make_dataset().write(folder / "dataset")
    dataset = Dataset.open(folder / "dataset")
    recipe = make_recipe(max_epochs=1).changed({"model": request.param})
    trainer = start(folder, recipe, dataset)
    trainer.train()
    export_run(trainer.run, folder / "bundle", dataset=dataset, device=CPU)
    return Answerer.open(folder / "bundle", "cpu")


def ask(answerer: Answerer, key: str) -> Any:
    query = {"queries": [{"head": key, "relation": "club"}], "k": 41, "exclude_known": False}
    return answerer.predict(PredictRequest.model_validate(query))


@pytest.mark.parametrize("key", sorted(ABSENT))
def test_an_absent_modality_weighs_0_and_has_no_gates(answerer: Answerer, key: str) -> None:
    response = ask(answerer, key)
    (answer,) = response.answers
    branches = set(answerer.bundle.branch_names)
    lacking = {offer.entity.key: ABSENT.get(offer.entity.key) for offer in answer.candidates}
    assert len(lacking) == 41
    explained = [(answer, ABSENT[key])]
    explained += [(offer, absent) for offer in answer.candidates if (absent := lacking[offer.entity.key])]
    gated = bool(Bundle.open(answerer.bundle.path).candidates.expert_gates)
    for given, absent in explained:
        gates = given.expert_gates or {}
        assert set(gates) == ({"structure", "text", "numeric"} if gated else set())
        assert {name for name, row in gates.items() if row is None} == (set(absent) if gated else set())
        assert {name for name, weight in given.modality_weights.items() if weight == 0} == set(absent)
        assert sum(given.modality_weights.values()) == pytest.approx(1, abs=1e-5)
    assert all(set(offer.branch_scores) == branches for offer in answer.candidates)
    shown = "\n".join(answer_lines(response))
    for name in ABSENT[key]:
        assert (f"experts of {name}: absent" in shown) == gated
    assert set(answerer.graph.entity(key).modalities) == {"structure", "text", "numeric"} - set(ABSENT[key])
