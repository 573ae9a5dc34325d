"""The command line, `momok …`: the one place that knows both training and service.

Each command imports what it needs when it runs, so that `momok serve` never loads the training code.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from model.device import DeviceName
from model.errors import UserError
from model.known import SPLITS

if TYPE_CHECKING:
    from service.answerer import Answerer
    from service.settings import Settings

LAYOUTS = ("openke", "momok", "tsv")
ENCODERS = ("text", "numeric", "image")
PRECISIONS = ("auto", "float32", "bfloat16")
"""Those of ``training``, named again so that other commands need not load it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for what the user got wrong, 130 for what the user interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments) or 0)
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


def run_encode(arguments: argparse.Namespace) -> None:
    from training.dataset import Dataset
    from training.encoders.encode import encode

    unreadable: list[tuple[Path, str]] = []
    dataset = encode(
        Dataset.open(arguments.dataset),
        arguments.modality,
        arguments.source,
        arguments.encoder,
        width=arguments.width,
        seed=arguments.seed,
        replace=arguments.replace,
        unreadable=unreadable,
        show_progress=True,
    )
    dataset.write_modality(arguments.dataset, arguments.modality)
    for path, reason in unreadable:
        print(f"left out {path}: {reason}", file=sys.stderr)
    made = next(modality for modality in dataset.modalities if modality.name == arguments.modality)
    assert made.features is not None
    num_present, width = made.features.shape
    print(
        f"{arguments.dataset}: {arguments.modality}, {width} features of {num_present} of "
        f"{dataset.num_entities} entities"
    )


def run_train(arguments: argparse.Namespace) -> int:
    from model.device import choose_device
    from training.dataset import Dataset
    from training.memory import keep_freed_memory
    from training.recipe import Recipe
    from training.trainer import resume_training, start_training

    device = choose_device(arguments.device)
    keep_freed_memory()
    overrides = list(arguments.set)
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
    )
    scores = {split: round(report["metrics"]["mrr"], 4) for split, report in manifest.metrics.items()}
    print(f"{arguments.bundle}: version {manifest.version}, MRR {scores}")


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
    from service.server import serve
    from service.settings import Settings

    serve(_settings(**{name: getattr(arguments, name) for name in Settings.model_fields}), _announce)


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
    from pydantic import ValidationError

    from model.predictor import describe
    from service.settings import Settings

    try:
        return Settings(**fields)
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


def _pair(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals or not name or not file:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE")
    return name, Path(file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="momok", description="Link prediction on multi-modal knowledge graphs."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_import(commands)
    _add_check(commands)
    _add_encode(commands)
    _add_train(commands)
    _add_import_checkpoint(commands)
    _add_evaluate(commands)
    _add_export(commands)
    _add_predict(commands)
    _add_discover(commands)
    _add_serve(commands)
    _add_demo(commands)
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], Any], text: str) -> Any:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=run)
    return parser


def _add_import(commands: Any) -> None:
    parser = _command(commands, "import", run_import, "Turn a published graph into a dataset directory.")
    parser.add_argument("source", type=Path, help="directory of the published files")
    parser.add_argument("dataset", type=Path, help="dataset directory to write; must not exist")
    parser.add_argument("--layout", choices=LAYOUTS, required=True)
    parser.add_argument("--name", help="name of the dataset; the source directory's if not given")
    parser.add_argument("--labels", type=Path, help="key<TAB>label[<TAB>description] of entities")
    parser.add_argument("--relation-labels", type=Path, help="key<TAB>label of relations")
    parser.add_argument(
        "--features", type=_pair, action="append", default=[], metavar="NAME=FILE",
        help="features of a modality: .safetensors, .npy or .pth; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--rows", type=_pair, action="append", default=[], metavar="NAME=FILE",
        help="whose features the rows are, where not all entities in id order: keys (text) or ids (.npy)",
    )  # fmt: skip
    parser.add_argument("--holdout", type=float, help="replace valid by this share of train, per relation")
    parser.add_argument("--seed", type=int, default=0, help="of the holdout")
    _add_json(parser)


def _add_check(commands: Any) -> None:
    parser = _command(commands, "check", run_check, "Validate a dataset or a bundle and say what is in it.")
    parser.add_argument("path", type=Path)
    _add_json(parser)


def _add_encode(commands: Any) -> None:
    parser = _command(
        commands, "encode", run_encode, "Make a modality of a dataset from texts, numbers or pictures."
    )
    parser.add_argument("dataset", type=Path, help="dataset directory; gains the modality")
    parser.add_argument("--modality", required=True, metavar="NAME", help="its name, such as text")
    parser.add_argument("--encoder", choices=ENCODERS, required=True)
    parser.add_argument(
        "--from", dest="source", required=True, metavar="SOURCE",
        help="text: labels, descriptions, or a table key<TAB>text; numeric: a table with a header line, "
        "one column an attribute, or key, attribute and value; image: a folder of <key>.png and the like",
    )  # fmt: skip
    parser.add_argument("--width", type=int, help="features of the text encoder (default 128)")
    parser.add_argument("--seed", type=int, default=0, help="of the text encoder's SVD")
    parser.add_argument("--replace", action="store_true", help="in place of a modality of this name")


