"""MicroBatcher: one thread that scores, fed with batches of whatever waits when it is free.

It knows queries and functions that answer lists of them; not what they are, nor who asks. Requests whose
function is the same are scored together, in the order in which they came.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from threading import Condition, Thread
from time import monotonic
from typing import Any, TypeVar

from model.errors import UserError
from service.job import Job, Scored, ScorerEnded, deliver
from service.trial import Trial

QueryT = TypeVar("QueryT")
AnswerT = TypeVar("AnswerT")

SMOOTHING = 0.2
"""Weight of the last batch in the mean time of a query."""

GATHERED_S = 1e-3
"""How long rounds of the event loop may go on to bring more before the thread is woken."""

logger = logging.getLogger("momok.scorer")


class BatcherError(Exception):
    """Work that was not done."""


class QueueFullError(BatcherError):
    """``retry_after_s``: when there should be room, by the length of the queue and the recent pace."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"try again in {retry_after_s:.3f} s")
        self.retry_after_s = retry_after_s


class DeadlineError(BatcherError):
    """The time of a request is over; what still waits is not scored."""


class ClosedError(BatcherError):
    """Nothing more is taken."""


class MicroBatcher:
    """``max_batch`` queries are scored together at the most, except where one request has more.

    ``max_queue`` counts the queries that wait. ``on_batch(num_queries, waits_s)`` is called in the scoring
    thread for each batch. After ``max_failures`` batches in a row without one answer it is not ``alive``
    until one succeeds, unless ``check`` (a question whose answer is known) finds that the queries are to
    blame; nor is it while a batch takes longer than ``stuck_s``.
    """

    def __init__(
        self,
        *,
        max_batch: int = 128,
        max_queue: int = 1024,
        stuck_s: float = 60,
        max_failures: int = 5,
        check: Callable[[], object] | None = None,
        on_batch: Callable[[int, list[float]], object] | None = None,
    ) -> None:
        self._max_batch, self._max_queue = max_batch, max_queue
        self._stuck_s, self._max_failures = stuck_s, max_failures
        self._check, self._on_batch = check, on_batch
        self._jobs: deque[Job] = deque()
        self._changed = Condition()
        self._closed = False
        self._admitted = 0
        self._gathering: asyncio.AbstractEventLoop | None = None
        self._busy_since: float | None = None
        self._query_s = 0.0
        self.queued = 0
        self.failures = 0
        self._thread = Thread(target=self._work, name="scorer", daemon=True)
        self._thread.start()

    async def submit(
        self,
        score: Callable[[Sequence[QueryT]], Sequence[AnswerT]],
        queries: Sequence[QueryT],
        timeout_s: float = float("inf"),
        size: int | None = None,
    ) -> Scored[AnswerT]:
        """One answer a query. Cancelling it takes the queries out of the queue.

        ``size``: what they count for, where each takes as long as several.
        Raises ``QueueFullError``, ``DeadlineError``, ``ClosedError``, or what ``score`` raises for one of
        these queries alone.
        """
        loop = asyncio.get_running_loop()
        size = len(queries) if size is None else size
        job = Job(score, queries, size, monotonic() + timeout_s, loop, loop.create_future())
        self._admit(job, timeout_s)
        self._gather(loop)
        if timeout_s < float("inf"):
            job.timer = loop.call_later(timeout_s, job.settle, DeadlineError())
        try:
            return await job.future
        finally:
            job.stop_timer()
            self._withdraw(job)

    def close(self, timeout_s: float | None = None) -> bool:
        """Finish what was admitted; nothing more is taken. False if that took longer than ``timeout_s``."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def busy_s(self) -> float:
        """How long the present batch has taken, 0 where there is none."""
        since = self._busy_since
        return 0.0 if since is None else monotonic() - since

    @property
    def trouble(self) -> str | None:
        """Why this thread should be given up, None while it is alive."""
        if not self._thread.is_alive():
            return "the scorer has ended"
        if self.busy_s > self._stuck_s:
            return f"the scorer has been at one batch for more than {self._stuck_s:g} s"
        if self.failures >= self._max_failures:
            return f"the last {self.failures} batches failed"
        return None

    @property
    def delay_s(self) -> float:
        """When what is asked now should have its turn, by the recent pace."""
        return self.queued * self._query_s

    def check_room(self, size: int, timeout_s: float) -> None:
        """Raises ``QueueFullError`` for what would find no room now.

        What cannot be answered in its time is better refused at once than after waiting for it.
        """
        if self.queued + size > self._max_queue or self.delay_s > timeout_s:
            raise QueueFullError(self.delay_s)

    def _admit(self, job: Job, timeout_s: float) -> None:
        with self._changed:
            if self._closed:
                raise ClosedError("no more work is taken")
            if timeout_s <= 0:
                raise DeadlineError
            self.check_room(job.size, timeout_s)
            self._jobs.append(job)
            self.queued += job.size

    def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the thread woken once the event loop has admitted what it has at hand: that goes together."""
        self._admitted += 1
        if self._gathering is not loop:
            self._gathering = loop
            loop.call_soon(self._wake, loop, self._admitted, monotonic() + GATHERED_S)

    def _wake(self, loop: asyncio.AbstractEventLoop, admitted: int, latest: float) -> None:
        """Not in a round of the event loop that has brought more."""
        if admitted < self._admitted and monotonic() < latest:
            loop.call_soon(self._wake, loop, self._admitted, latest)
            return
        self._gathering = None
        with self._changed:
            if self._jobs:
                self._changed.notify()

    def _withdraw(self, job: Job) -> None:
        """Nothing where its batch has begun."""
        with self._changed:
            if job.waiting:
                self._jobs.remove(job)
                self.queued -= job.size

    def _work(self) -> None:
        since: float | None = None  # When the batch before ended, if others were waiting already.
        while batch := self._take():
            self._busy_since = started = monotonic()
            outcomes = self._score(batch)
            self._busy_since = None
            num_queries = sum(job.size for job in batch)
            waits_s = [started - job.admitted for job in batch]
            deliver(_outcomes(batch, outcomes, waits_s))
            if self._on_batch is not None:
                self._on_batch(num_queries, waits_s)
            # From one end to the next: what passes between batches is part of the pace.
            ended = monotonic()
            query_s = (ended - (started if since is None else since)) / num_queries
            self._query_s += (query_s - self._query_s) * (SMOOTHING if self._query_s else 1)
            since = ended if self.queued else None
            del batch, outcomes  # A thread that waits must not keep what they refer to.

    def _take(self) -> list[Job]:
        """The next batch, empty when all is done."""
        batch: list[Job] = []
        size = 0
        with self._changed:
            while not batch:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    return []
                while self._jobs and self._fits(self._jobs[0], batch, size):
                    job = self._jobs.popleft()
                    job.waiting = False
                    self.queued -= job.size
                    if monotonic() < job.deadline:
                        batch.append(job)
                        size += job.size
        return batch

    def _fits(self, job: Job, batch: list[Job], size: int) -> bool:
        return not batch or (size + job.size <= self._max_batch and job.score == batch[0].score)

    def _score(self, batch: list[Job]) -> list[Any]:
        """An answer or an exception for each query."""
        queries = [query for job in batch for query in job.queries]
        outcomes = Trial(batch[0].score).outcomes(queries)
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if len(errors) < len(outcomes) or any(isinstance(error, UserError) for error in errors):
            self.failures = 0
        elif not any(isinstance(error, ScorerEnded) for error in errors):  # That is seen to elsewhere.
            self.failures += 1
            if self.failures >= self._max_failures:
                self._examine()
        return outcomes

    def _examine(self) -> None:
        """Are the queries to blame, or are we?"""
        if self._check is None:
            return
        try:
            self._check()
        except Exception:
            logger.exception("the scorer does not answer what it should know either")
        else:
            self.failures = 0


def _outcomes(
    batch: list[Job], outcomes: list[Any], waits_s: list[float]
) -> Iterator[tuple[Job, Scored[Any] | Exception]]:
    """What becomes of each job, of the outcomes of its queries: one exception spoils the others."""
    start = 0
    for job, wait_s in zip(batch, waits_s, strict=True):
        part = outcomes[start : start + len(job.queries)]
        start += len(part)
        error = next((outcome for outcome in part if isinstance(outcome, Exception)), None)
        yield job, error or Scored(part, wait_s)
