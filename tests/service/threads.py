"""Functions that block, as a batcher takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def in_thread(call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """A coroutine function; the calls run one after the other in a thread called scorer."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")

    async def soon(*arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(thread, call, *arguments)

    return soon
