"""ScorerProcess: a scorer in a process of its own, asked as if it were here, or from an event loop.

Python runs one thread of a process at a time. A scorer beside the event loop would wait for it after each of
the few hundred operations of a batch; here it waits for its questions alone
(docs/log/2026-11-22-scoring-process.md).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import momok
from momok.model.arrays import Float64, Int64
from momok.model.errors import UserError
from momok.model.retrieval.engine import EngineName
from momok.model.runtime.cpus import THREADS, threads_beside_another
from momok.model.runtime.device import DeviceName, GpuMemory
from momok.model.scorer import RankedFact
from momok.service.contract.failures import ScorerEnded
from momok.service.scorer.line import Line, LineLost
from momok.service.scorer.messages import (
    Message,
    Words,
    packed,
    placed_of,
    questions_as_message,
    unpacked,
    written_of,
)
from momok.service.scorer.question import Question, Written

WORKER = "momok.service.scorer.worker"
ROOT = Path(momok.__file__).resolve().parents[1]
"""Where it finds the same code as we have, wherever else some is installed."""
OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that are often sent to all processes of a service: they are the server's, which has requests to
answer still."""
SENT_BYTES = 1 << 20
"""Room for the answers of a batch on their way, as far as the system allows: else it waits, between two
batches, until the event loop has read them."""
LEAVE_S = 5.0
"""How long a process that does not speak any more may take to end."""

OnEnd = Callable[[int, str], object]
"""Given the number of a process, and how it ended."""


class ScorerFailed(Exception):
    """An unforeseen error of the process; a note holds its traceback."""


@dataclass(frozen=True)
class ScorerSpec:
    """What to serve, and how."""

    bundle: Path
    device: DeviceName = "auto"
    engine: EngineName = "auto"
    min_recall: float = 0.0


class ScorerProcess:
    """Opens a bundle and answers one question after the other; ends with its last reference, or with this
    process. One event loop, and threads while it runs or without any, may ask.

    ``on_end(pid, how)`` is called, in a thread of its own, when it ends unasked.
    """

    def __init__(self, spec: ScorerSpec, on_end: OnEnd = lambda pid, how: None) -> None:
        """Returns once it can answer. Raises ``UserError`` for a bundle that it refuses, ``ScorerEnded``."""
        here, there = socket.socketpair()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_BYTES)
        self._line = Line(here)
        with there:
            self._process = _start(spec, there)
        self.pid = self._process.pid
        self._end = weakref.finalize(self, _end, self._process, self._line)
        self.gpu_memory = GpuMemory()
        watch = Thread(
            target=_watch, args=(self._process, self._end, on_end), name="scorer-watch", daemon=True
        )
        watch.start()
        words, _ = self._line.wait(self._heard(self._line.listen()))
        self.device: str = words["device"]
        self.engine_choices: Mapping[int, str] = dict(words["engines"])

    def warm(self) -> None:
        words, _ = self._ask("warm")
        self.engine_choices = dict(words["engines"])

    def verify(self) -> None:
        """Have it ask its golden queries. Raises ``UserError``."""
        self._ask("verify")

    def write(self, questions: Sequence[Question]) -> list[Written]:
        return self._line.wait(self.write_soon(questions))

    async def write_soon(self, questions: Sequence[Question]) -> list[Written]:
        """As ``write``; the event loop goes on meanwhile."""
        return written_of(*await self._ask_soon("write", *questions_as_message(questions)))

    def rank(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> list[RankedFact]:
        facts = {"entity": entity_B, "relation": relation_B, "answer": answer_B}
        return placed_of(*self._ask("place", packed(facts)))

    def score(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> tuple[Float64, Float64]:
        facts = {"entity": entity_B, "relation": relation_B, "answer": answer_B}
        arrays = unpacked(self._ask("score", packed(facts))[1])
        return arrays["scores"], arrays["values"]

    def _ask(self, call: str, body: bytes = b"") -> Message:
        """Not in a thread whose event loop runs."""
        return self._line.wait(self._ask_soon(call, {}, body))

    async def _ask_soon(self, call: str, words: Words, body: bytes) -> Message:
        """Raises ``ScorerEnded``, and what the scorer raises."""
        return await self._heard(self._line.ask({"call": call, **words}, body))

    async def _heard(self, answer: Awaitable[Message]) -> Message:
        try:
            words, body = await answer
        except LineLost:
            raise await asyncio.to_thread(self._ended) from None
        self.gpu_memory = GpuMemory(*words.get("gpu_memory", self.gpu_memory))
        if (failure := words.get("failure")) is not None:
            raise _raised(**failure)
        return words, body

    def _ended(self) -> ScorerEnded:
        """It does not speak any more. If it does not leave it is made to, so that ``_watch`` sees it."""
        try:
            code = self._process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return ScorerEnded(f"the scoring process has ended {_how(code)}")


def _start(spec: ScorerSpec, connection: socket.socket) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", WORKER, str(connection.fileno())]
    command += [str(os.getpid()), str(spec.bundle), spec.device, spec.engine, str(spec.min_recall)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {THREADS: str(threads_beside_another()), "PYTHONPATH": path}
    # It has the mask of the thread that starts it, from its first instruction on.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, OURS)
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # Ours is for our own caller.
            pass_fds=[connection.fileno()],
            env=environment,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _watch(process: subprocess.Popen[bytes], end: weakref.finalize[Any, Any], on_end: OnEnd) -> None:
    code = process.wait()
    if end.alive:
        on_end(process.pid, _how(code))


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    return f"by signal {-code}" + ("; was there enough memory?" if code == -signal.SIGKILL else "")


def _end(process: subprocess.Popen[bytes], line: Line) -> None:
    """Without waiting: giving back much memory takes a while, and ``_watch`` waits."""
    process.kill()
    line.close()


def _raised(kind: str, text: str, traceback: str) -> Exception:
    """What the scorer raised, as far as callers tell it apart."""
    if kind == "refused":
        return UserError(text)
    error: Exception = MemoryError(text) if kind == "memory" else ScorerFailed(text)
    error.add_note(traceback)
    return error
