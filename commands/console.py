"""Console: what a command prints, and how it is interrupted."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def print_lines_or_json(lines: Sequence[str], value: Any, as_json: bool) -> None:
    """Print ``value`` as JSON, or ``lines`` for a human reader."""
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
    """Tell how to go on; returns the exit code."""
    print(f"interrupted; {how}", file=sys.stderr)
    return 130
