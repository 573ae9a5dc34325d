"""Grid: which recipes a sweep compares, as a TOML file over one base recipe.

seeds = [0, 1, 2]                       # every combination once a seed; left out: the recipe's own

[grid]                                  # every combination of these values
"network.num_experts" = [1, 2, 3]

[variants.whole]                        # each of them in every variant; left out: the base alone
[variants.no_image]
drop = ["image"]                        # leave out modalities
[variants.no_joint]
"network.joint" = false                 # any fields of the recipe
[variants.other]
config = "other.toml"                   # another base, from the grid's directory
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from momok.model.errors import UserError, describe
from momok.training.data.dataset import Dataset
from momok.training.fit.recipe import Recipe, RecipeError, read_toml

SEED = "training.seed"
DROP, CONFIG = "drop", "config"
_FOLDER = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 _-]*[A-Za-z0-9_-])?")


class Grid(BaseModel):
    """What to vary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: tuple[int, ...] | None = Field(
        None, min_length=1, description="Values of training.seed; the recipe's own if not given."
    )
    grid: dict[str, list[Any]] = Field(
        default_factory=dict, description="Values by dotted field of the recipe: all are combined."
    )
    variants: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Named changes of the recipe: dotted fields, `drop` (modalities), `config` (other base).",
    )

    @field_validator("grid", "variants", mode="before")
    @classmethod
    def _flat(cls, given: Any, info: Any) -> Any:
        """``network.joint`` and ``[network] joint`` mean the same."""
        if not isinstance(given, dict):
            return given
        if info.field_name == "grid":
            return _flatten(given)
        return {
            name: _flatten(fields) if isinstance(fields, dict) else fields for name, fields in given.items()
        }

    @model_validator(mode="after")
    def _sound(self) -> Grid:
        for field, values in self.grid.items():
            if not values:
                raise ValueError(f"grid.{field}: list at least one value")
            if field in (SEED, DROP, CONFIG):
                raise ValueError(f"grid.{field}: use seeds for seeds, and variants to drop or to change base")
        for name in self.variants:
            check_folder(f"variants.{name}", name)
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: each is listed once")
        return self

    @classmethod
    def load(cls, path: Path) -> Grid:
        """Raises ``UserError`` naming the file, the field and what is wrong."""
        try:
            return cls.model_validate(read_toml(path))
        except ValidationError as error:
            raise UserError(f"{path}: {describe(error)}") from None


@dataclass(frozen=True)
class Trial:
    """One training run of a comparison.

    ``name`` is its folder; ``labels`` say what is particular to it, but for the seed: trials that share them
    are averaged. ``dataset`` is where its graph lies; ``judged_by`` where the graph lies that its answers are
    held against, another one if facts were taken away from it.
    """

    name: str
    labels: Mapping[str, Any]
    recipe: Recipe
    dataset: Path
    judged_by: Path

    @property
    def seed(self) -> int:
        return self.recipe.training.seed


def trials_of(
    grid: Grid,
    base: Recipe,
    dataset: Dataset,
    dataset_path: Path,
    *,
    directory: Path,
    overrides: Sequence[str] = (),
) -> list[Trial]:
    """Every combination, variants outermost and seeds innermost.

    ``config`` is looked up in ``directory``, and read with the ``overrides`` that ``base`` was read with.
    Raises ``UserError`` or ``RecipeError`` naming the combination.
    """
    trials: list[Trial] = []
    fields = list(grid.grid)
    for variant, changes in (grid.variants or {"": {}}).items():
        start = _variant_base(base, variant, changes, dataset, directory, overrides)
        for values in product(*grid.grid.values()):
            for seed in grid.seeds or (start.training.seed,):
                chosen = dict(zip(fields, values, strict=True))
                name = ",".join(
                    [
                        *([variant] if variant else []),
                        *(f"{_short(field, fields)}={_shown(value)}" for field, value in chosen.items()),
                        f"seed={seed}",
                    ]
                )
                try:
                    recipe = start.changed(chosen | {SEED: seed}, overrides=overrides)
                except RecipeError as error:
                    raise RecipeError(f"{name}: {error}") from None
                labels = ({"variant": variant} if variant else {}) | chosen
                trials.append(Trial(name, labels, recipe, dataset_path, dataset_path))
    refuse_twins(trials)
    return trials


def _variant_base(
    base: Recipe,
    variant: str,
    changes: Mapping[str, Any],
    dataset: Dataset,
    directory: Path,
    overrides: Sequence[str],
) -> Recipe:
    """The recipe of a variant, which starts from the base or from another one, without what it drops."""
    where = f"variants.{variant}"
    changes = dict(changes)
    config, drop = changes.pop(CONFIG, None), changes.pop(DROP, None)
    if config is not None:
        if not isinstance(config, str):
            raise UserError(f"{where}.{CONFIG}: name a recipe file")
        base = Recipe.load(directory / config, overrides)
    try:
        recipe = base.changed(changes, overrides=overrides)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    return _without(recipe, drop, dataset, where) if drop else recipe


def _without(recipe: Recipe, drop: Any, dataset: Dataset, where: str) -> Recipe:
    """The recipe without some modalities, and without what it says of them."""
    available = [modality.name for modality in dataset.modalities]
    used = list(available if recipe.use is None else recipe.use)
    if not isinstance(drop, list) or not set(map(str, drop)) <= set(used):
        raise UserError(f"{where}.{DROP}: {drop!r} must list modalities in use: {', '.join(used)}")
    fields = recipe.model_dump()
    kept = [name for name in used if name not in drop]
    specs = {name: spec for name, spec in fields["modalities"].items() if name not in drop}
    return Recipe.model_validate(fields | {"use": kept, "modalities": specs})


def check_folder(what: str, name: str) -> None:
    """Raises ``UserError`` for the name of ``what`` where a folder cannot be called so on any system."""
    if not _FOLDER.fullmatch(name):
        rule = "a name is letters, digits, _, - and blanks within, as it names folders"
        raise UserError(f"{what}: {rule}")


def refuse_twins(trials: Sequence[Trial]) -> None:
    """Raises ``UserError`` where two trials would share a folder; some systems do not tell A from a."""
    names = set[str]()
    for trial in trials:
        if trial.name.casefold() in names:
            raise UserError(
                f"two combinations would both be called {trial.name!r} (A is as a here); list each value once"
            )
        names.add(trial.name.casefold())


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _short(field: str, fields: list[str]) -> str:
    """The last part of a dotted field, where no other ends so."""
    last = field.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in fields) == 1 else field


def _shown(value: Any) -> str:
    text = "+".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"[^\w.+-]", "_", text)
