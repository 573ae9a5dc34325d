"""Sweep: every recipe of a grid trained and compared, on valid, and on test where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from momok.training.data.dataset import Dataset
from momok.training.evaluation.ranking import PROTOCOL
from momok.training.experiments.grid import Grid, Trial, trials_of
from momok.training.experiments.results import write_results
from momok.training.experiments.trials import Outcome, TrialError, check_trials, run_trials
from momok.training.fit.recipe import Recipe, find_config


def sweep(
    dataset_path: Path,
    base: Recipe,
    grid_file: Path,
    folder: Path,
    device: torch.device,
    *,
    overrides: Sequence[str] = (),
    split: Literal["valid", "test"] = "valid",
    stop: Callable[[], bool] = lambda: False,
    show: Callable[[str], None] = lambda line: None,
    show_progress: bool = False,
) -> dict[str, Any] | None:
    """Train and judge every combination in ``folder``; the results, or None where ``stop`` ended it before.

    ``overrides`` are those that ``base`` was read with: they hold for other recipes of the grid too. Raises
    ``UserError`` for a grid, a recipe or a folder that cannot be used, before anything is trained.
    """
    grid_file = find_config(grid_file, "grid")
    grid, dataset = Grid.load(grid_file), Dataset.open(dataset_path)
    trials = trials_of(grid, base, dataset, dataset_path, directory=grid_file.parent, overrides=overrides)
    check_comparison(trials, dataset, split)
    return compare(
        trials,
        dataset,
        folder,
        device,
        {"grid": grid.model_dump(mode="json")},
        split=split,
        stop=stop,
        show=show,
        show_progress=show_progress,
    )


def check_comparison(trials: Sequence[Trial], dataset: Dataset, split: Literal["valid", "test"]) -> None:
    """Refuse what could not be trained or judged, before anything is written. Raises ``UserError``."""
    if empty := [name for name in _splits(split) if not len(dataset.facts[name])]:
        raise TrialError(f"{dataset.name} has no {empty[0]} facts to compare by; hold some out at import")
    check_trials(trials, dataset)


def compare(
    trials: Sequence[Trial],
    dataset: Dataset,
    folder: Path,
    device: torch.device,
    about: Mapping[str, Any],
    *,
    split: Literal["valid", "test"],
    stop: Callable[[], bool],
    show: Callable[[str], None],
    show_progress: bool,
) -> dict[str, Any] | None:
    """Run the trials, checked before, and keep ``results.tsv`` and ``results.json`` up to date after each.

    ``dataset`` is what they are judged by. Returns the results once all are done, None before.
    """
    outcomes: list[Outcome] = []
    results: dict[str, Any] = {}
    about = {
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        **about,
        "protocol": PROTOCOL,
        "chosen_on": "valid MRR",
    }
    for outcome in run_trials(
        trials, dataset, folder, _splits(split), device, stop=stop, show=show, show_progress=show_progress
    ):
        outcomes.append(outcome)
        results = write_results(folder, outcomes, about)
    return results if len(outcomes) == len(trials) else None


def _splits(split: Literal["valid", "test"]) -> list[str]:
    return ["valid", "test"] if split == "test" else ["valid"]
