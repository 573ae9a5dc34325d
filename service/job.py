"""Job: one request's queries, from the event loop that waits for them to the thread that scores, and back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Generic, TypeVar

AnswerT = TypeVar("AnswerT")


class ScorerEnded(Exception):
    """What scores is gone, and another is made ready: no query is to blame, nor is the thread that asks."""


@dataclass(frozen=True)
class Scored(Generic[AnswerT]):
    """Answers in the order of the queries, and how long they waited for their batch to begin."""

    answers: list[AnswerT]
    wait_s: float


@dataclass(eq=False)
class Job:
    """``deadline`` is of ``monotonic``, ``timer`` tells it; ``size`` is what this counts for in queries."""

    score: Callable[[Sequence[Any]], Sequence[Any]]
    queries: Sequence[Any]
    size: int
    deadline: float
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Scored[Any]]
    admitted: float = field(default_factory=monotonic)
    waiting: bool = True
    timer: asyncio.TimerHandle | None = None

    def stop_timer(self) -> None:
        """On its event loop only, as is ``settle``."""
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
    """From any thread. One call into each event loop, as waking one up is what costs."""
    of_loops: dict[asyncio.AbstractEventLoop, deque[tuple[Job, Scored[Any] | BaseException]]] = {}
    for job, outcome in outcomes:
        of_loops.setdefault(job.loop, deque()).append((job, outcome))
    for loop, jobs in of_loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_hand_over, jobs)


def _hand_over(jobs: deque[tuple[Job, Any]]) -> None:
    """What is scored in time is answered, however long the answers before it take to be written."""
    for job, _ in jobs:
        job.stop_timer()
    _settle(jobs)


def _settle(jobs: deque[tuple[Job, Any]]) -> None:
    """One in each round of the event loop: others should not wait until a whole batch has been written."""
    job, outcome = jobs.popleft()
    if jobs:
        job.loop.call_soon(_settle, jobs)
    job.settle(outcome)
