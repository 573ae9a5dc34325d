"""Scoring for a request: its queries through the batcher, within its time, for as long as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from starlette.types import Receive

from momok.service.batching.batcher import ClosedError, DeadlineError, MicroBatcher, QueueFullError, Score
from momok.service.batching.job import Job, Scored
from momok.service.contract.errors import (
    RETRY_AFTER_S,
    DeadlineExceeded,
    Draining,
    OutOfMemory,
    QueueFull,
    Starting,
)
from momok.service.contract.failures import OUT_OF_MEMORY, ScorerEnded

QueryT = TypeVar("QueryT")
AnswerT = TypeVar("AnswerT")


WATCH_AFTER_S = 0.5
"""Watching costs more than a short wait in the queue could save."""


class ClientGone(Exception):
    """No caller waits for the answer any more."""


async def score(
    batcher: MicroBatcher,
    receive: Receive,
    function: Score[QueryT, AnswerT],
    queries: Sequence[QueryT],
    timeout_s: float,
    size: int | None = None,
) -> Scored[AnswerT]:
    """``receive`` tells when the client leaves; ``size`` is what the queries count for (``MicroBatcher``).

    Raises ``QueueFull``, ``DeadlineExceeded``, ``OutOfMemory``, ``Starting``, ``Draining``, ``ClientGone``.
    """
    try:
        return await _while_there(batcher, batcher.admit(function, queries, timeout_s, size), receive)
    except QueueFullError as error:
        raise _queue_full(batcher, error) from None
    except DeadlineError:
        raise DeadlineExceeded(
            f"not answered within {max(timeout_s, 0):.3f} s; ask for less, or allow more time"
        ) from None
    except ClosedError:
        raise Draining("no more work is taken; ask another server") from None
    except ScorerEnded:
        raise Starting("what scores has ended; it is being replaced", retry_after_s=RETRY_AFTER_S) from None
    except OUT_OF_MEMORY:
        raise OutOfMemory("ask for less at a time, or again later", retry_after_s=1) from None


def check_room(batcher: MicroBatcher, size: int, timeout_s: float) -> None:
    """Raises ``QueueFull`` before more work goes into what will be refused: refusals come in floods."""
    try:
        batcher.check_room(size, timeout_s)
    except QueueFullError as error:
        raise _queue_full(batcher, error) from None


def _queue_full(batcher: MicroBatcher, error: QueueFullError) -> QueueFull:
    return QueueFull(f"{batcher.queued} queries wait; ask again later", retry_after_s=error.retry_after_s)


async def _while_there(batcher: MicroBatcher, job: Job, receive: Receive) -> Scored[Any]:
    """The outcome of a job, which is given up when the client is. Raises ``ClientGone``."""
    try:
        with _Watch(receive, job):
            return await batcher.outcome(job)
    finally:
        del job  # As in ``outcome``.


class _Watch:
    """Settles a job when its client leaves; begins a little later, as most answers are there before."""

    def __init__(self, receive: Receive, job: Job) -> None:
        self._receive, self._job = receive, job
        self._watching: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._begin)

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None  # It refers to this.

    def _begin(self) -> None:
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._job.settle(ClientGone())
