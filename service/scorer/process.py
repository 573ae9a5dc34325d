"""ScorerProcess: a scorer in a process of its own.

Python runs one thread of a process at a time. A scorer beside the event loop would wait for it after each of
the few hundred operations of a batch; here it waits for its questions alone
(docs/log/2026-11-22-scoring-process.md).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import torch

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
    framed,
    packed,
    placed_of,
    questions_as_message,
    received,
    taken_apart,
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
OPENS_S = 900.0
"""How long a process may take to open and verify a bundle, to warm, or for its golden queries."""
DEVICES = "CUDA_VISIBLE_DEVICES"
LEAVE_S = 5.0
"""How long a process that sends no more may take to end."""

logger = logging.getLogger("momok.service")

OnEnd = Callable[[int, str], object]
"""Given the number of a process, and how it ended."""


class ScorerFailed(Exception):
    """An unforeseen error of the process; a note holds its traceback."""


@dataclass(frozen=True)
class ScorerSpec:
    """What to serve, and how; a process that takes longer than ``stuck_s`` for an answer is ended.

    ``place`` of ``among`` processes: they share the processors, and each has a device of its own where there
    are several.
    """

    bundle: Path
    device: DeviceName = "auto"
    engine: EngineName = "auto"
    min_recall: float = 0.0
    stuck_s: float = float("inf")
    place: int = 0
    among: int = 1


class ScorerProcess:
    """Opens a bundle and answers one question after the other; ends with its last reference, or with this
    process.

    First a thread waits for it, to ``warm`` and ``verify``; from the first question on an event loop has its
    line. ``on_end(pid, how)`` is called, in a thread of its own, when it ends unasked.
    """

    def __init__(self, spec: ScorerSpec, on_end: OnEnd = lambda pid, how: None) -> None:
        """Returns once it can answer. Raises ``UserError`` for a bundle that it refuses, ``ScorerEnded``."""
        self._connection, there = socket.socketpair()
        self._connection.settimeout(OPENS_S)
        there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_BYTES)
        with there:
            self._process = _start(spec, there)
        self.pid = self._process.pid
        self.pids = (self.pid,)
        self._stuck_s = spec.stuck_s
        self._line: Line | None = None
        self._ends: list[Callable[[], object]] = [self._connection.close]
        end = weakref.finalize(self, _end, self._process, self._ends)
        self.gpu_memory = GpuMemory()
        watch = Thread(target=_watch, args=(self._process, end, on_end), name="scorer-watch", daemon=True)
        watch.start()
        words, _ = self._received()
        self.device: str = words["device"]
        self.engine_choices: Mapping[int, str] = dict(words["engines"])

    def warm(self) -> None:
        """Before the first question. Raises as ``verify``."""
        words, _ = self._ask_now("warm")
        self.engine_choices = dict(words["engines"])

    def verify(self) -> None:
        """Have it ask its golden queries, before the first question.

        Raises ``UserError``, ``ScorerEnded``.
        """
        self._ask_now("verify")

    async def check(self) -> None:
        """As ``verify``, between questions."""
        await self._ask("verify", {}, b"")

    async def write(self, questions: Sequence[Question]) -> list[Written]:
        return written_of(*await self._ask("write", *questions_as_message(questions)))

    async def rank(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> list[RankedFact]:
        facts = {"entity": entity_B, "relation": relation_B, "answer": answer_B}
        return placed_of(*await self._ask("place", {}, packed(facts)))

    async def score(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> tuple[Float64, Float64]:
        facts = {"entity": entity_B, "relation": relation_B, "answer": answer_B}
        arrays = unpacked((await self._ask("score", {}, packed(facts)))[1])
        return arrays["scores"], arrays["values"]

    def _ask_now(self, call: str) -> Message:
        assert self._line is None, "an event loop has the line"
        try:
            self._connection.sendall(framed({"call": call, "number": 0}))
        except OSError:
            raise self._ended() from None
        return self._received()

    def _received(self) -> Message:
        """The next message, waited for. Raises ``ScorerEnded``, and what the scorer raises."""
        try:
            message = received(self._connection)
        except TimeoutError:
            _kill(self._process)
            raise ScorerEnded(f"the scoring process was not ready after {OPENS_S:g} s") from None
        except OSError:
            message = b""
        if not message:
            raise self._ended()
        return self._heard(taken_apart(message))

    async def _ask(self, call: str, words: Words, body: bytes) -> Message:
        """Raises ``ScorerEnded``, and what the scorer raises."""
        if self._line is None:
            self._line = Line(self._connection, self._stuck_s, partial(_kill, self._process))
            self._ends[:] = [self._line.close]
        try:
            return self._heard(await self._line.ask({"call": call, **words}, body))
        except LineLost:
            raise await asyncio.to_thread(self._ended) from None

    def _heard(self, message: Message) -> Message:
        words, _ = message
        self.gpu_memory = GpuMemory(*words.get("gpu_memory", self.gpu_memory))
        if (failure := words.get("failure")) is not None:
            raise _raised(**failure)
        return message

    def _ended(self) -> ScorerEnded:
        """It sends no more. If it does not leave it is made to, so that ``_watch`` sees it."""
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
    # It needs no keys of ours.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MOMOK_")}
    threads = max(1, threads_beside_another() // spec.among)
    environment = inherited | {THREADS: str(threads), "PYTHONPATH": path} | _device(spec)
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


def _device(spec: ScorerSpec) -> dict[str, str]:
    """The variable by which CUDA shows a process one device, the next one for each."""
    if spec.among == 1 or spec.device == "cpu" or not torch.cuda.is_available():
        return {}
    given = os.environ.get(DEVICES)
    visible = list(map(str, range(torch.cuda.device_count()))) if given is None else given.split(",")
    return {DEVICES: visible[spec.place % len(visible)]}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End one that hangs, wherever it does; ``_watch`` sees it."""
    logger.error("the scoring process %d has not answered in time and is ended", process.pid)
    process.kill()


def _watch(process: subprocess.Popen[bytes], end: weakref.finalize[Any, Any], on_end: OnEnd) -> None:
    code = process.wait()
    if end.alive:
        on_end(process.pid, _how(code))


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    return f"by signal {-code}" + ("; was there enough memory?" if code == -signal.SIGKILL else "")


def _end(process: subprocess.Popen[bytes], ends: Sequence[Callable[[], object]]) -> None:
    """Without waiting: giving back much memory takes a while, and ``_watch`` waits."""
    process.kill()
    for end in ends:
        end()


def _raised(kind: str, text: str, traceback: str) -> Exception:
    """What the scorer raised, as far as callers tell it apart."""
    if kind == "refused":
        return UserError(text)
    error: Exception = MemoryError(text) if kind == "memory" else ScorerFailed(text)
    error.add_note(traceback)
    return error
