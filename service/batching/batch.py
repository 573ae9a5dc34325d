"""Batch: jobs whose queries are scored together, and what becomes of each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic
from typing import Any

from momok.service.batching.job import Job, Scored

Outcome = tuple[Job, Scored[Any] | Exception]

SETTLED = 16
"""Jobs in one round of the event loop; to answer each takes some forty microseconds."""


@dataclass(eq=False)
class Batch:
    """Of one function; ``began`` when it was sent, or when all that were sent before it were done."""

    jobs: list[Job]
    began: float = field(default_factory=monotonic)

    @property
    def score(self) -> Any:
        return self.jobs[0].score

    @property
    def queries(self) -> list[Any]:
        return [query for job in self.jobs for query in job.queries]

    @cached_property
    def size(self) -> int:
        return sum(job.size for job in self.jobs)

    @property
    def waits_s(self) -> list[float]:
        return [self.began - job.admitted for job in self.jobs]

    def deliver(self, outcomes: Sequence[Any]) -> None:
        """An answer or an exception of each query; what is scored in time is answered, however long the
        answers before it take to be written."""
        for job in self.jobs:
            job.stop_timer()
        _settle(deque(self._shared_out(outcomes)), asyncio.get_running_loop())

    def give_up(self) -> None:
        for job in self.jobs:
            job.settle(RuntimeError("scoring was given up"))

    def _shared_out(self, outcomes: Sequence[Any]) -> Iterator[Outcome]:
        """One exception spoils the other answers of a job."""
        start = 0
        for job, wait_s in zip(self.jobs, self.waits_s, strict=True):
            part = list(outcomes[start : start + len(job.queries)])
            start += len(part)
            error = next((outcome for outcome in part if isinstance(outcome, Exception)), None)
            yield job, error or Scored(part, wait_s)


def _settle(waiting: deque[Outcome], loop: asyncio.AbstractEventLoop) -> None:
    """A few in each round of the event loop: others should not wait until a whole batch has been written, nor
    each answer for a round of its own."""
    now = [waiting.popleft() for _ in range(min(SETTLED, len(waiting)))]
    if waiting:
        loop.call_soon(_settle, waiting, loop)
    for job, outcome in now:
        job.settle(outcome)
