"""Recipe: one TOML file that says everything about a training run but the data."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import momok
from momok.model.errors import UserError, describe
from momok.model.networks.modality import ModalitySpec
from momok.training.fit.precision import PrecisionName

CONFIGS = Path(momok.__file__).parent / "configs"
"""The recipes and grids that the package holds."""

OF_THE_MODEL = ("network", "objective")
"""Tables of a recipe whose fields are a model's own."""


class RecipeError(UserError):
    """A recipe that cannot be used; the message names the file or override, the field and the remedy."""


class TrainingConfig(BaseModel):
    """How long and how fast to learn."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    batch_size: int = Field(256, ge=2, description="Queries a step. Larger ones share the candidates' cost.")
    optimizer: Literal["adam", "adagrad"] = Field(
        "adam",
        description="adagrad, with learning rates such as 0.05, gets there in a fraction of the epochs where "
        "it was measured (docs/log/2026-11-21-mkg-y-minutes.md); adam is the paper's.",
    )
    learning_rate: float = Field(1e-3, gt=0, description="The optimizer's step size.")
    max_epochs: int = Field(100, ge=1, description="Stop after so many passes over the queries.")
    max_minutes: float | None = Field(
        None, gt=0, description="Stop at the end of the epoch that passes this much training time."
    )
    validate_every: int = Field(1, ge=1, description="Epochs between two evaluations on valid.")
    patience: int = Field(10, ge=1, description="Stop after so many validations without a better valid MRR.")
    precision: PrecisionName = Field(
        "auto",
        description="Of products: bfloat16 is several times as fast where the processor multiplies it, and "
        "auto takes it there.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Fixes initial weights, order, dropout and noise.")


class Recipe(BaseModel):
    """A model, its shape, its objective and its schedule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field("momok", description="Which model to train.")
    use: tuple[str, ...] | None = Field(
        None, description="Modalities to use; all of the dataset if not given."
    )
    modalities: dict[str, ModalitySpec] = Field(
        default_factory=dict, description="How features become inputs, by modality; defaults elsewhere."
    )
    network: dict[str, Any] = Field(default_factory=dict, description="Fields of the model's configuration.")
    objective: dict[str, Any] = Field(default_factory=dict, description="Fields of the objective.")
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, fields: Any) -> Any:
        """``adamf-mat`` of earlier versions is adamf with the objective ``adversarial``."""
        if isinstance(fields, dict) and fields.get("model") == "adamf-mat":
            return fields | {
                "model": "adamf",
                "objective": {"kind": "adversarial", **fields.get("objective", {})},
            }
        return fields

    @classmethod
    def load(cls, path: Path | None, overrides: Iterable[str] = (), *, base: Recipe | None = None) -> Recipe:
        """Read a recipe (``base``, or all defaults, without one) and apply ``dotted.key=value`` overrides.

        Raises ``RecipeError`` naming the file, the key and what is wrong.
        """
        fields = (
            read_toml(find_config(path, "recipe"))
            if path is not None
            else base.model_dump()
            if base is not None
            else {}
        )
        for override in overrides:
            _apply(fields, override)
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise RecipeError(f"{path or 'recipe'}: {describe(error)}") from None

    def changed(self, values: Mapping[str, Any], *, overrides: Iterable[str] = ()) -> Recipe:
        """The same with other values, by dotted field. Raises ``RecipeError``.

        Where the model changes, ``network`` and ``objective`` start empty: their fields are the other's. What
        would so be lost of ``overrides``, with which this was read, is refused.
        """
        fields = self.model_dump()
        if (model := values.get("model", self.model)) != self.model:
            for override in overrides:
                if override.partition("=")[0].partition(".")[0].strip() in OF_THE_MODEL:
                    raise RecipeError(
                        f"--set {override} is of {self.model} and would be lost on {model}, whose network "
                        f"and objective start empty; leave it out, or give {model} a recipe of its own"
                    )
            fields |= {name: {} for name in OF_THE_MODEL}
        for key, value in values.items():
            _put(fields, key, value, f"{key} = {value!r}")
        try:
            return Recipe.model_validate(fields)
        except ValidationError as error:
            raise RecipeError(describe(error)) from None


def find_config(path: Path, kind: Literal["recipe", "grid"]) -> Path:
    """``path``, or the recipe or grid of this name that momok brings along. Raises ``RecipeError``."""
    folder = CONFIGS / "grids" if kind == "grid" else CONFIGS
    for found in (path, folder / f"{path}.toml"):
        if found.is_file():
            return found
    names = ", ".join(sorted(file.stem for file in folder.glob("*.toml")))
    raise RecipeError(f"{path}: no such {kind}; give a TOML file, or one of {names}")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ``RecipeError``."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: {error}") from None


def _apply(fields: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {override}: expected dotted.key=value, such as training.batch_size=512")
    _put(fields, key.strip(), _parse_value(text.strip()), f"--set {override}")


def _put(fields: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a dotted field."""
    *parents, last = key.split(".")
    table = fields
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise RecipeError(f"{where}: {parent!r} is a value, not a table")
    table[last] = value


def _parse_value(text: str) -> Any:
    """``none``, or TOML's reading, so that numbers and lists need no quotes, or else the text itself."""
    if text == "none":  # TOML has no word for it, and limits can be lifted.
        return None
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text
