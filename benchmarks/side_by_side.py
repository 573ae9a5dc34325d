"""Processes that take turns: each side of a comparison has a process of its own, one works at a time.

So each has the allocator it would have, its memory can be told from the other's, and what disturbs the
machine disturbs both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import torch

WARM_S, TIMED_S = 4.0, 6.0
"""How long a side works in each turn at the least, before it is timed and while it is."""


class Side:
    """A process that runs ``python SCRIPT --side NAME …`` and answers each line with one of JSON."""

    def __init__(self, script: str, name: str, *arguments: str, **environment: str) -> None:
        self.name = name
        self.seconds: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, script, "--side", name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
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


def parser_of(text: str) -> argparse.ArgumentParser:
    """What every comparison takes, described by the first line of ``text``."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    return parser


def show(result: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(result) if as_json else "\n".join(f"{name}: {value}" for name, value in result.items()))


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def take_turns(work: Callable[[], object], facts: dict[str, Any], before_bytes: int) -> None:
    """What a side does: tell its facts, work once a line, and tell its peak memory at the end."""
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            print(json.dumps({"peak_bytes": peak_bytes() - before_bytes}), flush=True)
            return
        # First for itself: memory that lay idle while the others worked may have been taken away.
        _repeat(work, WARM_S)
        print(json.dumps({"seconds": median(_repeat(work, TIMED_S))}), flush=True)


def _repeat(work: Callable[[], object], least_s: float) -> list[float]:
    """Seconds of each time, once and then until ``least_s`` are over."""
    seconds: list[float] = []
    while not seconds or sum(seconds) < least_s:
        started = perf_counter()
        work()
        seconds.append(perf_counter() - started)
    return seconds
