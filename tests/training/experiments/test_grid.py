"""Grids: which recipes they mean, and what they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from momok.model.errors import UserError
from momok.training.experiments.grid import Grid, Trial, trials_of
from tests.training.builders import make_dataset, make_recipe


def trials(folder: Path, text: str, overrides: Sequence[str] = ()) -> list[Trial]:
    """The trials of a grid written to ``folder``, over the recipe and the graph of these tests."""
    (folder / "grid.toml").write_text(text, encoding="utf-8")
    grid = Grid.load(folder / "grid.toml")
    return trials_of(
        grid, make_recipe(), make_dataset(), folder / "dataset", directory=folder, overrides=overrides
    )


def test_an_empty_grid_is_the_base_recipe(tmp_path: Path) -> None:
    (trial,) = trials(tmp_path, "")
    assert trial.recipe == make_recipe() and trial.name == "seed=1" and not trial.labels


def test_variants_values_and_seeds_are_all_combined(tmp_path: Path) -> None:
    found = trials(
        tmp_path,
        """
        seeds = [4, 5]
        [grid]
        "network.num_experts" = [1, 3]
        objective.club_weight = [0, 1e-4]
        [variants.whole]
        [variants.no_joint]
        "network.joint" = false
        """,
    )
    assert len(found) == 2 * 2 * 2 * 2
    assert found[0].name == "whole,num_experts=1,club_weight=0,seed=4"
    assert found[-1].name == "no_joint,num_experts=3,club_weight=0.0001,seed=5"
    assert found[-1].labels == {
        "variant": "no_joint",
        "network.num_experts": 3,
        "objective.club_weight": 1e-4,
    }
    last = found[-1].recipe
    assert last.network["joint"] is False and last.network["num_experts"] == 3
    assert last.network["joint_width"] == make_recipe().network["joint_width"], "the base is kept"
    assert last.objective == {"club_weight": 1e-4} and last.training.seed == 5
    assert "joint" not in found[0].recipe.network


def test_a_dropped_modality_is_out_of_use_and_out_of_the_recipe(tmp_path: Path) -> None:
    (trial,) = trials(tmp_path, '[variants.no_text]\ndrop = ["text"]')
    assert trial.recipe.use == ("structure", "numeric")
    assert set(trial.recipe.modalities) == {"structure", "numeric"}


def test_another_base_comes_from_beside_the_grid(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[training]\nbatch_size = 77\nseed = 9", encoding="utf-8")
    (trial,) = trials(tmp_path, '[variants.other]\nconfig = "other.toml"\n"training.max_epochs" = 2')
    assert (trial.recipe.training.batch_size, trial.recipe.training.max_epochs) == (77, 2)
    assert trial.seed == 9 and not trial.recipe.network


def test_what_the_command_line_sets_holds_for_another_base_too(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[training]\nbatch_size = 77\nmax_epochs = 9", encoding="utf-8")
    (trial,) = trials(tmp_path, '[variants.other]\nconfig = "other.toml"', ["training.max_epochs=2"])
    assert (trial.recipe.training.batch_size, trial.recipe.training.max_epochs) == (77, 2)


def test_another_model_starts_without_the_fields_of_the_base() -> None:
    changed = make_recipe().changed({"model": "another", "network.depth": 2})
    assert changed.network == {"depth": 2} and changed.objective == {}
    assert changed.modalities == make_recipe().modalities


def test_what_would_be_lost_on_another_model_is_refused(tmp_path: Path) -> None:
    for text in ('[variants.other]\nmodel = "adamf"', '[grid]\nmodel = ["momok", "adamf"]'):
        with pytest.raises(UserError, match=r"--set network\.num_experts=2 .* would be lost on adamf"):
            trials(tmp_path, text, ["network.num_experts=2"])
        assert trials(tmp_path, text, ["training.max_epochs=2"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid = 3", "grid: "),
        ("surprise = 1", "surprise: "),
        ("seeds = []", "seeds: "),
        ("seeds = [1, 1]", "seeds: each is listed once"),
        ('[grid]\n"network.num_experts" = []', "list at least one"),
        ('[grid]\n"training.seed" = [1]', "use seeds"),
        ('[grid]\n"training.batch_size" = [1]', "batch_size=1,seed=1: training.batch_size"),
        ('[variants."a/b"]\n', "a name is letters"),
        ('[variants."one "]\n', "a name is letters"),
        ("[variants.a]\n[variants.A]\n", "two combinations would both be called 'A,seed=1'"),
        ('[variants.x]\ndrop = ["smell"]', "variants.x.drop: .*smell.*structure, text, numeric"),
        ('[variants.x]\ndrop = "text"', "variants.x.drop"),
        ("[variants.x]\nconfig = 3", "variants.x.config"),
        ('[variants.x]\nconfig = "none.toml"', "none.toml: no such"),
        ("[variants.x]\nsurprise = 3", "variants.x: surprise"),
        ('[grid]\n"network.num_experts" = [2, 2]', "two combinations .*num_experts=2"),
        ("grid = [", "grid.toml: "),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        trials(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_grid_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.toml: .*No such file"):
        Grid.load(tmp_path / "nowhere.toml")
