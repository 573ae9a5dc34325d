"""sweep, robustness: comparisons of recipes."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from momok.commands.console import (
    add_device,
    add_json,
    add_recipe,
    checked,
    interrupted,
    print_lines_or_json,
    stop_on_interrupt,
)
from momok.model.errors import UserError

if TYPE_CHECKING:
    from momok.training.fit.recipe import Recipe


def add_sweep(parser: ArgumentParser) -> None:
    """Arguments of `sweep`."""
    _add_comparison(parser)
    parser.add_argument("--grid", type=Path, required=True, help="TOML file, or a name: momok-ablations, …")


def run_sweep(arguments: Namespace) -> int:
    """Train and compare every recipe of a grid; the same command continues an interrupted one."""
    from momok.training.experiments.sweep import sweep
    from momok.training.fit.recipe import Recipe

    base = Recipe.load(arguments.config, arguments.set)
    of_grid = partial(sweep, arguments.dataset, base, arguments.grid, overrides=arguments.set)
    return _compare(of_grid, arguments)


def add_robustness(parser: ArgumentParser) -> None:
    """Arguments of `robustness`."""
    from momok.training.experiments.robustness import SCENARIOS

    _add_comparison(parser)
    parser.add_argument(
        "--models", nargs="+", metavar="NAME[=FILE]",
        help="models under the base recipe, or LABEL=FILE with a recipe of their own (default the recipe's)",
    )  # fmt: skip
    parser.add_argument(
        "--scenarios", nargs="+", choices=SCENARIOS,
        help="noise: features replaced; missing: modality absent; sparsity: train facts gone (default all)",
    )  # fmt: skip
    parser.add_argument(
        "--rates", nargs="+", type=float, help="shares corrupted (default 0.2 0.4 0.6 0.8; 0 is always run)"
    )
    parser.add_argument("--modalities", nargs="+", help="to corrupt by noise and missing (default all)")
    parser.add_argument("--seeds", nargs="+", type=int, help="of training and corruption (default: recipe's)")
    parser.add_argument("--plot", type=Path, help=".svg or .png (default robustness.svg in --out)")


def run_robustness(arguments: Namespace) -> int:
    """Compare models on ever more corrupted graphs; the same command continues an interrupted one."""
    from momok.training.experiments.plot import can_plot, check_plot, plot_curves
    from momok.training.experiments.robustness import RobustnessOptions, curves, robustness
    from momok.training.fit.recipe import Recipe

    given = {name: getattr(arguments, name) for name in RobustnessOptions.model_fields}
    options = checked(RobustnessOptions, {name: value for name, value in given.items() if value is not None})
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

    return _compare(partial(robustness, arguments.dataset, recipes, options), arguments, draw)


def _add_comparison(parser: ArgumentParser) -> None:
    parser.add_argument("dataset", type=Path)
    add_recipe(parser)
    parser.add_argument("--out", type=Path, required=True, help="directory of the runs and the results")
    parser.add_argument(
        "--split", choices=("valid", "test"), default="valid",
        help="test judges by test too: do it once, at the end (default %(default)s)",
    )  # fmt: skip
    add_device(parser)
    add_json(parser)


def _compare(
    comparison: Callable[..., dict[str, Any] | None],
    arguments: Namespace,
    draw: Callable[[dict[str, Any]], None] = lambda results: None,
) -> int:
    """Run it until it is done or interrupted, and show its results."""
    from momok.model.runtime.device import choose_device
    from momok.training.experiments.results import results_lines
    from momok.training.experiments.trials import Running
    from momok.training.memory import keep_freed_memory

    keep_freed_memory()
    device, show = choose_device(arguments.device), partial(print, file=sys.stderr)
    with stop_on_interrupt() as stop:
        running = Running(arguments.out, device, arguments.split, stop, show, show_progress=True)
        results = comparison(running)
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
