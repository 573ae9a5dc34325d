"""Loader: the thread that opens bundles."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from service.answerer import Answerer


class Loader:
    """Loads in one thread, always the same: each that multiplies matrices has helpers of its own, and their
    memory. It does not keep a process that is told to end from ending."""

    def __init__(self, load: Callable[[Path], Answerer]) -> None:
        self._load = load
        self._wanted: SimpleQueue[tuple[Path, Future[Answerer]] | None] = SimpleQueue()
        Thread(target=self._work, name="loader", daemon=True).start()

    def load(self, path: Path) -> Answerer:
        """Whatever loading raises."""
        future: Future[Answerer] = Future()
        self._wanted.put((path, future))
        return future.result()

    def close(self) -> None:
        self._wanted.put(None)

    def _work(self) -> None:
        while wanted := self._wanted.get():
            path, future = wanted
            try:
                future.set_result(self._load(path))
            except BaseException as error:  # Raised again in the thread that waits.
                _forget_loaded(error)
                future.set_exception(error)
            del wanted, future  # They would keep the bundle while this waits for the next.


def _forget_loaded(error: BaseException | None) -> None:
    """Empty the frames that an error came through: who keeps the error would keep whole tables with it."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
