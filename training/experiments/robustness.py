"""Robustness: how models bear noisy features, missing modalities and fewer facts (MoMoK, figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from momok.model.errors import UserError
from momok.training.data.dataset import Dataset
from momok.training.experiments.corruption import Scenario, corrupted
from momok.training.experiments.grid import SEED, Trial, check_folder, refuse_twins
from momok.training.experiments.sweep import check_comparison, compare
from momok.training.experiments.trials import Running
from momok.training.fit.recipe import Recipe

SCENARIOS: tuple[Scenario, ...] = ("noise", "missing", "sparsity")
DATASETS = "datasets"
"""Folder of the corrupted graphs, beside the runs."""


class RobustnessOptions(BaseModel):
    """What to corrupt, how much, and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenarios: tuple[Scenario, ...] = Field(SCENARIOS, min_length=1)
    rates: tuple[float, ...] = Field(
        (0.2, 0.4, 0.6, 0.8),
        min_length=1,
        description="Shares corrupted; 0, the whole graph, is always run.",
    )
    modalities: tuple[str, ...] | None = Field(
        None, description="Those that noise and missing hit; all with features if not given."
    )
    seeds: tuple[int, ...] | None = Field(
        None, description="Of training and of corruption; the recipe's own if not given."
    )

    @field_validator("rates")
    @classmethod
    def _shares(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < rate < 1 for rate in rates) or len(set(rates)) < len(rates):
            raise ValueError("each is above 0, below 1, and listed once")
        return tuple(sorted(rates))

    @model_validator(mode="after")
    def _listed_once(self) -> RobustnessOptions:
        for listed in (self.scenarios, self.seeds or (), self.modalities or ()):
            if len(set(listed)) < len(listed):
                raise ValueError("scenarios, seeds and modalities are each listed once")
        return self


def robustness(
    dataset_path: Path, recipes: Mapping[str, Recipe], options: RobustnessOptions, running: Running
) -> dict[str, Any] | None:
    """Train the ``recipes``, by label, on every corrupted graph; the results, or None if it was stopped.

    All are judged by the whole graph: facts taken from train are still known to be true. Raises
    ``UserError`` before anything is trained or written, but for a folder that holds other data.
    """
    dataset = Dataset.open(dataset_path)
    for name in options.modalities or ():
        having = [modality.name for modality in dataset.modalities if modality.features is not None]
        if name not in having:
            raise UserError(f"modality {name!r} has no features to corrupt; {', '.join(having)} have")
    trials = _trials(recipes, options, dataset_path, running.folder / DATASETS)
    check_comparison(trials, dataset, running)
    for path, trial in {trial.dataset: trial for trial in trials if trial.dataset != dataset_path}.items():
        if running.stop():
            return None
        _write_copy(dataset, trial, path, options.modalities)
    about = {"models": list(recipes), "options": options.model_dump(mode="json")}
    return compare(trials, dataset, running, about)


def curves(results: Mapping[str, Any], split: str) -> dict[str, dict[str, list[tuple[float, float, float]]]]:
    """Scenario -> model -> (rate, mean MRR, deviation or 0) by rate; curves begin at the whole graph."""
    found: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    whole: dict[str, tuple[float, float, float]] = {}
    for row in results["summary"]:
        scenario, rate, model = (row["labels"][name] for name in ("scenario", "rate", "model"))
        points = [] if scenario == "none" else found.setdefault(scenario, {}).setdefault(model, [])
        if split not in row["metrics"]:  # Every seed failed.
            continue
        spread = row["metrics"][split]["mrr"]
        points.append((rate, spread["mean"], spread["std"] or 0.0))
        if scenario == "none":
            whole[model] = points[0]
    return {
        scenario: {
            model: sorted(([whole[model]] if model in whole else []) + points)
            for model, points in by_model.items()
            if points or model in whole
        }
        for scenario, by_model in found.items()
    }


def _trials(
    recipes: Mapping[str, Recipe], options: RobustnessOptions, dataset_path: Path, folder: Path
) -> list[Trial]:
    for label in recipes:
        check_folder(f"model {label!r}", label)
    harms = [("none", 0.0), *((scenario, rate) for scenario in options.scenarios for rate in options.rates)]
    trials = []
    for scenario, rate in harms:
        for label, recipe in recipes.items():
            for seed in options.seeds or (recipe.training.seed,):
                path = dataset_path
                if scenario != "none":
                    path = folder / f"{scenario}={rate:g},seed={seed}"
                trials.append(
                    Trial(
                        f"{label},{scenario}={rate:g},seed={seed}",
                        {"model": label, "scenario": scenario, "rate": rate},
                        recipe.changed({SEED: seed}),
                        path,
                        dataset_path,
                    )
                )
    refuse_twins(trials)
    return trials


def _write_copy(dataset: Dataset, trial: Trial, path: Path, modalities: Sequence[str] | None) -> None:
    """Write the corrupted graph of a trial, or refuse one that was made otherwise."""
    scenario, rate = trial.labels["scenario"], trial.labels["rate"]
    made = corrupted(dataset, scenario, rate, seed=trial.seed, modalities=modalities)
    if not path.exists():
        made.write(path)
    elif _identity(Dataset.open(path)) != _identity(made):
        raise UserError(f"{path} was made of other data; choose another --out, or remove it")


def _identity(dataset: Dataset) -> tuple[Any, ...]:
    """What tells two datasets of one name apart."""
    names = [modality.name for modality in dataset.modalities]
    return dataset.fingerprint, dataset.provenance, names, dataset.feature_digests(names)
