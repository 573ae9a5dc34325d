"""Scoring for a request: its queries through the batcher, within its time, for as long as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from starlette.requests import Request

from service.batcher import OUT_OF_MEMORY, ClosedError, DeadlineError, MicroBatcher, QueueFullError, Scored
from service.errors import DeadlineExceeded, Draining, OutOfMemory, QueueFull

QueryT = TypeVar("QueryT")
AnswerT = TypeVar("AnswerT")


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


async def score(
    batcher: MicroBatcher,
    request: Request,
    function: Callable[[Sequence[QueryT]], Sequence[AnswerT]],
    queries: Sequence[QueryT],
    timeout_s: float,
) -> Scored[AnswerT]:
    """Raises ``QueueFull``, ``DeadlineExceeded``, ``OutOfMemory``, ``Draining``, ``ClientGone``."""
    try:
        return await _while_there(request, batcher.submit(function, queries, timeout_s))
    except QueueFullError as error:
        raise QueueFull(
            f"{batcher.queued} queries wait; ask again later", retry_after_s=error.retry_after_s
        ) from None
    except DeadlineError:
        raise DeadlineExceeded(
            f"not answered within {timeout_s:.3f} s; ask for less, or allow more time"
        ) from None
    except ClosedError:
        raise Draining("no more work is taken; ask another server") from None
    except OUT_OF_MEMORY:
        raise OutOfMemory("ask for less at a time, or again later", retry_after_s=1) from None


async def _while_there(request: Request, work: Awaitable[Scored[AnswerT]]) -> Scored[AnswerT]:
    """The result of ``work``, which is given up when the client is. Raises ``ClientGone``."""
    task = asyncio.current_task()
    assert task is not None
    gone = asyncio.get_running_loop().create_task(_disconnected(request, task))
    try:
        return await work
    except asyncio.CancelledError:
        if gone.done() and not gone.cancelled() and task.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        gone.cancel()


async def _disconnected(request: Request, task: asyncio.Task[object]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    task.cancel()