def _add_train(commands: Any) -> None:
    parser = _command(
        commands, "train", run_train, "Train a model; Ctrl-C leaves a run that --resume continues."
    )
    parser.add_argument("dataset", type=Path, nargs="?", help="dataset directory; not with --resume")
    parser.add_argument("--config", type=Path, help="recipe in TOML, see configs/")
    parser.add_argument("--out", type=Path, required=True, help="run directory; new, unless --resume")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="override a field of the recipe, such as training.batch_size=512; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=PRECISIONS,
        help="of products, as training.precision of the recipe: auto takes bfloat16 where it is fast",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on where --out stands")
    _add_device(parser)


def _add_import_checkpoint(commands: Any) -> None:
    parser = _command(
        commands,
        "import-checkpoint",
        run_import_checkpoint,
        "Turn a checkpoint of the authors' MoMoK code into a run that can be evaluated and exported.",
    )
    parser.add_argument("file", type=Path, help="state dict: .pth, .pt or .safetensors")
    parser.add_argument("dataset", type=Path, help="dataset directory of the same graph, ids in their order")
    parser.add_argument("--out", type=Path, required=True, help="run directory to write; must not exist")


def _add_evaluate(commands: Any) -> None:
    parser = _command(commands, "evaluate", run_evaluate, "Rank the facts of a split and report how well.")
    parser.add_argument("source", type=Path, help="run or bundle")
    parser.add_argument("dataset", type=Path, nargs="?", help="where the run's dataset is now, if it moved")
    parser.add_argument("--split", choices=SPLITS, default="test")
    _add_device(parser)
    _add_json(parser)


def _add_export(commands: Any) -> None:
    parser = _command(commands, "export", run_export, "Write the bundle of a run's best model.")
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path, help="bundle directory to write; must not exist")
    parser.add_argument("dataset", type=Path, nargs="?", help="where the run's dataset is now, if it moved")
    parser.add_argument("--name", help="name of the model in answers; the dataset's if not given")
    _add_device(parser)


def _add_predict(commands: Any) -> None:
    parser = _command(commands, "predict", run_predict, "Answer one query from a bundle, without a server.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--head", help="key or label; the tail is asked for")
    parser.add_argument("--relation", required=True, help="key or label")
    parser.add_argument("--tail", help="key or label; the head is asked for")
    parser.add_argument("-k", type=int, default=10, help="candidates wanted (default %(default)s)")
    parser.add_argument("--include-known", action="store_true", help="offer what the graph already holds too")
    _add_device(parser)
    _add_json(parser)


def _add_discover(commands: Any) -> None:
    parser = _command(
        commands, "discover", run_discover,
        "Write the best missing facts of the whole graph to a file; Ctrl-C leaves what --resume continues.",
    )  # fmt: skip
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="new file: .jsonl, .tsv or .parquet")
    parser.add_argument(
        "--relation", dest="relations", action="append", metavar="NAME",
        help="key or label; may be repeated (default all relations)",
    )  # fmt: skip
    parser.add_argument(
        "--missing", choices=("tail", "head", "both"), default="both", help="the end asked for"
    )
    parser.add_argument(
        "--entities", choices=("observed", "all"), default="observed",
        help="whom to ask: those seen at the given end of the relation, or all (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--candidates", choices=("all", "observed"), default="all",
        help="whom to offer: all, or those seen at the missing end of the relation (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("-k", type=int, default=10, help="candidates of a query (default %(default)s)")
    parser.add_argument("--limit", type=int, help="keep so many facts of each relation and end, the best")
    parser.add_argument("--min-score", type=float, help="keep facts that score at least this")
    parser.add_argument(
        "--shard", default="1/1", metavar="I/N",
        help="do the I-th of N parts, which together find what one run finds (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished --out")
    _add_device(parser)
    _add_json(parser)


def _add_serve(commands: Any) -> None:
    from service.settings import Settings

    parser = _command(commands, "serve", run_serve, "Serve a bundle over HTTP.")
    for name, field in Settings.model_fields.items():
        if field.is_required():
            parser.add_argument(name, type=Path, help=field.description)
            continue
        choices = get_args(field.annotation) or None
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(field.default), default=field.default, choices=choices,
            help=f"{field.description} (default {field.default})",
        )  # fmt: skip


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", run_demo, "Build a small graph, train on it, serve it and ask it.")
    parser.add_argument("--directory", type=Path, default=Path("build/demo"), help="default %(default)s")
    parser.add_argument("--rebuild", action="store_true", help="start over instead of serving what was built")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default %(default)s)")


def _add_json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_device(parser: Any) -> None:
    parser.add_argument("--device", choices=get_args(DeviceName), default="auto")


if __name__ == "__main__":
    sys.exit(main())
