"""Sweep: every recipe of a grid trained and compared, on valid, and on test where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from momok.model.errors import UserError
from momok.training.data.dataset import Dataset
from momok.training.evaluation.ranking import PROTOCOL
from momok.training.experiments.grid import Grid, Trial, trials_of
from momok.training.experiments.results import write_results
from momok.training.experiments.trials import Outcome, Running, check_trials, run_trials
from momok.training.fit.recipe import Recipe, find_config


def sweep(
    dataset_path: Path, base: Recipe, grid_file: Path, running: Running, *, overrides: Sequence[str] = ()
) -> dict[str, Any] | None:
    """Train and judge every combination; the results, or None where ``running.stop`` ended it before.

    ``overrides`` are those that ``base`` was read with: they hold for other recipes of the grid too. Raises
    ``UserError`` for a grid, a recipe or a folder that cannot be used, before anything is trained.
    """
    grid_file = find_config(grid_file, "grid")
    grid, dataset = Grid.load(grid_file), Dataset.open(dataset_path)
    trials = trials_of(grid, base, dataset, dataset_path, directory=grid_file.parent, overrides=overrides)
    check_comparison(trials, dataset, running)
    return compare(trials, dataset, running, {"grid": grid.model_dump(mode="json")})


def check_comparison(trials: Sequence[Trial], dataset: Dataset, running: Running) -> None:
    """Refuse what could not be trained or judged, before anything is written. Raises ``UserError``."""
    if empty := [split for split in running.splits if not len(dataset.facts[split])]:
        raise UserError(f"{dataset.name} has no {empty[0]} facts to compare by; hold some out at import")
    check_trials(trials, dataset)


def compare(
    trials: Sequence[Trial], dataset: Dataset, running: Running, about: Mapping[str, Any]
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
    for outcome in run_trials(trials, dataset, running):
        outcomes.append(outcome)
        results = write_results(running.folder, outcomes, about)
    return results if len(outcomes) == len(trials) else None
