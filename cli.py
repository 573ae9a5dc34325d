"""The command line, `momok …`: the one place that knows both training and service.

Each command imports what it needs when it runs, so that `momok serve` never loads the training code.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from arguments import build_parser
from model.cpus import follow_cpu_limit
from model.errors import UserError

if TYPE_CHECKING:
    from service.answerer import Answerer
    from service.settings import Settings
    from training.recipe import Recipe

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for what the user got wrong, 130 for what the user interrupted."""
    arguments = build_parser().parse_args(argv)
    follow_cpu_limit()
    try:
        return int(COMMANDS[arguments.command](arguments) or 0)
    except UserError as error:
        print(f"momok: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # The reader of our output, such as `head`, has seen enough.
        sys.stderr.close()
        return 0


def run_import(arguments: argparse.Namespace) -> None:
    from training.importers import import_dataset
    from training.report import report

    dataset = import_dataset(
        arguments.source,
        arguments.layout,
        name=arguments.name,
        labels=arguments.labels,
        relation_labels=arguments.relation_labels,
        features=_by_name(arguments.features, "--features"),
        rows=_by_name(arguments.rows, "--rows"),
        holdout=arguments.holdout,
        seed=arguments.seed,
    )
    dataset.write(arguments.dataset)
    _print_report(report(dataset), arguments.json)


def run_check(arguments: argparse.Namespace) -> None:
    from model.bundle import is_bundle
    from service.answerer import Answerer
    from training.dataset import Dataset
    from training.report import report

    if is_bundle(arguments.path):
        manifest = Answerer.open(arguments.path, "cpu").bundle.manifest
        _print_lines_or_json(manifest.lines(), manifest.model_dump(mode="json"), arguments.json)
    else:
        _print_report(report(Dataset.open(arguments.path)), arguments.json)


def run_encode(arguments: argparse.Namespace) -> int:
    from training.encoders.base import Options
    from training.encoders.encode import encode

    options = _checked(Options, {name: getattr(arguments, name) for name in Options.model_fields})
    with _stop_on_interrupt() as stop:
        encoded = encode(
            arguments.dataset,
            arguments.modality,
            arguments.source,
            arguments.encoder,
            options,
            replace=arguments.replace,
            resume=arguments.resume,
            stop=stop,
            show_progress=True,
        )
    if encoded is None:
        print("interrupted; the same command with --resume goes on", file=sys.stderr)
        return 130
    for item, reason in encoded.left_out:
        print(f"left out {item}: {reason}", file=sys.stderr)
    assert encoded.modality.features is not None
    num_present, width = encoded.modality.features.shape
    print(
        f"{arguments.dataset}: {arguments.modality}, {width} features of {num_present} of "
        f"{encoded.dataset.num_entities} entities"
    )
    return 0


def run_train(arguments: argparse.Namespace) -> int:
    from model.device import choose_device
    from training.dataset import Dataset
    from training.memory import keep_freed_memory
    from training.recipe import Recipe
    from training.trainer import resume_training, start_training

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
    with _stop_on_interrupt() as stop:
        progress = trainer.train(stop=stop, show_progress=True)
    if progress.finished is None:
        print(f"interrupted; go on with: momok train --resume --out {arguments.out}", file=sys.stderr)
        return 130
    print(
        f"finished ({progress.finished}) after {progress.epoch} epochs and {progress.seconds / 60:.1f} min; "
        f"best valid MRR {progress.best_mrr:.4f} at epoch {progress.best_epoch}: {arguments.out}"
    )
    return 0


def run_sweep(arguments: argparse.Namespace) -> int:
    from model.device import choose_device
    from training.memory import keep_freed_memory
    from training.recipe import Recipe
    from training.results import results_lines
    from training.sweep import sweep

    keep_freed_memory()
    with _stop_on_interrupt() as stop:
        results = sweep(
            arguments.dataset,
            Recipe.load(arguments.config, arguments.set),
            arguments.grid,
            arguments.out,
            choose_device(arguments.device),
            split=arguments.split,
            stop=stop,
            show=partial(print, file=sys.stderr),
            show_progress=True,
        )
    if results is None:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    _print_lines_or_json(results_lines(results), results, arguments.json)
    return 0


def run_robustness(arguments: argparse.Namespace) -> int:
    from model.device import choose_device
    from training.memory import keep_freed_memory
    from training.plot import can_plot, check_plot, plot_curves
    from training.recipe import Recipe
    from training.results import results_lines
    from training.robustness import RobustnessOptions, curves, robustness

    options = RobustnessOptions.of(
        **{name: getattr(arguments, name) for name in RobustnessOptions.model_fields}
    )
    plot = arguments.plot or (arguments.out / "robustness.svg" if can_plot() else None)
    if plot is not None:
        check_plot(plot)
    base = Recipe.load(arguments.config, arguments.set)
    keep_freed_memory()
    with _stop_on_interrupt() as stop:
        results = robustness(
            arguments.dataset,
            _recipes(base, arguments.models or [base.model]),
            arguments.out,
            options,
            choose_device(arguments.device),
            split=arguments.split,
            stop=stop,
            show=partial(print, file=sys.stderr),
            show_progress=True,
        )
    if results is None:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    if plot is not None:
        plot_curves(curves(results, arguments.split), plot, ylabel=f"{arguments.split} MRR")
    else:
        print("no plot without matplotlib; momok[plot] brings it", file=sys.stderr)
    _print_lines_or_json(results_lines(results), results, arguments.json)
    return 0


def run_import_checkpoint(arguments: argparse.Namespace) -> None:
    from training.dataset import Dataset
    from training.importers.released import import_checkpoint

    dataset = Dataset.open(arguments.dataset)
    run = import_checkpoint(arguments.file, dataset, arguments.dataset, arguments.out)
    widths = ", ".join(f"{shape.name} {shape.width}" for shape in run.config.modalities)
    print(f"{arguments.out}: {run.config.model} with {widths}; now momok evaluate {arguments.out}, or export")


def run_evaluate(arguments: argparse.Namespace) -> None:
    from model.bundle import Bundle, is_bundle
    from model.device import choose_device
    from training.evaluation import evaluation_lines
    from training.export import evaluate_bundle, evaluate_run
    from training.memory import keep_freed_memory
    from training.run import Run

    keep_freed_memory()
    device = choose_device(arguments.device)
    if is_bundle(arguments.source):
        if arguments.dataset is not None:
            raise UserError("a bundle holds its own facts; give a dataset only with a run")
        report = evaluate_bundle(Bundle.open(arguments.source, device), arguments.split)
    else:
        run = Run.open(arguments.source)
        report = evaluate_run(run, run.dataset(arguments.dataset), arguments.split, device)
    _print_lines_or_json(evaluation_lines(report), report, arguments.json)


def run_export(arguments: argparse.Namespace) -> None:
    from model.device import choose_device
    from training.export import export_run
    from training.memory import keep_freed_memory
    from training.run import Run

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


def run_predict(arguments: argparse.Namespace) -> None:
    from pydantic import ValidationError

    from model.predictor import describe
    from service.answerer import Answerer
    from service.schemas import PredictRequest
    from service.text import answer_lines

    try:
        request = PredictRequest.model_validate(
            {
                "queries": [{"head": arguments.head, "relation": arguments.relation, "tail": arguments.tail}],
                "k": arguments.k,
                "exclude_known": not arguments.include_known,
            }
        )
    except ValidationError as error:
        raise UserError(describe(error)) from None
    response = Answerer.open(arguments.bundle, arguments.device).predict(request)
    if arguments.json:
        print(response.model_dump_json(indent=2))
    else:
        print("\n".join(answer_lines(response)))


def run_discover(arguments: argparse.Namespace) -> int:
    from model.bundle import Bundle
    from model.device import choose_device
    from training.discovery import DiscoveryOptions, discover, summary_line
    from training.discovery_file import DiscoveryFile
    from training.memory import keep_freed_memory

    options = DiscoveryOptions.of(
        **{name: getattr(arguments, name) for name in DiscoveryOptions.model_fields}
    )
    output = DiscoveryFile(arguments.out, resume=arguments.resume)
    keep_freed_memory()
    bundle = Bundle.open(arguments.bundle, choose_device(arguments.device))
    show = partial(print, file=sys.stderr)
    with _stop_on_interrupt() as stop:
        summary = discover(bundle, options, output, stop=stop, show=show, show_progress=True)
    if summary is None:
        print("interrupted; the same command with --resume goes on", file=sys.stderr)
        return 130
    _print_lines_or_json([summary_line(summary)], summary, arguments.json)
    return 0


def run_serve(arguments: argparse.Namespace) -> None:
    from service.security import exposure
    from service.server import serve
    from service.settings import Settings
    from service.sources import load_settings

    given = vars(arguments)
    flags = {name: given[name] for name in Settings.model_fields if given.get(name) is not None}
    configured = load_settings(flags, os.environ, arguments.config)

    def announce(url: str) -> None:
        log = logging.getLogger("momok.service")  # In the form that was asked for, as all that follows.
        log.info(configured.line())
        for note in exposure(configured.settings):
            log.warning(note)
        _announce(url)

    serve(configured.settings, announce)


def run_keys(arguments: argparse.Namespace) -> None:
    from service.keys import hash_line, new_key

    key = new_key()
    line = hash_line(arguments.name, key)
    told = [f"key (shown only now): {key}", f"line for the server: {line}"]
    _print_lines_or_json(told, {"key": key, "line": line}, arguments.json)


def run_demo(arguments: argparse.Namespace) -> int:
    from service.server import serve
    from training.world.demo import build_demo

    directory = arguments.directory
    built = (directory / "bundle").exists() and not arguments.rebuild
    settings = _settings(bundle=directory / "bundle", host=arguments.host, port=arguments.port, device="cpu")
    if not built:
        with _stop_on_interrupt() as stop:
            built = build_demo(directory, stop=stop, show=print)
    if not built:
        print("interrupted; `momok demo` starts over", file=sys.stderr)
        return 130
    serve(settings, _announce, first_call=_ask_demo)
    return 0


def _settings(**fields: Any) -> Settings:
    """Settings from flags. Raises ``UserError`` for values out of range."""
    from service.settings import Settings

    return _checked(Settings, fields)


def _checked(kind: type[T], fields: Mapping[str, Any]) -> T:
    """A configuration from flags. Raises ``UserError`` for values out of range."""
    from pydantic import ValidationError

    from model.predictor import describe

    try:
        return kind(**fields)
    except ValidationError as error:
        raise UserError(describe(error)) from None


def _announce(url: str) -> None:
    print(f"serving at {url} (Ctrl-C stops); every route, with a form to try it: {url}/docs", flush=True)


def _ask_demo(url: str, answerer: Answerer) -> None:
    """Ask the running server for a held-out fact over HTTP, and print how it answered."""
    from service.schemas import PredictResponse
    from service.text import answer_lines
    from training.world.demo import question_of

    body, truth = question_of(answerer.bundle.known, answerer.bundle.vocabulary)
    request = urllib.request.Request(
        f"{url}/v1/predict", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    # Straight to the port, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as reply:
        response = PredictResponse.model_validate_json(reply.read())
    offers = response.answers[0].candidates
    right = next(offer for offer in offers if offer.entity.key == truth)
    new = 1 + sum(not offer.known for offer in offers[: right.rank - 1])
    print("", *answer_lines(response, limit=5), sep="\n")
    print(
        f"held out of training, and right: {right.entity.label}, rank {right.rank} of {len(offers)}, "
        f"or {new} among those that the graph does not hold"
    )
    shown = json.dumps(body | {"k": 5}, ensure_ascii=False)
    print(f"\ntry it: curl -s {url}/v1/predict -H 'Content-Type: application/json' -d '{shown}'", flush=True)


def _recipes(base: Recipe, models: Sequence[str]) -> dict[str, Recipe]:
    """Recipes by label: ``NAME`` is a model under the base recipe, ``LABEL=FILE`` a recipe of its own."""
    from training.recipe import Recipe

    labels = [model.partition("=")[0] for model in models]
    if len(set(labels)) < len(labels):
        raise UserError(f"--models {' '.join(models)}: each label is given once")
    return {
        label: Recipe.load(Path(file)) if file else base.changed({"model": label})
        for label, _, file in (model.partition("=") for model in models)
    }


def _print_report(report: Any, as_json: bool) -> None:
    _print_lines_or_json(report.lines(), report.as_dict(), as_json)


def _print_lines_or_json(lines: Sequence[str], value: Any, as_json: bool) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2) if as_json else "\n".join(lines))


@contextmanager
def _stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C (or SIGTERM) asks training to stop after its step; a second one stops it at once."""
    asked = []

    def note(number: int, _frame: object) -> None:
        asked.append(number)
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _by_name(pairs: Sequence[tuple[str, Path]], flag: str) -> dict[str, Path]:
    names = [name for name, _ in pairs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{flag} is given twice for {', '.join(sorted(twice))}; a modality has one file")
    return dict(pairs)


COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "import": run_import,
    "check": run_check,
    "encode": run_encode,
    "train": run_train,
    "sweep": run_sweep,
    "robustness": run_robustness,
    "import-checkpoint": run_import_checkpoint,
    "evaluate": run_evaluate,
    "export": run_export,
    "predict": run_predict,
    "discover": run_discover,
    "serve": run_serve,
    "keys": run_keys,
    "demo": run_demo,
}


if __name__ == "__main__":
    sys.exit(main())
