"""MicroBatcher: what scores is given batches of whatever waits when it is free.

It knows queries and functions that answer lists of them; not what they are, nor their callers. Requests whose
function is the same are scored together, in the order in which they came.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import islice
from time import monotonic
from typing import Any, TypeVar

from momok.service.batching.batch import Batch
from momok.service.batching.health import Health
from momok.service.batching.job import Job, Scored
from momok.service.batching.trial import Trial

QueryT = TypeVar("QueryT")
AnswerT = TypeVar("AnswerT")

Score = Callable[[Sequence[QueryT]], Awaitable[Sequence[AnswerT]]]
"""Answers queries, each with one answer."""

SMOOTHING = 0.2
"""Weight of the last batch in the mean time of a query."""

GATHERED_S = 1e-3
"""How long rounds of the event loop may go on to bring more before the first batch is made."""

AHEAD_S = 0.25
"""So far ahead full batches are sent, by the recent pace, and one at least: where the event loop has hundreds
of requests to refuse, it is a while before it sees that one is done and could send the next. What is sent
cannot be withdrawn, so no more than that."""


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
    """Of one event loop. ``max_batch`` queries are scored together at the most, except where one request has
    more; ``lanes`` batches are scored at a time.

    ``max_queue`` counts the queries that wait. ``on_batch(num_queries, waits_s)`` is called for each batch.
    After ``max_failures`` batches in a row without one answer it is not ``alive`` until one succeeds, unless
    ``check`` (a question whose answer is known) finds that the queries are to blame; nor
    is it while a batch takes longer than ``stuck_s``.
    """

    def __init__(
        self,
        *,
        lanes: int = 1,
        max_batch: int = 128,
        max_queue: int = 1024,
        stuck_s: float = 60,
        max_failures: int = 5,
        check: Callable[[], Awaitable[object]] | None = None,
        on_batch: Callable[[int, list[float]], object] | None = None,
    ) -> None:
        self._lanes, self._max_batch, self._max_queue = lanes, max_batch, max_queue
        self._stuck_s, self._on_batch = stuck_s, on_batch
        self._jobs: deque[Job] = deque()
        self._sent: deque[Batch] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gathering = self._closed = False
        self._health = Health(max_failures, check)
        self._admitted = 0
        self._query_s = 0.0
        self.queued = 0

    def admit(
        self,
        score: Score[QueryT, AnswerT],
        queries: Sequence[QueryT],
        timeout_s: float = float("inf"),
        size: int | None = None,
    ) -> Job:
        """Work for ``outcome``; ``size``: what its queries count for, where each takes as long as several.

        Raises ``QueueFullError``, ``DeadlineError``, ``ClosedError``.
        """
        if self._closed:
            raise ClosedError("no more work is taken")
        if timeout_s <= 0:
            raise DeadlineError
        loop = asyncio.get_running_loop()
        size = len(queries) if size is None else size
        self.check_room(size, timeout_s)
        job = Job(score, queries, size, monotonic() + timeout_s, loop.create_future())
        self._jobs.append(job)
        self._admitted += 1
        self.queued += size
        if timeout_s < float("inf"):
            job.timer = loop.call_later(timeout_s, job.settle, DeadlineError())
        if self._sent:
            self._send()
        elif not self._gathering:
            self._gathering = True
            loop.call_soon(self._gather, monotonic() + GATHERED_S, self._admitted)
        return job

    async def outcome(self, job: Job) -> Scored[Any]:
        """One answer a query. Cancelling it takes the queries out of the queue, where they are not sent yet.

        Raises ``DeadlineError``, what the job was settled with, or what its function raises for one of its
        queries alone.
        """
        try:
            return await job.future
        finally:
            job.stop_timer()
            self._withdraw(job)
            del job  # An error that goes through here would keep it, and it the error, and what scores.

    async def close(self, timeout_s: float | None = None) -> bool:
        """Finish what was admitted; nothing more is taken. False if that took longer than ``timeout_s``."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._tasks or self._gathering:
                    await (asyncio.wait(self._tasks) if self._tasks else asyncio.sleep(0))
        return not self._tasks

    @property
    def busy_s(self) -> float:
        """How long the present batch has taken, 0 where there is none."""
        return monotonic() - self._sent[0].began if self._sent else 0.0

    @property
    def trouble(self) -> str | None:
        """Why what scores should be given up, None while it is alive."""
        if self.busy_s > self._stuck_s:
            return f"the scorer has been at one batch for more than {self._stuck_s:g} s"
        return self._health.trouble

    @property
    def delay_s(self) -> float:
        """When what is asked now should have its turn, by the recent pace."""
        ahead = sum(batch.size for batch in islice(self._sent, self._lanes, None))
        return (self.queued + ahead) * self._query_s / self._lanes

    def check_room(self, size: int, timeout_s: float) -> None:
        """Raises ``QueueFullError`` for what would find no room now.

        What cannot be answered in its time is better refused at once than after waiting for it.
        """
        if self.queued + size > self._max_queue or self.delay_s > timeout_s:
            raise QueueFullError(self.delay_s)

    def _withdraw(self, job: Job) -> None:
        """Nothing where its batch has begun."""
        if job.waiting:
            self._jobs.remove(job)
            self._leave(job)

    def _leave(self, job: Job) -> None:
        job.waiting = False
        self.queued -= job.size

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _gather(self, latest: float, admitted: int) -> None:
        """What the event loop has at hand goes together: sends once a round of it has brought no more."""
        if admitted < self._admitted and monotonic() < latest:
            asyncio.get_running_loop().call_soon(self._gather, latest, self._admitted)
        else:
            self._gathering = False
            self._send()

    def _send(self) -> None:
        """The next batch where none is under way, and those that go ahead."""
        while self._jobs and (self._is_free or self._goes_ahead(self._jobs[0])):
            if jobs := self._take():
                self._sent.append(Batch(jobs))
                self._begin(self._score_batch(self._sent[-1]))

    @property
    def _is_free(self) -> bool:
        """Whether a batch would be scored at once; the golden queries are asked alone."""
        return not self._sent or (len(self._sent) < self._lanes and not self._health.examining)

    def _goes_ahead(self, job: Job) -> bool:
        """Whether a batch that begins with it is sent while others are under way: one that would be full."""
        if self._health.examining or self.queued < self._max_batch or job.score != self._sent[-1].score:
            return False
        pace_s = self._query_s / self._lanes
        return (
            len(self._sent) == self._lanes or 0 < pace_s * sum(batch.size for batch in self._sent) < AHEAD_S
        )

    async def _score_batch(self, batch: Batch) -> None:
        try:
            outcomes = await Trial(batch.score).outcomes(batch.queries)
            if self._health.doubts(outcomes):
                await self._health.examine(self._others_done)
        except BaseException:
            batch.give_up()
            raise
        finally:
            ended = monotonic()
            was_scored = batch in list(islice(self._sent, self._lanes))
            self._sent.remove(batch)
            if was_scored and len(self._sent) >= self._lanes:  # A halved one may end after the one behind it.
                self._sent[self._lanes - 1].began = ended
        batch.deliver(outcomes)
        self._send()
        query_s = (ended - batch.began) / max(batch.size, 1)
        self._query_s += (query_s - self._query_s) * (SMOOTHING if self._query_s else 1)
        if self._on_batch is not None:
            self._on_batch(batch.size, batch.waits_s)

    def _take(self) -> list[Job]:
        """Of the next batch, empty when nothing waits."""
        jobs: list[Job] = []
        size = 0
        while self._jobs and self._fits(self._jobs[0], jobs, size):
            job = self._jobs.popleft()
            self._leave(job)
            if monotonic() < job.deadline:
                jobs.append(job)
                size += job.size
        return jobs

    def _fits(self, job: Job, jobs: list[Job], size: int) -> bool:
        return not jobs or (size + job.size <= self._max_batch and job.score == jobs[0].score)

    async def _others_done(self) -> None:
        """The jobs under way, without their callers."""
        if others := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(others)
