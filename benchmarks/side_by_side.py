"""Processes that take turns: each side of a comparison has a process of its own, one works at a time.

So each has the allocator it would have, its memory can be told from the other's, and what disturbs the
machine disturbs both.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any


class Side:
    """A process that runs ``python SCRIPT --side NAME …`` and answers each line with one of JSON."""

    def __init__(self, script: str, name: str, *arguments: str) -> None:
        self.name = name
        self.seconds: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, script, "--side", name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.facts: dict[str, Any] = self._read()

    def turn(self) -> None:
        self.seconds.append(self._ask("turn")["seconds"])

    def end(self) -> dict[str, Any]:
        """Facts at the end, among them ``peak_bytes`` above what the imports took."""
        facts = self._ask("end")
        self._process.wait()
        return facts

    def median(self) -> float:
        return median(self.seconds)

    def _ask(self, what: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def take_turns(work: Callable[[], object], facts: dict[str, Any], before_bytes: int) -> None:
    """What a side does: tell its facts, work once a line, and tell its peak memory at the end."""
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            print(json.dumps({"peak_bytes": peak_bytes() - before_bytes}), flush=True)
            return
        # Once for itself: memory that lay idle while the others worked may have been taken away.
        work()
        started = perf_counter()
        work()
        print(json.dumps({"seconds": perf_counter() - started}), flush=True)
