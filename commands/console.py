"""Console: common arguments of commands, printing, and interruption."""

from __future__ import annotations

import json
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from momok.model.errors import UserError

T = TypeVar("T")


def add_json(parser: ArgumentParser) -> None:
    """The flag of commands that print for people and for scripts."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_device(parser: ArgumentParser) -> None:
    """The flag of commands that compute."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def print_report(report: Any, as_json: bool) -> None:
    """A report with ``lines`` and ``as_dict``."""
    print_lines_or_json(report.lines(), report.as_dict(), as_json)


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


def checked(kind: type[T], fields: Mapping[str, Any]) -> T:
    """A configuration from flags. Raises ``UserError`` for values out of range."""
    from pydantic import ValidationError

    from momok.model.errors import describe

    try:
        return kind(**fields)
    except ValidationError as error:
        raise UserError(describe(error)) from None
