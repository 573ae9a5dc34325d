"""Sweeps: runs like any other, none of them twice, and a table that can be checked by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from momok.cli import main
from momok.model.errors import UserError
from momok.model.networks.modality import Modality
from momok.training.data.dataset import Dataset
from momok.training.experiments.results import results_lines
from momok.training.experiments.sweep import sweep
from momok.training.experiments.trials import Running
from momok.training.export.export import evaluate_run
from momok.training.fit.recipe import Recipe, RecipeError
from momok.training.fit.run import Run
from momok.training.fit.start import start_training
from tests.training.builders import CPU, after, events, make_dataset, make_recipe, start, write_dataset

GRID = """
seeds = [1, 2]
[variants.whole]
[variants.bare]
drop = ["numeric"]
"network.joint" = false
"objective.club_weight" = 0
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "grid.toml").write_text(GRID, encoding="utf-8")
    return write_dataset(tmp_path)


def run_sweep(dataset: Path, **options: Any) -> dict[str, Any] | None:
    folder = dataset.parent
    recipe = options.pop("recipe", make_recipe(max_epochs=2))
    return sweep(dataset, recipe, folder / "grid.toml", Running(folder / "out", CPU, **options))


def test_a_sweep_trains_what_train_would_train(dataset: Path) -> None:
    results = run_sweep(dataset)
    assert results is not None
    names = ["whole,seed=1", "whole,seed=2", "bare,seed=1", "bare,seed=2"]
    assert [run["name"] for run in results["runs"]] == names
    alone = start_training(
        dataset.parent / "alone", Dataset.open(dataset), dataset, make_recipe(max_epochs=2), CPU
    )
    alone.train()
    model, _ = Run.open(dataset.parent / "out" / "whole,seed=1").best_model()
    expected, _ = Run.open(dataset.parent / "alone").best_model()
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    bare = Run.open(dataset.parent / "out" / "bare,seed=2").best_model()[0]
    assert [branch.name for branch in bare.branches] == ["structure", "text"]


def test_results_hold_every_run_and_the_mean_over_seeds(dataset: Path) -> None:
    results = run_sweep(dataset, split="test")
    assert results is not None
    folder = dataset.parent / "out"
    assert json.loads((folder / "results.json").read_text(encoding="utf-8")) == results
    opened = Dataset.open(dataset)
    for row in results["runs"]:
        run = Run.open(folder / row["name"])
        for split in ("valid", "test"):
            report = evaluate_run(run, opened, split, CPU)
            assert row["metrics"][split]["mrr"] == report["metrics"]["mrr"]
    one, other = (run["metrics"]["test"]["mrr"] for run in results["runs"][:2])
    spread = results["summary"][0]["metrics"]["test"]["mrr"]
    assert spread["mean"] == pytest.approx((one + other) / 2)
    assert spread["std"] == pytest.approx(abs(one - other) / 2**0.5)
    lines = (folder / "results.tsv").read_text(encoding="utf-8").splitlines()
    header = lines[0].split("\t")
    rows = [dict(zip(header, line.split("\t"), strict=True)) for line in lines[1:]]
    assert [row["name"] for row in rows] == [run["name"] for run in results["runs"]]
    assert float(rows[0]["test mrr"]) == pytest.approx(one, rel=1e-5)
    assert rows[2]["variant"] == "bare" and int(rows[2]["parameters"]) < int(rows[0]["parameters"])
    table = results_lines(results)
    assert len(table) == 3 and "±" in table[1] and "test mrr" in table[0]


def test_test_is_looked_at_only_where_asked(dataset: Path) -> None:
    results = run_sweep(dataset)
    assert results is not None and all(set(run["metrics"]) == {"valid"} for run in results["runs"])
    assert not list((dataset.parent / "out").glob("*/evaluation-test.json"))


def test_what_is_done_is_not_done_again(dataset: Path) -> None:
    first = run_sweep(dataset)
    before = {path: path.stat().st_mtime_ns for path in (dataset.parent / "out").glob("*/*")}
    shown: list[str] = []
    assert run_sweep(dataset, show=shown.append) == first
    assert not shown
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # Test is then looked at without training anything.
    results = run_sweep(dataset, split="test", show=shown.append)
    assert results is not None and not shown and "test" in results["summary"][0]["metrics"]


