"""Recipes and grids by name, by path, and neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from momok.training.experiments.grid import Grid
from momok.training.fit.recipe import Recipe, RecipeError
from momok.training.fit.recipes import find_grid, find_recipe
from tests.conftest import REPOSITORY

RECIPES = sorted((REPOSITORY / "configs").glob("*.toml"))
GRIDS = sorted((REPOSITORY / "configs" / "grids").glob("*.toml"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_recipe_and_grid_of_the_package_has_a_name() -> None:
    for file in RECIPES:
        assert Recipe.load(find_recipe(file.stem)) == Recipe.load(file)
    for file in GRIDS:
        assert Grid.load(find_grid(file.stem)) == Grid.load(file)


def test_a_path_stays_what_it_is() -> None:
    for given in ("other.toml", "folder/momok-mkg-y", "./momok-mkg-y", str(RECIPES[0])):
        assert find_recipe(given) == Path(given)
    assert find_recipe(None) is None


def test_a_file_wins_over_a_name_and_a_folder_does_not() -> None:
    carried = find_recipe("momok-mkg-y")
    Path("momok-mkg-y").mkdir()
    assert find_recipe("momok-mkg-y") == carried
    Path("momok-mkg-y").rmdir()
    Path("momok-mkg-y").write_text("", encoding="utf-8")
    assert find_recipe("momok-mkg-y") == Path("momok-mkg-y")


def test_an_unknown_name_hears_of_the_nearest_and_of_all() -> None:
    with pytest.raises(RecipeError) as refused:
        find_recipe("momok-mkgy")
    assert "nearest: momok-mkg-y;" in str(refused.value)
    assert all(file.stem in str(refused.value) for file in RECIPES)
    with pytest.raises(RecipeError) as refused:
        find_grid("zzz")
    assert "nearest" not in str(refused.value)
    assert all(file.stem in str(refused.value) for file in GRIDS)
