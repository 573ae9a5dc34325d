"""Console: common arguments of commands, printing, and interruption."""

from __future__ import annotations

import json
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from momok.model.errors import UserError, describe

if TYPE_CHECKING:
    from pydantic import BaseModel

    Config = TypeVar("Config", bound=BaseModel)


def add_json(parser: ArgumentParser) -> None:
    """The flag of commands that print for people and for scripts."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_device(parser: ArgumentParser) -> None:
    """The flag of commands that compute."""
    from momok.model.runtime.device import DeviceName

    parser.add_argument("--device", choices=get_args(DeviceName), default="auto")


def add_recipe(parser: ArgumentParser) -> None:
    """The flags of commands that train."""
    parser.add_argument("--config", type=Path, help="recipe: a TOML file, or a name such as momok-mkg-y")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="override a field of the recipe, such as training.batch_size=512; may be repeated",
    )  # fmt: skip


def print_lines_or_json(lines: Sequence[str], value: Any, as_json: bool) -> None:
    """Lines for people, or the value as JSON."""
    print(json.dumps(value, ensure_ascii=False, indent=2) if as_json else "\n".join(lines))


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
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


def interrupted(how: str) -> int:
    """Say how to go on; the exit code."""
    print(f"interrupted; {how}", file=sys.stderr)
    return 130


def checked(kind: type[Config], fields: Mapping[str, Any]) -> Config:
    """A configuration from flags. Raises ``UserError`` for values out of range."""
    from pydantic import ValidationError

    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise UserError(describe(error)) from None