@pytest.mark.parametrize("steps", [1, 5, 9])
def test_an_interrupted_sweep_goes_on_to_the_same_results(dataset: Path, steps: int) -> None:
    stop: Callable[[], bool] = after(steps)
    assert run_sweep(dataset, stop=stop) is None
    interrupted = [path for path in (dataset.parent / "out").iterdir() if path.is_dir()]
    assert len(interrupted) < 4
    found = run_sweep(dataset)
    assert any(events(path, "resumed") for path in interrupted)
    (dataset.parent / "out").rename(dataset.parent / "interrupted")
    expected = run_sweep(dataset)
    assert found is not None and expected is not None
    assert [run["metrics"] for run in found["runs"]] == [run["metrics"] for run in expected["runs"]]


def test_a_recipe_that_cannot_be_built_is_found_before_any_training(dataset: Path) -> None:
    grid = '[variants.good]\n[variants.bad]\n"network.nonesuch" = 1'
    (dataset.parent / "grid.toml").write_text(grid, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"bad,seed=1: network: nonesuch"):
        run_sweep(dataset)
    assert not (dataset.parent / "out").exists()


def test_a_run_that_diverges_is_reported_and_the_others_go_on(dataset: Path) -> None:
    grid = '[grid]\n"training.learning_rate" = [1e30, 1e-2]'
    (dataset.parent / "grid.toml").write_text(grid, encoding="utf-8")
    shown: list[str] = []
    results = run_sweep(dataset, show=shown.append)
    assert results is not None
    failed, done = results["runs"]
    assert "learning_rate" in failed["failed"] and not failed["metrics"]
    assert done["failed"] is None and done["metrics"]["valid"]["mrr"] > 0
    assert any("failed" in line for line in shown)
    assert results["summary"][0]["failed"] == [1] and "(1 failed)" in results_lines(results)[1]


def test_a_folder_with_other_runs_is_refused(dataset: Path) -> None:
    run_sweep(dataset)
    with pytest.raises(UserError, match=r"whole,seed=1 is the run of another recipe"):
        run_sweep(dataset, recipe=make_recipe(max_epochs=5))
    moved = dataset.rename(dataset.parent / "moved")
    with pytest.raises(UserError, match="was trained on"):
        run_sweep(moved)


def changed_facts(dataset: Dataset) -> Dataset:
    return replace(dataset, facts=dataset.facts | {"train": dataset.facts["train"][1:]})


def changed_modality(name: str, change: Callable[[Modality], Modality]) -> Callable[[Dataset], Dataset]:
    return lambda dataset: replace(
        dataset,
        modalities=tuple(change(given) if given.name == name else given for given in dataset.modalities),
    )


def other_value(modality: Modality) -> Modality:
    assert modality.features is not None
    features = modality.features.copy()
    features[3, 1] += 1
    return replace(modality, features=features)


def one_entity_less(modality: Modality) -> Modality:
    assert modality.features is not None and modality.rows is not None
    return replace(modality, features=modality.features[1:], rows=modality.rows[1:])


def other_owners(modality: Modality) -> Modality:
    assert modality.rows is not None
    return replace(modality, rows=modality.rows[::-1].copy())


def without_numeric(dataset: Dataset) -> Dataset:
    return replace(dataset, modalities=dataset.modalities[:-1])


def rewrite(path: Path, change: Callable[[Dataset], Dataset]) -> None:
    """Another dataset in the place of the one at ``path``."""
    changed = change(Dataset.open(path))
    shutil.rmtree(path)
    changed.write(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed_facts, r"dataset has changed since .*whole,seed=1; choose another --out, or remove it"),
        (
            changed_modality("text", other_value),
            r"features of text have changed since .*whole,seed=1; choose",
        ),
        (changed_modality("text", one_entity_less), "features of text have changed since"),
        (changed_modality("numeric", other_owners), "features of numeric have changed since"),
        (without_numeric, "features of numeric have changed since"),
    ],
    ids=["a fact", "a value", "an entity less", "other owners", "a modality less"],
)
def test_a_dataset_that_has_changed_since_is_refused(
    dataset: Path, change: Callable[[Dataset], Dataset], words: str
) -> None:
    (dataset.parent / "grid.toml").write_text("[variants.whole]", encoding="utf-8")
    recipe = Recipe.model_validate({"training": {"max_epochs": 1, "seed": 1}})
    run_sweep(dataset, recipe=recipe)
    results = (dataset.parent / "out" / "results.json").read_bytes()
    rewrite(dataset, change)
    with pytest.raises(UserError, match=words):
        run_sweep(dataset, recipe=recipe)
    assert (dataset.parent / "out" / "results.json").read_bytes() == results


