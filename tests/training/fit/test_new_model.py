"""The example of docs/models.md, as it stands there, goes the whole way."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from momok.model.networks.base import MODELS
from momok.service.answering.answerer import Answerer
from momok.service.contract.schemas import PredictRequest
from momok.training.data.dataset import Dataset
from momok.training.evaluation.ranking import evaluation_lines
from momok.training.experiments.grid import Grid, trials_of
from momok.training.export.export import evaluate_run, export_run
from momok.training.fit.recipe import Recipe, RecipeError
from momok.training.fit.run import Run
from tests.conftest import REPOSITORY
from tests.training.builders import CPU, make_dataset, make_recipe, start


@pytest.fixture
def bilinear(tmp_path: Path) -> Iterator[Recipe]:
    """A recipe of the documented model, which is registered meanwhile."""
    text = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "@register" in block)
    file = tmp_path / "bilinear.py"
    file.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("bilinear", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bilinear"] = module
    spec.loader.exec_module(module)
    yield make_recipe(max_epochs=30, patience=30).changed({"model": "bilinear", "network.width": 16})
    del MODELS["bilinear"], sys.modules["bilinear"]


def test_the_documented_model_trains_evaluates_exports_and_answers(bilinear: Recipe, tmp_path: Path) -> None:
    trainer = start(tmp_path, bilinear)
    progress = trainer.train()
    assert progress.best_mrr > 0.4  # 41 entities: chance is at 0.1.
    dataset, run = Dataset.open(tmp_path / "dataset"), Run.open(tmp_path / "run")
    report = evaluate_run(run, dataset, "valid", CPU)
    assert report["metrics"]["mrr"] == pytest.approx(progress.best_mrr)
    assert evaluation_lines(report)
    export_run(run, tmp_path / "bundle", dataset=dataset, device=CPU)
    answerer = Answerer.open(tmp_path / "bundle", "cpu")
    asked = PredictRequest.model_validate({"queries": [{"head": "e36", "relation": "club"}], "k": 3})
    (answer,) = answerer.predict(asked).answers
    assert len(answer.candidates) == 3 and answer.exact and answer.expert_gates is None
    assert answer.modality_weights == {"structure": 1.0, "text": 0.0, "numeric": 0.0}


def test_the_documented_model_keeps_the_contract(bilinear: Recipe, tmp_path: Path) -> None:
    model = start(tmp_path, bilinear).model.eval()
    entity, relation = torch.arange(41), torch.arange(41) % 4
    with torch.inference_mode():
        query, table = model.encode(entity, relation).query["joint"], model.entity_table()["joint"]
        scores = model.score({"joint": query}, {"joint": table})
        weight = model.get_parameter("relations.weight")
        for row in range(0, 41, 7):
            by_hand = (table[row] * weight[row % 4] * table).sum(dim=1)
            torch.testing.assert_close(scores[row], by_hand)


def test_bad_options_of_a_new_model_are_told(bilinear: Recipe, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"objective: club_weight"):
        start(tmp_path, bilinear.changed({"objective.club_weight": 1.0}))


@pytest.mark.parametrize("name", ["momok", "mocme"])
def test_the_grids_we_offer_go_with_their_recipes(name: str) -> None:
    recipe = Recipe.load(REPOSITORY / "configs" / f"{name}-mkg-y.toml")
    grid = Grid.load(REPOSITORY / "configs" / "grids" / f"{name}-ablations.toml")
    specs = {key: recipe.modalities[key] for key in ("structure", "text")}
    base = recipe.model_copy(update={"use": ("structure", "text"), "modalities": specs})
    trials = trials_of(grid, base, make_dataset(), Path("dataset"), directory=REPOSITORY / "configs")
    assert len(trials) == 3 * len(grid.variants)
