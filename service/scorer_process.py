"""ScorerProcess: a scorer in a process of its own, asked as if it were here.

Python runs one thread of a process at a time. A scorer beside the event loop would wait for it after each of
the few hundred operations of a batch; here it waits for its questions alone (docs/LOG.md).
"""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from model.cpus import THREADS, threads_beside_another
from model.device import DeviceName, GpuMemory
from model.engine import EngineName
from model.errors import UserError
from model.known import Int64
from model.scorer import Answer, PlacedFact, Query
from model.table import Float64
from service.job import ScorerEnded
from service.messages import Arrays, Words, answers_of, pack, placed_of, queries_as_arrays, unpack

WORKER = "service.scorer_worker"
LEAVE_S = 10.0
"""How long a process that is told to end may take; its batch is nobody's any more."""


class ScorerFailed(Exception):
    """What it raised and nobody has foreseen; a note holds its traceback."""


@dataclass(frozen=True)
class Job:
    """What to serve, and how."""

    bundle: Path
    device: DeviceName = "auto"
    engine: EngineName = "auto"
    min_recall: float = 0.0


class ScorerProcess:
    """Opens a bundle and answers; ends with its last reference, or with this process.

    ``on_end(pid)`` is called, in a thread of its own, when it ends of itself.
    """

    def __init__(self, job: Job, on_end: Callable[[int], object] = lambda pid: None) -> None:
        """Returns once it can answer. Raises ``UserError`` for a bundle that it refuses."""
        here, there = Pipe()
        with there:
            self._process = _start(job, there)
        self.pid = self._process.pid
        self._connection, self._lock = here, Lock()
        self._end = weakref.finalize(self, _end, self._process)
        self.gpu_memory = GpuMemory()
        watch = Thread(
            target=_watch, args=(self._process, self._end, on_end), name="scorer-watch", daemon=True
        )
        watch.start()
        try:
            words, _ = self._receive()
        except ScorerEnded as error:
            raise UserError(f"{job.bundle}: {error} (while it was loading)") from None
        self.device: str = words["device"]
        self.engine_choices: Mapping[int, str] = dict(words["engines"])

    def warm(self) -> None:
        words, _ = self._ask("warm", {})
        self.engine_choices = dict(words["engines"])

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        words, arrays = self._ask("answer", queries_as_arrays(queries))
        return answers_of(queries, words, arrays)

    def place(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> list[PlacedFact]:
        facts = {"entity": entity_B, "relation": relation_B, "answer": answer_B}
        return placed_of(*self._ask("place", facts))

    def score(self, entity_B: Int64, relation_B: Int64, answer_B: Int64) -> tuple[Float64, Float64]:
        _, arrays = self._ask("score", {"entity": entity_B, "relation": relation_B, "answer": answer_B})
        return arrays["scores"], arrays["values"]

    def close(self) -> None:
        """End it, whatever it is at."""
        self._end()

    def _ask(self, call: str, arrays: Arrays) -> tuple[Words, Arrays]:
        """Raises ``ScorerEnded``, and what the scorer raises."""
        message = pack({"call": call}, arrays)
        with self._lock:
            try:
                self._connection.send_bytes(message)
            except OSError:
                raise self._ended() from None
            return self._receive()

    def _receive(self) -> tuple[Words, Arrays]:
        try:
            words, arrays = unpack(self._connection.recv_bytes())
        except (EOFError, OSError):
            raise self._ended() from None
        self.gpu_memory = GpuMemory(*words.get("gpu_memory", ()))
        if (failure := words.get("failure")) is not None:
            raise _raised(**failure)
        return words, arrays

    def _ended(self) -> ScorerEnded:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVE_S)
        code = self._process.returncode
        if code is None or not self._end.alive:
            return ScorerEnded("the scoring process has been ended")
        how = f"by signal {-code}; is there enough memory?" if code < 0 else f"with exit code {code}"
        return ScorerEnded(f"the scoring process ended {how}")


def _start(job: Job, connection: Connection) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", WORKER, str(connection.fileno())]
    command += [str(job.bundle), job.device, job.engine, str(job.min_recall)]
    environment = os.environ | {THREADS: str(threads_beside_another())}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # Ours is read by those who started us.
        pass_fds=[connection.fileno()],
        env=environment,
    )


def _watch(
    process: subprocess.Popen[bytes], end: weakref.finalize[Any, Any], on_end: Callable[[int], object]
) -> None:
    process.wait()
    if end.alive:
        on_end(process.pid)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Without waiting: giving back much memory takes a while, and ``_watch`` waits. Who still reads from it
    will find that it has ended."""
    process.kill()


def _raised(kind: str, text: str, traceback: str) -> Exception:
    """What the scorer raised, as far as callers tell it apart."""
    if kind == "refused":
        return UserError(text)
    error: Exception = MemoryError(text) if kind == "memory" else ScorerFailed(text)
    error.add_note(traceback)
    return error
