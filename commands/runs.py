"""train, import-checkpoint, evaluate, export: runs, and the bundles made of them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import get_args

from momok.commands.console import (
    add_device,
    add_json,
    add_recipe,
    interrupted,
    print_lines_or_json,
    stop_on_interrupt,
)
from momok.model.errors import UserError


def add_train(parser: ArgumentParser) -> None:
    """Arguments of `train`."""
    from momok.training.fit.precision import PrecisionName

    parser.add_argument("dataset", type=Path, nargs="?", help="dataset directory; not with --resume")
    add_recipe(parser)
    parser.add_argument("--model", metavar="NAME", help="in place of the recipe's: momok, adamf, …")
    parser.add_argument("--out", type=Path, required=True, help="run directory; new, unless --resume")
    parser.add_argument(
        "--precision", choices=get_args(PrecisionName),
        help="of products, as training.precision of the recipe: auto takes bfloat16 where it is fast",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on where --out stands")
    add_device(parser)


def run_train(arguments: Namespace) -> int:
    """Train a model; Ctrl-C leaves a run that --resume continues."""
    from momok.model.runtime.device import choose_device
    from momok.training.data.dataset import Dataset
    from momok.training.fit.recipe import Recipe
    from momok.training.fit.start import resume_training, start_training
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


def add_import_checkpoint(parser: ArgumentParser) -> None:
    """Arguments of `import-checkpoint`."""
    parser.add_argument("file", type=Path, help="state dict: .pth, .pt or .safetensors")
    parser.add_argument("dataset", type=Path, help="dataset directory of the same graph, ids in their order")
    parser.add_argument("--out", type=Path, required=True, help="run directory to write; must not exist")


def run_import_checkpoint(arguments: Namespace) -> None:
    """Turn a checkpoint of the authors' MoMoK or AdaMF code into a run to evaluate and to export."""
    from momok.training.data.dataset import Dataset
    from momok.training.importers.released import import_checkpoint

    dataset = Dataset.open(arguments.dataset)
    run = import_checkpoint(arguments.file, dataset, arguments.dataset, arguments.out)
    widths = ", ".join(f"{shape.name} {shape.width}" for shape in run.config.modalities)
    print(f"{arguments.out}: {run.config.model} with {widths}; now momok evaluate {arguments.out}, or export")


def add_evaluate(parser: ArgumentParser) -> None:
    """Arguments of `evaluate`."""
    from momok.model.filter_index import SPLITS

    parser.add_argument("source", type=Path, help="run or bundle")
    parser.add_argument("dataset", type=Path, nargs="?", help="where the run's dataset is now, if it moved")
    parser.add_argument("--split", choices=SPLITS, default="test")
    add_device(parser)
    add_json(parser)


def run_evaluate(arguments: Namespace) -> None:
    """Rank the facts of a split and report."""
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


def add_export(parser: ArgumentParser) -> None:
    """Arguments of `export`."""
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path, help="bundle directory to write; must not exist")
    parser.add_argument("dataset", type=Path, nargs="?", help="where the run's dataset is now, if it moved")
    parser.add_argument("--name", help="name of the model in answers; the dataset's if not given")
    parser.add_argument(
        "--index", metavar="KIND[,FIELD=VALUE...]",
        help="flat (exact), ivf[,lists=,codes=flat|sq8|pq,probes=,fetched=] or hnsw[,links=,build_depth=,"
        "search_depth=,fetched=]; by default flat, from 100,000 entities on ivf, as hard as recall asks; "
        "scores that are scanned have flat alone",
    )  # fmt: skip
    add_device(parser)


def run_export(arguments: Namespace) -> None:
    """Write the bundle of a run's best model."""
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
