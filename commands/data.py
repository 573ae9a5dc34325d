"""import, check, encode: datasets."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from momok.commands.console import (
    add_device,
    add_json,
    checked,
    interrupted,
    print_lines_or_json,
    stop_on_interrupt,
)
from momok.model.errors import UserError


def add_import(parser: ArgumentParser) -> None:
    """Arguments of `import`."""
    from momok.training.importers import LAYOUTS

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
        help="entities of the rows, where not all in id order: keys (text) or ids (.npy)",
    )  # fmt: skip
    parser.add_argument("--holdout", type=float, help="replace valid by this share of train, per relation")
    parser.add_argument("--seed", type=int, default=0, help="of the holdout")
    add_json(parser)


def run_import(arguments: Namespace) -> None:
    """Turn a published graph into a dataset directory."""
    from momok.training.data.report import report
    from momok.training.importers import import_dataset

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
    found = report(dataset)
    print_lines_or_json(found.lines(), found.as_dict(), arguments.json)


def add_check(parser: ArgumentParser) -> None:
    """Arguments of `check`."""
    parser.add_argument("path", type=Path)
    add_json(parser)


def run_check(arguments: Namespace) -> None:
    """Validate a dataset or a bundle and describe it."""
    from momok.model.bundle.bundle import is_bundle
    from momok.service.answering.answerer import Answerer
    from momok.training.data.dataset import Dataset
    from momok.training.data.report import report

    if is_bundle(arguments.path):
        manifest = Answerer.open(arguments.path, "cpu").bundle.manifest
        print_lines_or_json(manifest.lines(), manifest.model_dump(mode="json"), arguments.json)
    else:
        found = report(Dataset.open(arguments.path))
        print_lines_or_json(found.lines(), found.as_dict(), arguments.json)


def add_encode(parser: ArgumentParser) -> None:
    """Arguments of `encode`."""
    from momok.training.encoders.encode import ENCODERS

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
    add_device(parser)


def run_encode(arguments: Namespace) -> int:
    """Make a modality of a dataset from raw files; Ctrl-C leaves what --resume continues."""
    from momok.training.encoders.base import Options
    from momok.training.encoders.encode import encode

    options = checked(Options, {name: getattr(arguments, name) for name in Options.model_fields})
    with stop_on_interrupt() as stop:
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
        return interrupted("the same command with --resume goes on")
    for item, reason in encoded.left_out:
        print(f"left out {item}: {reason}", file=sys.stderr)
    assert encoded.modality.features is not None
    num_present, width = encoded.modality.features.shape
    print(
        f"{arguments.dataset}: {arguments.modality}, {width} features of {num_present} of "
        f"{encoded.dataset.num_entities} entities"
    )
    return 0


def _by_name(pairs: Sequence[tuple[str, Path]], flag: str) -> dict[str, Path]:
    names = [name for name, _ in pairs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{flag} is given twice for {', '.join(sorted(twice))}; a modality has one file")
    return dict(pairs)


def _pair(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals or not name or not file:
        raise ArgumentTypeError(f"{text!r} is not NAME=FILE")
    return name, Path(file)
