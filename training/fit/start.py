"""start_training, resume_training: a trainer at the first step of a new run, or where a run stands."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from momok.model.networks.base import build_model
from momok.training.data.dataset import Dataset
from momok.training.fit.precision import choose_precision
from momok.training.fit.preparation import configure, fit_inputs, objective_of
from momok.training.fit.recipe import Recipe, RecipeError
from momok.training.fit.run import Run, RunError
from momok.training.fit.trainer import Trainer

SCHEDULE = ("max_epochs", "max_minutes", "patience")
"""The fields of the length of training, the only ones that may change when a run is resumed."""


def start_training(
    path: Path, dataset: Dataset, dataset_path: Path, recipe: Recipe, device: torch.device
) -> Trainer:
    """A trainer at the first step of a new run directory, which can already be resumed.

    The directory appears last, so that whatever goes wrong before leaves none behind. Raises ``RecipeError``,
    ``RunError`` or ``CheckpointError``.
    """
    if path.exists():
        raise RunError(f"{path} exists; choose another --out, or --resume it")
    recipe = settled(recipe, device)
    inputs = fit_inputs(recipe, dataset)
    config = configure(recipe, dataset, inputs)
    if objective_of(recipe).paired_decision() == "sum" and config.decision == "mean_sigmoid":
        warnings.warn(
            "ce with mean_sigmoid: trained scores grow past where float32 sigmoids are 1, so that good "
            "answers tie; the pairs are ce with sum, bce with mean_sigmoid",
            stacklevel=2,
        )
    torch.manual_seed(recipe.training.seed)
    try:
        model = build_model(config)
        model.load_inputs(inputs)
        trainer = Trainer(
            Run.describe(path, dataset, dataset_path, recipe, config), dataset, model.to(device)
        )
    except ValueError as error:
        raise RecipeError(f"{recipe.model}: {error}") from None
    except (RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else "out of memory"
        raise RecipeError(f"network: cannot be built ({reason}); try smaller widths") from None
    trainer.create()
    return trainer


def resume_training(
    path: Path, device: torch.device, overrides: Sequence[str] = (), *, dataset: Dataset | None = None
) -> Trainer:
    """A trainer where the run's last checkpoint stands.

    ``overrides`` (``training.key=value``) may change how long to train, and the run remembers them;
    everything else would make it another run. ``dataset``: the run's, where it is open already. Raises
    ``RecipeError``, ``RunError`` or ``CheckpointError``.
    """
    run = Run.open(path)
    if source := run.provenance.get("imported_from"):
        raise RunError(
            f"{path} holds the model of {source} alone, without optimiser or random state: it cannot go on; "
            "train a new run"
        )
    recipe = Recipe.load(None, overrides, base=run.recipe)
    if _without_schedule(recipe) != _without_schedule(run.recipe):
        may = ", ".join(f"training.{name}" for name in SCHEDULE)
        raise RunError(f"--resume may only change {may}; start another run for anything else")
    run = replace(run, recipe=recipe)
    trainer = Trainer(run, dataset or run.dataset(), build_model(run.config).to(device))
    trainer.restore()
    run.write()
    return trainer


def settled(recipe: Recipe, device: torch.device) -> Recipe:
    """With the precision that ``auto`` means here, so that the run stays what it is wherever it goes on."""
    precision = choose_precision(recipe.training.precision, device)
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"precision": precision})})


def _without_schedule(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(exclude={"training": set(SCHEDULE)})
