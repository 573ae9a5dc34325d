"""Job: one request's queries, on their way to be scored with others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Generic, TypeVar

AnswerT = TypeVar("AnswerT")


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
        """It refers to this job, and is forgotten."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def settle(self, outcome: Scored[Any] | BaseException) -> None:
        """Nothing where it is settled, or cancelled, already."""
        if self.future.done():
            return
        if isinstance(outcome, BaseException):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)
