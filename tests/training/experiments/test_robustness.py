"""Corrupted graphs differ where the scenario says alone; models on them are ranked on the whole graph."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from momok.cli import main
from momok.commands.console import checked
from momok.model.errors import UserError
from momok.training.data.dataset import Dataset
from momok.training.evaluation.ranking import rank_facts, summarise
from momok.training.experiments.corruption import Scenario, corrupted
from momok.training.experiments.plot import plot_curves
from momok.training.experiments.robustness import RobustnessOptions, curves, robustness
from momok.training.experiments.trials import Running
from momok.training.fit.recipe import Recipe
from momok.training.fit.run import Run
from tests.training.builders import CPU, after, make_dataset, make_recipe, write_dataset

RATES = (0.25, 0.5)


def by_name(dataset: Dataset) -> dict[str, Any]:
    return {modality.name: modality for modality in dataset.modalities}


def facts_set(dataset: Dataset, split: str) -> list[tuple[int, ...]]:
    return sorted(map(tuple, dataset.facts[split].tolist()))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_noise_hits_its_share_of_rows_and_looks_like_features(rate: float) -> None:
    whole = make_dataset()
    found = by_name(corrupted(whole, "noise", rate, seed=3))
    for name in ("text", "numeric"):
        before, after_ = by_name(whole)[name], found[name]
        assert np.array_equal(after_.rows, before.rows)
        assert after_.features.dtype == before.features.dtype
        hit_n = (after_.features != before.features).any(axis=1)
        assert hit_n.sum() == round(rate * len(hit_n))
        if rate == 0.9:
            assert np.allclose(after_.features[hit_n].mean(axis=0), before.features.mean(axis=0), atol=0.6)
            assert np.all(after_.features[hit_n].std(axis=0) < 3 * before.features.std(axis=0))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_missing_takes_its_share_of_rows_and_leaves_the_others(rate: float) -> None:
    whole = make_dataset()
    found = by_name(corrupted(whole, "missing", rate, seed=3))
    assert found["structure"].features is None
    for name in ("text", "numeric"):
        before, after_ = by_name(whole)[name], found[name]
        assert len(after_.rows) == len(before.rows) - round(rate * len(before.rows))
        places = np.searchsorted(before.rows, after_.rows)
        assert np.array_equal(before.rows[places], after_.rows)
        assert np.array_equal(before.features[places], after_.features)


def test_sparsity_takes_train_facts_alone() -> None:
    whole = make_dataset()
    found = corrupted(whole, "sparsity", 0.5, seed=3)
    assert len(found.facts["train"]) == len(whole.facts["train"]) - round(0.5 * len(whole.facts["train"]))
    assert set(facts_set(found, "train")) <= set(facts_set(whole, "train"))
    for split in ("valid", "test"):
        assert facts_set(found, split) == facts_set(whole, split)
    assert found.entities == whole.entities


@pytest.mark.parametrize("scenario", ["noise", "missing", "sparsity"])
def test_a_larger_rate_contains_a_smaller_one(scenario: Scenario) -> None:
    whole = make_dataset()
    less, more = (corrupted(whole, scenario, rate, seed=3) for rate in (0.25, 0.75))
    if scenario == "sparsity":
        assert set(facts_set(more, "train")) < set(facts_set(less, "train"))
        return
    for name in ("text", "numeric"):
        before = by_name(whole)[name]
        spared = []
        for dataset in (less, more):
            modality = by_name(dataset)[name]
            original = {row: bytes(given) for row, given in zip(before.rows, before.features, strict=True)}
            kept = zip(modality.rows, modality.features, strict=True)
            spared.append({row for row, given in kept if bytes(given) == original[row]})
        assert spared[1] < spared[0]


def test_damage_follows_from_its_seed_and_hits_chosen_modalities_alone() -> None:
    whole = make_dataset()
    one, same, other = (corrupted(whole, "missing", 0.5, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(by_name(one)["text"].rows, by_name(same)["text"].rows)
    assert not np.array_equal(by_name(one)["text"].rows, by_name(other)["text"].rows)
    text_alone = by_name(corrupted(whole, "noise", 0.5, seed=3, modalities=["text"]))
    assert np.array_equal(text_alone["numeric"].features, by_name(whole)["numeric"].features)
    assert not np.array_equal(text_alone["text"].features, by_name(whole)["text"].features)


def run(
    dataset: Path, folder: Path, *, recipes: dict[str, Recipe] | None = None, **options: Any
) -> dict[str, Any] | None:
    recipe = make_recipe(max_epochs=2)
    recipes = recipes or {"momok": recipe, "one expert": recipe.changed({"network.num_experts": 1})}
    fields = {"rates": RATES, "seeds": (1,)}
    chosen = checked(RobustnessOptions, fields | options.pop("fields", {}))
    return robustness(dataset, recipes, chosen, Running(folder, CPU, **options))


def test_every_model_meets_every_scenario_at_every_rate(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path)
    results = run(dataset, tmp_path / "out")
    assert results is not None
    met = {tuple(row["labels"].values()) for row in results["summary"]}
    harms = {(scenario, rate) for scenario in ("noise", "missing", "sparsity") for rate in RATES}
    models = ("momok", "one expert")
    assert met == {(model, *harm) for model in models for harm in harms | {("none", 0.0)}}
    drawn = curves(results, "valid")
    assert list(drawn) == ["noise", "missing", "sparsity"]
    for by_model in drawn.values():
        assert {model: [rate for rate, _, _ in points] for model, points in by_model.items()} == {
            model: [0.0, *RATES] for model in models
        }
    (whole,) = {by_model["momok"][0] for by_model in drawn.values()}
    assert whole[1] == results["summary"][0]["metrics"]["valid"]["mrr"]["mean"]


def test_fewer_facts_are_judged_by_all_facts(tmp_path: Path) -> None:
    path = write_dataset(tmp_path)
    results = run(path, tmp_path / "out", fields={"scenarios": ("sparsity",)})
    assert results is not None
    row = next(row for row in results["runs"] if row["name"] == "momok,sparsity=0.5,seed=1")
    whole = Dataset.open(path)
    trained = Run.open(tmp_path / "out" / row["name"])
    assert len(trained.dataset().facts["train"]) < len(whole.facts["train"])
    model, _ = trained.best_model()
    valid = np.unique(whole.facts["valid"], axis=0)
    filtered = summarise(rank_facts(model, valid, whole.known()).both())["mrr"]
    assert row["metrics"]["valid"]["mrr"] == filtered


def test_what_was_interrupted_goes_on_and_what_is_done_is_kept(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path)
    assert run(dataset, tmp_path / "out", stop=after(30)) is None
    shown: list[str] = []
    found = run(dataset, tmp_path / "out", show=shown.append)
    expected = run(dataset, tmp_path / "straight")
    assert found is not None and expected is not None
    assert len(shown) < len(found["runs"])
    metrics = [[row["metrics"] for row in results["runs"]] for results in (found, expected)]
    assert metrics[0] == metrics[1]
    with pytest.raises(UserError, match="made of other data"):
        run(dataset, tmp_path / "out", fields={"modalities": ("text",)})


def test_a_graph_too_damaged_to_train_on_is_a_failure_and_the_others_go_on(tmp_path: Path) -> None:
    held_by = np.array([0, 40])  # The latter is never seen in train.
    numbers = replace(by_name(make_dataset())["numeric"], features=np.eye(2, dtype=np.float32), rows=held_by)
    whole = replace(make_dataset(), modalities=(*make_dataset().modalities[:2], numbers))
    hit = (by_name(corrupted(whole, "missing", 0.9, seed=seed))["numeric"].rows for seed in range(20))
    seed = next(seed for seed, rows in enumerate(hit) if rows.tolist() == [40])
    path = write_dataset(tmp_path, whole)
    fields = {"scenarios": ("missing",), "rates": (0.9,), "seeds": (seed,)}
    results = run(path, tmp_path / "out", fields=fields)
    assert results is not None
    whole_one, broken = results["runs"][0], results["runs"][-1]
    assert whole_one["failed"] is None and "no entity of the train split has it" in broken["failed"]
    assert curves(results, "valid")["missing"]["momok"][0][0] == 0.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rates": (0.0,)}, "above 0"),
        ({"rates": (1.0,)}, "below 1"),
        ({"rates": (0.5, 0.5)}, "listed once"),
        ({"seeds": (1, 1)}, "listed once"),
        ({"modalities": ("structure",)}, "no features to corrupt; text, numeric have"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    dataset = write_dataset(tmp_path)
    with pytest.raises(UserError, match=message):
        run(dataset, tmp_path / "out", fields=fields)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("../esc",), r"model '\.\./esc': a name is letters"),
        (("/esc",), "a name is letters"),
        (("",), "a name is letters"),
        (("one", "One"), "would both be called 'One,none=0,seed=1'"),
    ],
)
def test_labels_that_name_no_folder_of_their_own_are_refused(
    tmp_path: Path, labels: tuple[str, ...], message: str
) -> None:
    dataset = write_dataset(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=message):
        run(dataset, tmp_path / "out", recipes=dict.fromkeys(labels, make_recipe()))
    assert {path.name for path in tmp_path.iterdir()} == before


def test_rates_that_look_the_same_are_refused(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path)
    with pytest.raises(UserError, match="would both be called"):
        run(dataset, tmp_path / "out", fields={"rates": (0.25, 0.2500001)})


@pytest.mark.parametrize(
    ("whole", "changes", "message"),
    [
        (make_dataset(), {"model": "mommok"}, "model: 'mommok' is not known"),
        (make_dataset(), {"network.surprise": 1}, "network: surprise"),
        (make_dataset(valid=False), {}, "no valid facts to compare by"),
    ],
)
def test_what_cannot_be_trained_or_judged_leaves_no_copies_behind(
    tmp_path: Path, whole: Dataset, changes: dict[str, Any], message: str
) -> None:
    dataset = write_dataset(tmp_path, whole)
    with pytest.raises(UserError, match=message):
        run(dataset, tmp_path / "out", recipes={"momok": make_recipe().changed(changes)})
    assert not (tmp_path / "out").exists()


def test_it_can_be_stopped_between_two_copies(tmp_path: Path) -> None:
    assert run(write_dataset(tmp_path), tmp_path / "out", stop=after(3)) is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["datasets"]
    assert len(list((tmp_path / "out" / "datasets").iterdir())) == 2


def test_what_is_set_is_refused_where_a_model_would_not_have_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = write_dataset(tmp_path)
    command = ["robustness", str(dataset), "--out", str(tmp_path / "out"), "--models", "momok", "adamf"]
    for lost in ("network.num_experts=1", "objective.loss=bce", "network={num_experts = 1}"):
        assert main([*command, "--set", lost]) == 2
        assert f"--set {lost} is of momok and would be lost on adamf" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_writes_tables_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = write_dataset(tmp_path)
    small = ["network.relation_width=4", "network.joint_width=4", "training.max_epochs=1"]
    small += [f"modalities.{name}.width=8" for name in ("structure", "text", "numeric")]
    sets = [word for field in small for word in ("--set", field)]
    command = ["robustness", str(dataset), "--out", str(tmp_path / "out"), "--rates", "0.5"]
    command += ["--scenarios", "missing", "--models", "momok", *sets]
    assert main(command) == 0
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir() if file.is_file()} == {
        "results.tsv",
        "results.json",
        "robustness.svg",
    }
    assert "missing" in capsys.readouterr().out
    assert ElementTree.parse(out / "robustness.svg").getroot().tag.endswith("svg")
    assert main([*command, "--plot", str(out / "plot.pdf")]) == 2
    assert "a plot is a file .svg or .png" in capsys.readouterr().err


def test_the_same_curves_are_the_same_picture(tmp_path: Path) -> None:
    given = {"noise": {"momok": [(0.0, 0.5, 0.0), (0.5, 0.3, 0.1)]}}
    for name in ("one.svg", "other.svg", "one.png"):
        plot_curves(given, tmp_path / name, ylabel="valid MRR")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
    assert "valid MRR" in (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
