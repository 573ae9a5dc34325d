"""Recipes and grids by name: the files of `configs/`, which the package carries."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import overload

from momok.model.bundle.names import closest
from momok.training.fit.recipe import RecipeError


@overload
def find_recipe(given: str) -> Path: ...
@overload
def find_recipe(given: str | None) -> Path | None: ...
def find_recipe(given: str | None) -> Path | None:
    """The file of a recipe given by path or by name; None for None. Raises ``RecipeError``."""
    return None if given is None else _find(given, "recipe", "configs")


def find_grid(given: str) -> Path:
    """The file of a grid given by path or by name. Raises ``RecipeError``."""
    return _find(given, "grid", "configs/grids")


def _find(given: str, kind: str, folder: str) -> Path:
    """A file that exists wins; a name has no suffix and no separator."""
    path = Path(given)
    if path.is_file() or path.suffix or os.sep in given:
        return path
    carried = {path.stem: path for path in sorted(Path(str(files("momok") / folder)).glob("*.toml"))}
    if given not in carried:
        near = closest(given, list(carried), 1)
        hint = f"; nearest: {near[0]}" if near else ""
        raise RecipeError(
            f"{given}: no file, and no {kind} of that name{hint}; there are {', '.join(carried)}"
        )
    return carried[given]
