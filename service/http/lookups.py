"""Lookups: reads of names and facts beside the event loop, bounded in number and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from momok.model.bundle.vocabulary import SearchTooLong
from momok.service.contract.errors import DeadlineExceeded, InvalidRequest, ProblemItem, QueueFull

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")

THREADS = 2
"""Reads at a time: Python runs one thread at a time, and SQLite is the only part that lets go."""
WAITING = 64
"""Reads that wait or run; more are refused."""


class Lookups:
    """A thread pool of its own, so that slow reads delay other reads only."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="lookup")
        self._pending = 0

    async def run(
        self,
        timeout_s: float,
        call: Callable[ParametersT, ResultT],
        *args: ParametersT.args,
        **kwargs: ParametersT.kwargs,
    ) -> ResultT:
        """The result of a call. Raises ``QueueFull``, ``DeadlineExceeded``, ``InvalidRequest`` for a search
        that takes too long, and what the call raises."""
        if self._pending >= WAITING:
            raise QueueFull(f"{self._pending} lookups wait; try again later", retry_after_s=1)
        future = self._threads.submit(partial(call, *args, **kwargs))
        self._pending += 1
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: self._tell(loop))
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise DeadlineExceeded(f"not looked up within {timeout_s:.3f} s; try again later") from None
        except SearchTooLong as error:
            raise InvalidRequest([ProblemItem(pointer="search", detail=str(error))]) from None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        """From the thread of a read, which may outlast the server."""
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._ended)

    def _ended(self) -> None:
        self._pending -= 1
