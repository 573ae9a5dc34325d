"""Job: one request's queries, on their way to be scored with others, and what becomes of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Generic, TypeVar

AnswerT = TypeVar("AnswerT")


class ScorerEnded(Exception):
    """What scores is gone, and another is made ready: no query is to blame, nor is who asks."""


@dataclass(frozen=True)
class Scored(Generic[AnswerT]):
    """Answers in the order of the queries, and how long they waited for their batch to begin."""

    answers: list[AnswerT]
    wait_s: float


@dataclass(eq=False)
class Job:
    """``deadline`` is of ``monotonic``, ``timer`` tells it; ``size`` is what this counts for in queries."""

    score: Callable[[Sequence[Any]], Any]
    queries: Sequence[Any]
    size: int
    deadline: float
    future: asyncio.Future[Scored[Any]]
    admitted: float = field(default_factory=monotonic)
    waiting: bool = True
    timer: asyncio.TimerHandle | None = None

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def settle(self, outcome: Scored[Any] | BaseException) -> None:
        """Nothing where it is settled, or cancelled, already."""
        if self.future.done():
            return
        if isinstance(outcome, BaseException):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


def deliver(outcomes: Iterable[tuple[Job, Scored[Any] | BaseException]]) -> None:
    """What is scored in time is answered, however long the answers before it take to be written."""
    waiting = deque(outcomes)
    for job, _ in waiting:
        job.stop_timer()
    _settle(waiting, asyncio.get_running_loop())


def _settle(waiting: deque[tuple[Job, Scored[Any] | BaseException]], loop: asyncio.AbstractEventLoop) -> None:
    """One in each round of the event loop: others should not wait until a whole batch has been written."""
    job, outcome = waiting.popleft()
    if waiting:
        loop.call_soon(_settle, waiting, loop)
    job.settle(outcome)