@pytest.mark.parametrize(
    "change",
    [
        lambda dataset: replace(dataset, name="other", descriptions=("new",) * dataset.num_entities),
        changed_modality("numeric", other_value),
    ],
    ids=["a name", "a modality that no run uses"],
)
def test_what_no_run_learned_from_may_change(dataset: Path, change: Callable[[Dataset], Dataset]) -> None:
    (dataset.parent / "grid.toml").write_text('[variants.bare]\ndrop = ["numeric"]', encoding="utf-8")
    first = run_sweep(dataset)
    rewrite(dataset, change)
    again = run_sweep(dataset)
    assert first is not None and again is not None
    assert again["runs"] == first["runs"]


def test_runs_that_did_not_keep_digests_of_features_go_on(dataset: Path) -> None:
    (dataset.parent / "grid.toml").write_text("", encoding="utf-8")
    assert run_sweep(dataset, stop=after(5)) is None
    file = dataset.parent / "out" / "seed=1" / "run.json"
    facts = json.loads(file.read_text(encoding="utf-8"))
    assert set(facts["dataset"].pop("features")) == {"text", "numeric"}
    file.write_text(json.dumps(facts), encoding="utf-8")
    rewrite(dataset, changed_modality("text", other_value))
    assert run_sweep(dataset) is not None
    assert events(file.parent, "resumed")


def test_without_valid_facts_there_is_nothing_to_compare_by(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text("", encoding="utf-8")
    dataset = write_dataset(tmp_path, make_dataset(valid=False))
    with pytest.raises(UserError, match="no valid facts"):
        run_sweep(dataset)


def test_a_damaged_report_is_named(dataset: Path) -> None:
    run_sweep(dataset)
    (dataset.parent / "out" / "bare,seed=1" / "evaluation-valid.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"evaluation-valid.json: damaged"):
        run_sweep(dataset)


def test_parameters_are_counted_without_building_them(tmp_path: Path) -> None:
    trainer = start(tmp_path)
    assert trainer.run.num_parameters() == sum(p.numel() for p in trainer.model.parameters())


def test_the_command_prints_the_table_and_refuses_in_one_line(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = dataset.parent
    (folder / "base.toml").write_text(
        "network = {relation_width = 4, joint_width = 4}\ntraining = {max_epochs = 1}\n"
        "modalities = {structure = {width = 8}, text = {width = 8}}",
        encoding="utf-8",
    )
    command = ["sweep", str(dataset), "--config", str(folder / "base.toml"), "--out", str(folder / "out")]
    assert main([*command, "--grid", str(folder / "grid.toml")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:2] == ["variant", "seeds"] and len(printed) == 3
    assert main([*command, "--grid", str(folder / "none.toml")]) == 2
    assert capsys.readouterr().err.startswith("momok: ")
    rewrite(dataset, changed_modality("text", other_value))
    assert main([*command, "--grid", str(folder / "grid.toml")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("momok: ") and "features of text have changed" in said and said.count("\n") == 1


def test_the_dataset_is_opened_once(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validating a large graph takes longer than reading a finished trial."""
    opened: list[Path] = []
    open_dataset = Dataset.open

    def counting(path: Path) -> Dataset:
        opened.append(path)
        return open_dataset(path)

    monkeypatch.setattr(Dataset, "open", counting)
    assert run_sweep(dataset, stop=after(3)) is None
    assert run_sweep(dataset, split="test") is not None
    assert run_sweep(dataset, split="test") is not None
    assert opened == [dataset] * 3
