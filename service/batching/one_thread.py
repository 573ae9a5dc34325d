"""OneThread: calls done one after the other, in a thread that is always the same."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


class OneThread:
    """Each thread that multiplies matrices has helpers of its own, and their memory: so not many threads.

    It begins with the first call, and does not keep a process that is told to end from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._thread: Thread | None = None

    def submit(self, call: Callable[[], ResultT]) -> Future[ResultT]:
        """From one thread at a time. The future has whatever ``call`` returns or raises."""
        if self._thread is None:
            self._thread = Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        future: Future[ResultT] = Future()
        self._calls.put((call, future))
        return future

    def close(self) -> None:
        """After the calls that are there."""
        self._calls.put(None)

    def _work(self) -> None:
        while given := self._calls.get():
            call, future = given
            try:
                future.set_result(call())
            except (StopIteration, CancelledError) as error:  # Futures of event loops do not take these.
                future.set_exception(RuntimeError(f"a call raised {type(error).__name__}"))
            except BaseException as error:  # Raised again where it is waited for.
                future.set_exception(error)
            del given, call, future  # What they refer to must not stay while this waits for the next.
