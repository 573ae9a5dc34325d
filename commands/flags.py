"""Flags that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    from momok.model.runtime.device import DeviceName

    parser.add_argument("--device", choices=get_args(DeviceName), default="auto")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add ``--config`` and ``--set``."""
    parser.add_argument("--config", metavar="RECIPE", help="TOML file, or the name of one in configs/")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="override a field of the recipe, such as training.batch_size=512; may be repeated",
    )  # fmt: skip


def named_file(text: str) -> tuple[str, Path]:
    """The value of a flag NAME=FILE."""
    name, equals, file = text.partition("=")
    if not equals or not name or not file:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE")
    return name, Path(file)
