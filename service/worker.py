"""ScorerThread: the one thread that scores, so that inference never runs on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

ResultT = TypeVar("ResultT")


class ScorerThread:
    """Runs calls one after the other, in the order given."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scorer")

    async def run(self, call: Callable[[], ResultT]) -> ResultT:
        """The call's result, or its exception."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def close(self) -> None:
        """Finish what was admitted; nothing more is taken."""
        self._executor.shutdown(wait=True)
