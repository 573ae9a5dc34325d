"""Trials: training runs that are compared; each is an ordinary run in a folder, and none is done twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from momok.model.errors import UserError
from momok.model.runtime.directory import replace_file
from momok.training.data.dataset import Dataset
from momok.training.experiments.grid import Trial
from momok.training.export.export import evaluate_run
from momok.training.fit.checkpoint import Checkpoint
from momok.training.fit.preparation import chosen_modalities, configure, fit_inputs
from momok.training.fit.recipe import RecipeError
from momok.training.fit.run import Run
from momok.training.fit.start import resume_training, settled, start_training
from momok.training.fit.trainer import TrainingError

Split = Literal["valid", "test"]


@dataclass(frozen=True)
class Running:
    """How the trials of a comparison run: each in ``folder / name``, judged on ``splits``.

    ``stop`` ends them early where it is true; ``show`` takes a line a trial.
    """

    folder: Path
    device: torch.device
    split: Split = "valid"
    stop: Callable[[], bool] = lambda: False
    show: Callable[[str], None] = lambda line: None
    show_progress: bool = False

    @property
    def splits(self) -> list[Split]:
        """Valid, by which epochs are chosen, and test where that is asked for."""
        return ["valid", "test"] if self.split == "test" else ["valid"]


@dataclass(frozen=True)
class Outcome:
    """What became of a trial: ``metrics`` by split, or why it failed.

    ``facts`` holds ``best_epoch``, ``epochs``, ``train_minutes`` and ``parameters``.
    """

    trial: Trial
    metrics: dict[str, dict[str, float]]
    facts: dict[str, Any]
    failed: str | None = None


def check_trials(trials: Sequence[Trial], dataset: Dataset) -> None:
    """Refuse a recipe that cannot be built before any is trained. Raises ``RecipeError`` naming the trial."""
    inputs: dict[str, Any] = {}
    for trial in trials:
        fields = trial.recipe.model_dump_json(include={"use", "modalities"})
        try:
            if fields not in inputs:
                inputs[fields] = fit_inputs(trial.recipe, dataset)
            configure(trial.recipe, dataset, inputs[fields])
        except RecipeError as error:
            raise RecipeError(f"{trial.name}: {error}") from None


Opener = Callable[[Path], Dataset]


def run_trials(trials: Sequence[Trial], judge: Dataset, running: Running) -> Iterator[Outcome]:
    """Train and judge each trial; ends early where ``running.stop`` is true.

    ``judge``: the dataset of every ``judged_by``. Finished trials are read, unfinished ones go on. A training
    that fails is an outcome too. Raises ``UserError`` where a folder holds the run of another recipe or
    graph.
    """

    @lru_cache(maxsize=2)  # Trials of one graph follow each other.
    def opened(path: Path) -> Dataset:
        return judge if path == trials[0].judged_by else Dataset.open(path)

    for trial in trials:  # All of them first: none is trained in vain.
        _check_folder(trial, running.folder / trial.name, running.device, opened)
    for place, trial in enumerate(trials, start=1):
        path = running.folder / trial.name
        try:
            if not _finished(path):
                running.show(f"{place}/{len(trials)} {trial.name}")
                if not _train(trial, path, opened(trial.dataset), running):
                    return
        except (TrainingError, RecipeError) as error:  # Such as a modality that no train entity has.
            running.show(f"{trial.name} failed: {error}")
            yield Outcome(trial, {}, {}, failed=str(error))
            continue
        yield _judge(trial, judge, path, running)
        if running.stop():
            return


def _check_folder(trial: Trial, path: Path, device: torch.device, opened: Opener) -> None:
    if not path.exists():
        return
    run = Run.open(path)
    if run.recipe != settled(trial.recipe, device):
        raise UserError(f"{path} is the run of another recipe; choose another --out, or remove it")
    if run.dataset_path.resolve() != trial.dataset.resolve():
        raise UserError(f"{path} was trained on {run.dataset_path}; choose another --out, or remove it")
    dataset = opened(trial.dataset)
    if run.fingerprint != dataset.fingerprint:
        raise UserError(f"{trial.dataset} has changed since {path}; choose another --out, or remove it")
    if changed := _changed_features(trial, dataset, run):
        raise UserError(
            f"{trial.dataset}: features of {', '.join(changed)} have changed since {path}; "
            "choose another --out, or remove it"
        )


def _changed_features(trial: Trial, dataset: Dataset, run: Run) -> list[str]:
    """The modalities of the trial that are not those of the run; none where the run does not tell."""
    if run.features is None:
        return []
    found = dataset.feature_digests([modality.name for modality in chosen_modalities(trial.recipe, dataset)])
    return sorted({name for name, _ in found.items() ^ run.features.items()})


def _finished(path: Path) -> bool:
    return path.exists() and Checkpoint.read_facts(Run.open(path).last)["progress"]["finished"] is not None


def _train(trial: Trial, path: Path, dataset: Dataset, running: Running) -> bool:
    """False where ``running.stop`` ended it before its schedule did."""
    if path.exists():
        trainer = resume_training(path, running.device, dataset=dataset)
    else:
        trainer = start_training(path, dataset, trial.dataset, trial.recipe, running.device)
    return trainer.train(stop=running.stop, show_progress=running.show_progress).finished is not None


def _judge(trial: Trial, judge: Dataset, path: Path, running: Running) -> Outcome:
    run = Run.open(path)
    progress = Checkpoint.read_facts(run.last)["progress"]
    reports = {split: _report(run, judge, split, running.device) for split in running.splits}
    facts = {
        "best_epoch": progress["best_epoch"],
        "epochs": progress["epoch"],
        "train_minutes": round(progress["seconds"] / 60, 2),
        "parameters": run.num_parameters(),
    }
    return Outcome(trial, {split: report["metrics"] for split, report in reports.items()}, facts)


def _report(run: Run, judge: Dataset, split: str, device: torch.device) -> dict[str, Any]:
    """The evaluation report, kept in the run's folder once it is made."""
    file = run.path / f"evaluation-{split}.json"
    if file.exists():
        try:
            report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return report
        except ValueError:
            raise UserError(f"{file}: damaged; remove it, and it is made again") from None
    report = evaluate_run(run, judge, split, device)
    replace_text(file, json.dumps(report, ensure_ascii=False) + "\n")
    return report


def replace_text(path: Path, text: str) -> None:
    """The file whole, or as it was before. Raises ``UserError``."""
    with replace_file(path, UserError) as partial:
        partial.write_text(text, encoding="utf-8")
