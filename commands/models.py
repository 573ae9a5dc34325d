"""train, sweep, robustness, import-checkpoint, evaluate, export: runs, and the bundles made of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from momok.commands.console import interrupted, print_lines_or_json, stop_on_interrupt
from momok.model.errors import UserError

if TYPE_CHECKING:
    from momok.training.fit.recipe import Recipe


def run_train(arguments: argparse.Namespace) -> int:
    from momok.model.runtime.device import choose_device
    from momok.training.data.dataset import Dataset
    from momok.training.fit.recipe import Recipe
    from momok.training.fit.trainer import resume_training, start_training
    from momok.training.memory import keep_freed_memory

    device = choose_device(arguments.device)
    keep_freed_memory()
    overrides = list(arguments.set)
    if arguments.model is not None:
        overrides.append(f"model={arguments.model}")
    if arguments.precision is not None:
        overrides.append(f"training.precision={arguments.precision}")
    if arguments.resume:
        if arguments.dataset is not None or arguments.config is not None:
            raise UserError("--resume takes dataset and recipe from the run; leave them out")
        trainer = resume_training(arguments.out, device, overrides)
    else:
        if arguments.dataset is None:
            raise UserError("give the dataset to train on, or --resume a run")
        recipe = Recipe.load(arguments.config, overrides)
        dataset = Dataset.open(arguments.dataset)
        trainer = start_training(arguments.out, dataset, arguments.dataset, recipe, device)
    with stop_on_interrupt() as stop:
        progress = trainer.train(stop=stop, show_progress=True)
    if progress.finished is None:
        return interrupted(f"go on with: momok train --resume --out {arguments.out}")
    chosen = f"best valid MRR {progress.best_mrr:.4f} at epoch {progress.best_epoch}"
    if progress.best_mrr < 0:
        chosen = f"no valid facts to choose by, so the weights are those of epoch {progress.best_epoch}"
    print(
        f"finished ({progress.finished}) after {progress.epoch} epochs and {progress.seconds / 60:.1f} min; "
        f"{chosen}: {arguments.out}"
    )
    return 0


def run_sweep(arguments: argparse.Namespace) -> int:
    from momok.training.experiments.sweep import sweep
    from momok.training.fit.recipe import Recipe

    base = Recipe.load(arguments.config, arguments.set)
    of_grid = partial(sweep, arguments.dataset, base, arguments.grid, arguments.out, overrides=arguments.set)
    return _compare(of_grid, arguments)


def run_robustness(arguments: argparse.Namespace) -> int:
    from momok.training.experiments.plot import can_plot, check_plot, plot_curves
    from momok.training.experiments.robustness import RobustnessOptions, curves, robustness
    from momok.training.fit.recipe import Recipe

    options = RobustnessOptions.of(
        **{name: getattr(arguments, name) for name in RobustnessOptions.model_fields}
    )
    plot = arguments.plot or (arguments.out / "robustness.svg" if can_plot() else None)
    if plot is not None:
        check_plot(plot)
    base = Recipe.load(arguments.config, arguments.set)
    recipes = _recipes(base, arguments.models or [base.model], arguments.set)

    def draw(results: dict[str, Any]) -> None:
        if plot is not None:
            plot_curves(curves(results, arguments.split), plot, ylabel=f"{arguments.split} MRR")
        else:
            print("no plot without matplotlib; momok[plot] brings it", file=sys.stderr)

    return _compare(partial(robustness, arguments.dataset, recipes, arguments.out, options), arguments, draw)


def run_import_checkpoint(arguments: argparse.Namespace) -> None:
    from momok.training.data.dataset import Dataset
    from momok.training.importers.released import import_checkpoint

    dataset = Dataset.open(arguments.dataset)
    run = import_checkpoint(arguments.file, dataset, arguments.dataset, arguments.out)
    widths = ", ".join(f"{shape.name} {shape.width}" for shape in run.config.modalities)
    print(f"{arguments.out}: {run.config.model} with {widths}; now momok evaluate {arguments.out}, or export")


def run_evaluate(arguments: argparse.Namespace) -> None:
    from momok.model.bundle.bundle import Bundle, is_bundle
    from momok.model.runtime.device import choose_device
    from momok.training.evaluation.ranking import evaluation_lines
    from momok.training.export.export import evaluate_bundle, evaluate_run
    from momok.training.fit.run import Run
    from momok.training.memory import keep_freed_memory

    keep_freed_memory()
    device = choose_device(arguments.device)
    if is_bundle(arguments.source):
        if arguments.dataset is not None:
            raise UserError("a bundle holds its own facts; give a dataset only with a run")
        report = evaluate_bundle(Bundle.open(arguments.source, device), arguments.split)
    else:
        run = Run.open(arguments.source)
        report = evaluate_run(run, run.dataset(arguments.dataset), arguments.split, device)
    print_lines_or_json(evaluation_lines(report), report, arguments.json)


def run_export(arguments: argparse.Namespace) -> None:
    from momok.model.runtime.device import choose_device
    from momok.training.export.export import export_run
    from momok.training.fit.run import Run
    from momok.training.memory import keep_freed_memory

    keep_freed_memory()
    run = Run.open(arguments.run)
    manifest = export_run(
        run,
        arguments.bundle,
        dataset=run.dataset(arguments.dataset),
        device=choose_device(arguments.device),
        name=arguments.name,
        index=arguments.index,
        show_progress=True,
    )
    scores = {split: round(report["metrics"]["mrr"], 4) for split, report in manifest.metrics.items()}
    print(f"{arguments.bundle}: version {manifest.version}, MRR {scores}; {manifest.index.line()}")


def _compare(
    comparison: Callable[..., dict[str, Any] | None],
    arguments: argparse.Namespace,
    draw: Callable[[dict[str, Any]], None] = lambda results: None,
) -> int:
    """Run it until it is done or interrupted, and show what came of it."""
    from momok.model.runtime.device import choose_device
    from momok.training.experiments.results import results_lines
    from momok.training.memory import keep_freed_memory

    keep_freed_memory()
    with stop_on_interrupt() as stop:
        results = comparison(
            device=choose_device(arguments.device),
            split=arguments.split,
            stop=stop,
            show=partial(print, file=sys.stderr),
            show_progress=True,
        )
    if results is None:
        return interrupted("the same command goes on")
    draw(results)
    print_lines_or_json(results_lines(results), results, arguments.json)
    return 0


def _recipes(base: Recipe, models: Sequence[str], overrides: Sequence[str]) -> dict[str, Recipe]:
    """Recipes by label: ``NAME`` is a model under the base recipe, ``LABEL=FILE`` a recipe of its own.

    ``overrides`` hold for all; those that a ``NAME`` cannot take are refused.
    """
    from momok.training.fit.recipe import Recipe

    labels = [model.partition("=")[0] for model in models]
    if len(set(labels)) < len(labels):
        raise UserError(f"--models {' '.join(models)}: each label is given once")
    recipes = {}
    for label, _, file in (model.partition("=") for model in models):
        own = Recipe.load(Path(file), overrides) if file else None
        recipes[label] = own or base.changed({"model": label}, overrides=overrides)
    return recipes
