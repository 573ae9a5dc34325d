"""The words of the command line: commands, flags and their help. `cli` runs what they ask for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from momok.model.filter_index import SPLITS
from momok.model.runtime.device import DeviceName

LAYOUTS = ("openke", "momok", "tsv")
ENCODERS = ("text", "numeric", "image", "audio", "video")
SCENARIOS = ("noise", "missing", "sparsity")
PRECISIONS = ("auto", "float32", "bfloat16")
"""Those of ``training``, named again so that other commands need not load it."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; its ``command`` names the one that was given."""
    parser = argparse.ArgumentParser(
        prog="momok", description="Link prediction on multi-modal knowledge graphs."
    )
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    _add_import(commands)
    _add_check(commands)
    _add_encode(commands)
    _add_train(commands)
    _add_sweep(commands)
    _add_robustness(commands)
    _add_import_checkpoint(commands)
    _add_evaluate(commands)
    _add_export(commands)
    _add_predict(commands)
    _add_discover(commands)
    _add_serve(commands)
    _add_keys(commands)
    _add_demo(commands)
    return parser


def _command(commands: Any, name: str, text: str) -> Any:
    return commands.add_parser(name, help=text, description=text)


def _add_import(commands: Any) -> None:
    parser = _command(commands, "import", "Turn a published graph into a dataset directory.")
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
    parser = _command(commands, "check", "Validate a dataset or a bundle and say what is in it.")
    parser.add_argument("path", type=Path)
    _add_json(parser)


def _add_encode(commands: Any) -> None:
    parser = _command(
        commands, "encode",
        "Make a modality of a dataset from raw files; Ctrl-C leaves what --resume continues.",
    )  # fmt: skip
    parser.add_argument("dataset", type=Path, help="dataset directory; gains the modality")
    parser.add_argument("--modality", required=True, metavar="NAME", help="its name, such as text")
    parser.add_argument("--encoder", choices=ENCODERS, required=True)
    parser.add_argument(
        "--from", dest="source", required=True, metavar="SOURCE",
        help="text: labels, descriptions, or a table key<TAB>text; numeric: a table with a header line, "
        "one column an attribute, or key, attribute and value; image, audio, video: a folder of <key>.png "
        "and the like, and of folders <key> with several files, which are averaged",
    )  # fmt: skip
    parser.add_argument(
        "--model", type=Path, metavar="DIR",
        help="local directory of a model in place of the light built-in encoder: sentence-transformers for "
        "text; transformers, timm or open_clip for image and video; transformers for audio",
    )  # fmt: skip
    parser.add_argument("--width", type=int, help="features of the built-in text encoder (default 128)")
    parser.add_argument("--seed", type=int, help="of the built-in text encoder's SVD (default 0)")
    parser.add_argument("--every", type=int, metavar="N", help="take one frame of a video in N (default 25)")
    parser.add_argument("--replace", action="store_true", help="in place of a modality of this name")
    parser.add_argument("--resume", action="store_true", help="go on with an encoding that did not end")
    _add_device(parser)


def _add_train(commands: Any) -> None:
    parser = _command(commands, "train", "Train a model; Ctrl-C leaves a run that --resume continues.")
    parser.add_argument("dataset", type=Path, nargs="?", help="dataset directory; not with --resume")
    parser.add_argument("--config", type=Path, help="recipe in TOML, see configs/")
    parser.add_argument(
        "--model", metavar="NAME", help="what to train, as model of the recipe: momok, adamf, …"
    )
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


def _add_sweep(commands: Any) -> None:
    parser = _command(
        commands, "sweep",
        "Train and compare every recipe of a grid; what is done is kept, and the same command goes on.",
    )  # fmt: skip
    _add_comparison(parser)
    parser.add_argument("--grid", type=Path, required=True, help="what to vary, in TOML, see docs/models.md")


def _add_robustness(commands: Any) -> None:
    parser = _command(
        commands, "robustness",
        "Compare models on ever more damaged graphs; what is done is kept, and the same command goes on.",
    )  # fmt: skip
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
        "--rates", nargs="+", type=float, help="shares damaged (default 0.2 0.4 0.6 0.8; 0 is always run)"
    )
    parser.add_argument("--modalities", nargs="+", help="that noise and missing hit (default all)")
    parser.add_argument("--seeds", nargs="+", type=int, help="of training and damage (default the recipe's)")
    parser.add_argument("--plot", type=Path, help=".svg or .png (default robustness.svg in --out)")


