"""A run and recipes of commit 89e07ef: the run goes on and is evaluated, recipes keep their meaning."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from momok.training.export.export import evaluate_run
from momok.training.fit.preparation import objective_of
from momok.training.fit.recipe import Recipe
from momok.training.fit.run import Run
from momok.training.fit.start import resume_training
from tests.training.builders import CPU

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN, tmp_path / "old")
    file = tmp_path / "old" / "run" / "run.json"
    file.write_text(file.read_text().replace("GOLDEN", str(tmp_path / "old")))
    return tmp_path / "old" / "run"


def test_an_old_run_is_evaluated_and_goes_on(old_run: Path) -> None:
    run = Run.open(old_run)
    report = evaluate_run(run, run.dataset(), "test", CPU)
    assert report["metrics"]["mrr"] > 0
    progress = resume_training(old_run, CPU, ["training.max_epochs=4"]).train()
    assert (progress.epoch, progress.finished) == (4, "max_epochs")


def test_adamf_mat_is_adamf_with_another_objective() -> None:
    old = Recipe.model_validate({"model": "adamf-mat", "objective": {"adversarial_weight": 0.5}})
    assert old == Recipe.model_validate(
        {"model": "adamf", "objective": {"kind": "adversarial", "adversarial_weight": 0.5}}
    )
    for recipe in (old, Recipe.load(None, ["model=adamf-mat"]), Recipe().changed({"model": "adamf-mat"})):
        assert (recipe.model, objective_of(recipe).kind) == ("adamf", "adversarial")


@pytest.mark.parametrize(
    ("model", "kind"), [("momok", "one_to_n"), ("adamf", "self_adversarial"), ("mocme", "egns")]
)
def test_a_recipe_without_a_kind_takes_that_of_its_model(model: str, kind: str) -> None:
    assert objective_of(Recipe.model_validate({"model": model})).kind == kind