def _add_comparison(parser: Any) -> None:
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--config", type=Path, help="base recipe in TOML, see configs/")
    parser.add_argument("--out", type=Path, required=True, help="directory of the runs and the results")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="override a field of the base recipe; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--split", choices=("valid", "test"), default="valid",
        help="test judges by test too: do it once, at the end (default %(default)s)",
    )  # fmt: skip
    _add_device(parser)
    _add_json(parser)


def _add_import_checkpoint(commands: Any) -> None:
    parser = _command(
        commands,
        "import-checkpoint",
        "Turn a checkpoint of the authors' MoMoK or AdaMF code into a run to evaluate and to export.",
    )
    parser.add_argument("file", type=Path, help="state dict: .pth, .pt or .safetensors")
    parser.add_argument("dataset", type=Path, help="dataset directory of the same graph, ids in their order")
    parser.add_argument("--out", type=Path, required=True, help="run directory to write; must not exist")


def _add_evaluate(commands: Any) -> None:
    parser = _command(commands, "evaluate", "Rank the facts of a split and report how well.")
    parser.add_argument("source", type=Path, help="run or bundle")
    parser.add_argument("dataset", type=Path, nargs="?", help="where the run's dataset is now, if it moved")
    parser.add_argument("--split", choices=SPLITS, default="test")
    _add_device(parser)
    _add_json(parser)


def _add_export(commands: Any) -> None:
    parser = _command(commands, "export", "Write the bundle of a run's best model.")
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path, help="bundle directory to write; must not exist")
    parser.add_argument("dataset", type=Path, nargs="?", help="where the run's dataset is now, if it moved")
    parser.add_argument("--name", help="name of the model in answers; the dataset's if not given")
    parser.add_argument(
        "--index", metavar="KIND[,FIELD=VALUE...]",
        help="flat (exact), ivf[,lists=,codes=flat|sq8|pq,probes=,fetched=] or hnsw[,links=,build_depth=,"
        "search_depth=,fetched=]; by default flat, from 100,000 entities on ivf, as hard as recall asks; "
        "models that rotate (adamf, adamf-mat, mocme) have flat alone",
    )  # fmt: skip
    _add_device(parser)


def _add_predict(commands: Any) -> None:
    parser = _command(commands, "predict", "Answer one query from a bundle, without a server.")
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
        commands, "discover",
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
    from momok.service.settings import Settings, flag, is_secret, variable

    parser = _command(commands, "serve", "Serve a bundle over HTTP.")
    parser.allow_abbrev = False  # --api-keys would mean --api-keys-file.
    parser.epilog = (
        "Each setting may also stand in the environment (MOMOK_PORT, …) or in a TOML file (port = 8000). "
        "Flags win over the environment, that over the file. Secrets have no flag: "
        + ", ".join(variable(name) for name, field in Settings.model_fields.items() if is_secret(field))
    )
    parser.add_argument("--config", type=Path, help="TOML file of settings (MOMOK_CONFIG)")
    for name, field in Settings.model_fields.items():
        if field.is_required():
            parser.add_argument(name, type=Path, nargs="?", help=field.description)
        elif not is_secret(field):
            kind: dict[str, Any] = {"choices": get_args(field.annotation)}
            if field.annotation is bool:
                kind = {"action": argparse.BooleanOptionalAction}
            elif Path in kind["choices"] or not kind["choices"]:
                kind = {"metavar": name.rpartition("_")[2].upper()}
            # Left out where not given, so that other sources count; Settings checks what it holds.
            parser.add_argument(
                flag(name), default=argparse.SUPPRESS, **kind,
                help=f"{field.description} (default {'none' if field.default is None else field.default})",
            )  # fmt: skip


def _add_keys(commands: Any) -> None:
    parser = _command(
        commands, "keys", "Make a bearer key: printed once, with the line of its hash for a file of keys."
    )  # fmt: skip
    parser.add_argument("name", help="who or what it is for; the server's logs show this name")
    _add_json(parser)


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", "Build a small graph, train on it, serve it and ask it.")
    parser.add_argument("--directory", type=Path, default=Path("build/demo"), help="default %(default)s")
    parser.add_argument("--rebuild", action="store_true", help="start over instead of serving what was built")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default %(default)s)")


def _add_json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_device(parser: Any) -> None:
    parser.add_argument("--device", choices=get_args(DeviceName), default="auto")


def _pair(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals or not name or not file:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE")
    return name, Path(file)
