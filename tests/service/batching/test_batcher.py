"""The MicroBatcher with functions in the place of a model: what is scored, when, and with whom."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from inspect import iscoroutinefunction
from itertools import groupby
from time import sleep
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momok.model.errors import UserError
from momok.service.batching import batcher as module
from momok.service.batching.batch import SETTLED
from momok.service.batching.batcher import ClosedError, DeadlineError, MicroBatcher, QueueFullError
from momok.service.batching.job import Scored
from momok.service.contract.errors import DeadlineExceeded
from momok.service.http import scoring
from tests.service.threads import in_thread


class Recorder:
    """Doubles numbers; notes the batches it is given, and waits where it is told to."""

    def __init__(self, poison: Sequence[int] = ()) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.poison = set(poison)
        self.score = in_thread(self._score)

    def _score(self, queries: Sequence[int]) -> list[int]:
        self.batches.append(list(queries))
        self.begun.set()
        assert self.gate.wait(10)
        if bad := self.poison.intersection(queries):
            raise ArithmeticError(f"poison {sorted(bad)}")
        return [2 * query for query in queries]


soon = lru_cache(maxsize=1000)(in_thread)
"""The same for the same function, as a batch has one."""


@pytest.fixture
def make() -> Iterator[Callable[..., MicroBatcher]]:
    made = []

    def build(**options: Any) -> MicroBatcher:
        made.append(MicroBatcher(**options))
        return made[-1]

    yield build
    for batcher in made:
        assert run(batcher.close(10)), "nothing is left to do"


async def submit(
    batcher: MicroBatcher,
    score: Callable[..., Any],
    queries: Sequence[Any],
    timeout_s: float = float("inf"),
    size: int | None = None,
) -> Scored[Any]:
    function = score if iscoroutinefunction(score) else soon(score)
    return await batcher.outcome(batcher.admit(function, queries, timeout_s, size))


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


async def behind(batcher: MicroBatcher, recorder: Recorder, *requests: Sequence[int]) -> list[Any]:
    """What becomes of requests that all wait behind one that holds the thread."""
    recorder.gate.clear()
    first = asyncio.create_task(submit(batcher, recorder.score, [0]))
    while not recorder.begun.is_set():
        await asyncio.sleep(0.001)
    tasks = [asyncio.create_task(submit(batcher, recorder.score, list(queries))) for queries in requests]
    await asyncio.sleep(0.01)
    recorder.gate.set()
    await first
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [result if isinstance(result, BaseException) else result.answers for result in results]


def test_what_waits_is_scored_together_and_split_again(make: Callable[..., MicroBatcher]) -> None:
    recorder, batcher = Recorder(), make(max_batch=4)
    answers = run(behind(batcher, recorder, [1], [2, 3], [4, 5], [6]))
    assert answers == [[2], [4, 6], [8, 10], [12]]
    assert recorder.batches == [[0], [1, 2, 3], [4, 5, 6]]


def test_others_have_their_turn_between_the_answers_of_a_batch(make: Callable[..., MicroBatcher]) -> None:
    recorder, batcher = Recorder(), make()
    turns: list[str] = []

    async def asking(query: int) -> None:
        await submit(batcher, recorder.score, [query])
        turns.append("answered")

    async def others() -> None:
        while turns.count("answered") < 20:
            turns.append("other")
            await asyncio.sleep(0)

    async def together() -> None:
        recorder.gate.clear()
        asked = [asyncio.create_task(asking(query)) for query in range(20)]
        await asyncio.sleep(0.01)
        watching = asyncio.create_task(others())
        recorder.gate.set()
        await asyncio.gather(*asked, watching)

    run(together())
    assert len(recorder.batches) == 1
    runs = [len(list(turn)) for name, turn in groupby(turns) if name == "answered"]
    assert max(runs) == SETTLED


def test_what_is_scored_in_time_is_answered_however_long_answers_take(
    make: Callable[..., MicroBatcher],
) -> None:
    recorder, batcher = Recorder(), make()

    async def asking(query: int) -> None:
        await submit(batcher, recorder.score, [query], timeout_s=0.5)
        sleep(0.05)  # noqa: ASYNC251  The event loop writes the answer: twenty of them take longer than each may.

    async def together() -> list[BaseException | None]:
        recorder.gate.clear()
        asked = [asyncio.create_task(asking(query)) for query in range(20)]
        await asyncio.sleep(0.01)
        recorder.gate.set()
        return [*await asyncio.gather(*asked, return_exceptions=True)]

    assert run(together()) == [None] * 20


def test_what_is_free_waits_for_nobody(make: Callable[..., MicroBatcher]) -> None:
    recorder, batcher = Recorder(), make()

    async def one_by_one() -> None:
        for query in range(3):
            assert (await submit(batcher, recorder.score, [query])).answers == [2 * query]

    run(one_by_one())
    assert recorder.batches == [[0], [1], [2]]


def test_a_request_larger_than_a_batch_goes_alone(make: Callable[..., MicroBatcher]) -> None:
    recorder, batcher = Recorder(), make(max_batch=2)
    run(behind(batcher, recorder, [1], [2, 3, 4], [5]))
    assert recorder.batches == [[0], [1], [2, 3, 4], [5]]


def test_another_function_is_another_batch(make: Callable[..., MicroBatcher]) -> None:
    one, other, batcher = Recorder(), Recorder(), make()

    async def mixed() -> None:
        one.gate.clear()
        tasks = [asyncio.create_task(submit(batcher, one.score, [0]))]
        await asyncio.sleep(0.01)
        for recorder, query in ((one, 1), (one, 2), (other, 3), (one, 4)):
            tasks.append(asyncio.create_task(submit(batcher, recorder.score, [query])))
        await asyncio.sleep(0.01)
        one.gate.set()
        await asyncio.gather(*tasks)

    run(mixed())
    assert one.batches == [[0], [1, 2], [4]]
    assert other.batches == [[3]]


def test_a_full_queue_refuses_and_says_when_to_come_back(make: Callable[..., MicroBatcher]) -> None:
    recorder, batcher = Recorder(), make(max_queue=3)
    results = run(behind(batcher, recorder, [1, 2], [3, 4], [5], [6]))
    assert results[0] == [2, 4]
    assert results[2] == [10]
    assert [type(result) for result in (results[1], results[3])] == [QueueFullError] * 2
    assert isinstance(results[1], QueueFullError) and results[1].retry_after_s >= 0
    assert batcher.queued == 0


def test_a_deadline_answers_while_the_thread_is_busy_and_saves_the_work(
    make: Callable[..., MicroBatcher],
) -> None:
    recorder, batcher = Recorder(), make()

    async def late() -> None:
        recorder.gate.clear()
        first = asyncio.create_task(submit(batcher, recorder.score, [0]))
        await asyncio.sleep(0.01)
        with pytest.raises(DeadlineError):
            await submit(batcher, recorder.score, [1], timeout_s=0.02)
        assert batcher.queued == 0, "its place is free again"
        recorder.gate.set()
        await first

    run(late())
    assert recorder.batches == [[0]]


def test_a_deadline_that_is_past_is_not_even_tried(make: Callable[..., MicroBatcher]) -> None:
    recorder = Recorder()
    with pytest.raises(DeadlineError):
        run(submit(make(), recorder.score, [1], timeout_s=-0.1))
    assert recorder.batches == []


def test_who_would_wait_longer_than_allowed_is_refused_at_once(make: Callable[..., MicroBatcher]) -> None:
    recorder, batcher = Recorder(), make(max_batch=1)

    async def slowly() -> None:
        recorder.gate.clear()
        tasks = [asyncio.create_task(submit(batcher, recorder.score, [query])) for query in range(2)]
        await asyncio.sleep(0.1)
        recorder.gate.set()
        await asyncio.gather(*tasks)
        assert batcher.delay_s == 0
        recorder.gate.clear()
        tasks = [asyncio.create_task(submit(batcher, recorder.score, [query])) for query in range(9)]
        await asyncio.sleep(0.01)
        with pytest.raises(QueueFullError) as refused:
            await submit(batcher, recorder.score, [9], timeout_s=batcher.delay_s / 2)
        assert refused.value.retry_after_s == pytest.approx(batcher.delay_s)
        recorder.gate.set()
        await asyncio.gather(*tasks)

    run(slowly())


def test_a_request_in_work_is_answered_at_its_deadline_too(make: Callable[..., MicroBatcher]) -> None:
    recorder, batcher = Recorder(), make()

    async def late() -> None:
        recorder.gate.clear()
        with pytest.raises(DeadlineError):
            await submit(batcher, recorder.score, [1], timeout_s=0.02)
        recorder.gate.set()
        assert (await submit(batcher, recorder.score, [2])).answers == [4]

    run(late())


def test_cancelled_work_is_not_done(make: Callable[..., MicroBatcher]) -> None:
    recorder, batcher = Recorder(), make()

    async def leave() -> None:
        recorder.gate.clear()
        first = asyncio.create_task(submit(batcher, recorder.score, [0]))
        await asyncio.sleep(0.01)
        gone, stays = (asyncio.create_task(submit(batcher, recorder.score, [query])) for query in (1, 2))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        assert batcher.queued == 1
        recorder.gate.set()
        assert (await stays).answers == [4]
        await first

    run(leave())
    assert recorder.batches == [[0], [2]]


@settings(deadline=None, max_examples=30)
@given(
    poison=st.sets(st.integers(1, 30), max_size=4), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6)
)
def test_only_the_guilty_fail(poison: set[int], sizes: list[int]) -> None:
    recorder, batcher = Recorder(sorted(poison)), MicroBatcher()
    numbers = iter(range(1, 31))
    requests = [[next(numbers) for _ in range(size)] for size in sizes]
    results = run(behind(batcher, recorder, *requests))
    for request, result in zip(requests, results, strict=True):
        if poison.intersection(request):
            assert isinstance(result, ArithmeticError)
            assert len(str(result).split(",")) == 1, "told of one query alone"
        else:
            assert result == [2 * query for query in request]
    assert run(batcher.close(10))


def test_a_function_that_always_fails_is_not_asked_for_ever(make: Callable[..., MicroBatcher]) -> None:
    recorder, batcher = Recorder(range(1, 300)), make(max_batch=300)
    results = run(behind(batcher, recorder, *([query] for query in range(1, 300))))
    assert all(isinstance(result, ArithmeticError) for result in results)
    assert len(recorder.batches) < 60


@pytest.mark.parametrize("error", [MemoryError, "torch"])
def test_short_memory_halves_the_batch_once(make: Callable[..., MicroBatcher], error: Any) -> None:
    import torch

    kind = torch.OutOfMemoryError if error == "torch" else error
    sizes: list[int] = []
    batcher = make()

    def fits(most: int) -> Callable[[Sequence[int]], list[int]]:
        def score(queries: Sequence[int]) -> list[int]:
            sizes.append(len(queries))
            if len(queries) > most:
                raise kind("no room")
            return list(queries)

        return score

    assert run(submit(batcher, fits(4), list(range(8)))).answers == list(range(8))
    assert sizes == [8, 4, 4]
    sizes.clear()
    with pytest.raises(kind):
        run(submit(batcher, fits(3), list(range(8))))
    assert sizes == [8, 4, 4], "once"


def test_answers_of_another_number_are_a_failure(make: Callable[..., MicroBatcher]) -> None:
    with pytest.raises(AssertionError, match="one answer a query"):
        run(submit(make(), lambda queries: [], [1, 2]))


def test_a_coroutine_function_needs_no_thread(make: Callable[..., MicroBatcher]) -> None:
    batcher, batches = make(), []

    async def score(queries: Sequence[int]) -> list[int]:
        batches.append(list(queries))
        await asyncio.sleep(0.02)
        if 3 in queries:
            raise ArithmeticError("poison")
        return [2 * query for query in queries]

    async def together() -> list[Any]:
        first = asyncio.create_task(submit(batcher, score, [0]))
        await asyncio.sleep(0.01)
        assert batcher.busy_s > 0
        rest = [asyncio.create_task(submit(batcher, score, [query])) for query in (1, 2, 3, 4)]
        return [*await asyncio.gather(first, *rest, return_exceptions=True)]

    results = run(together())
    assert [r.answers if isinstance(r, Scored) else type(r) for r in results] == [
        [0], [2], [4], ArithmeticError, [8],
    ]  # fmt: skip
    assert batches == [[0], [1, 2, 3, 4], [1, 2], [3, 4], [3], [4]]
    assert "scorer" not in [thread.name for thread in threading.enumerate()]


class Slow:
    """Answers queries in batches, one after the other, each when it is told to."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []
        self.steps = asyncio.Semaphore(0)
        self._turn = asyncio.Lock()

    async def score(self, queries: Sequence[int]) -> list[int]:
        self.sent.append(list(queries))
        async with self._turn:
            await self.steps.acquire()
        return [2 * query for query in queries]


def test_full_batches_are_sent_ahead_and_no_others(make: Callable[..., MicroBatcher]) -> None:
    waits: list[list[float]] = []
    batcher = make(max_batch=2, on_batch=lambda _, waits_s: waits.append(waits_s))

    async def work() -> list[list[int]]:
        slow = Slow()
        asked = [asyncio.create_task(submit(batcher, slow.score, [query])) for query in range(3)]
        await asyncio.sleep(0.01)
        assert slow.sent == [[0, 1]], "the third would go alone"
        asked += [asyncio.create_task(submit(batcher, slow.score, [query])) for query in range(3, 12)]
        await asyncio.sleep(0.05)
        assert slow.sent == [[0, 1], [2, 3]], "two at a time"
        assert batcher.queued == 8
        slow.steps.release()
        await asyncio.sleep(0.01)
        assert slow.sent[2:] == [[4, 5]]
        assert batcher.delay_s == pytest.approx(8 * batcher._query_s), "what was sent ahead waits too"
        assert 0 < batcher.busy_s < 0.04, "of the batch whose turn it is"
        for _ in range(9):
            slow.steps.release()
        return [(await task).answers for task in asked]

    assert run(work()) == [[2 * query] for query in range(12)]
    assert batcher.queued == 0 and batcher.busy_s == 0
    assert len(waits) == 6
    assert min(waits[1]) > 0.04, "what is sent ahead still waits for its turn"


def test_as_many_full_batches_go_ahead_as_are_done_soon(
    make: Callable[..., MicroBatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AHEAD_S", 0.07)
    batcher = make(max_batch=2)

    async def sent(pace_s: float) -> int:
        batcher._query_s = pace_s
        slow = Slow()
        asked = [asyncio.create_task(submit(batcher, slow.score, [query])) for query in range(21)]
        await asyncio.sleep(0.01)
        found = len(slow.sent)
        for _ in range(11):
            slow.steps.release()
        await asyncio.gather(*asked)
        return found

    assert run(sent(0.01)) == 4, "8 queries take longer than that"
    assert run(sent(1.0)) == 2, "one at least"
    assert run(sent(0.0)) == 2, "where the pace is not known"


def test_another_function_is_not_sent_ahead(make: Callable[..., MicroBatcher]) -> None:
    batcher = make(max_batch=2)

    async def work() -> None:
        one, other = Slow(), Slow()
        asked = [asyncio.create_task(submit(batcher, one.score, [query])) for query in range(2)]
        await asyncio.sleep(0.01)
        asked += [asyncio.create_task(submit(batcher, other.score, [query])) for query in range(4)]
        asked += [asyncio.create_task(submit(batcher, one.score, [query])) for query in range(2, 6)]
        await asyncio.sleep(0.01)
        assert (one.sent, other.sent) == ([[0, 1]], [])
        one.steps.release()
        await asyncio.sleep(0.01)
        assert (one.sent, other.sent) == ([[0, 1]], [[0, 1], [2, 3]])
        for slow in (one, other):
            for _ in range(4):
                slow.steps.release()
        await asyncio.gather(*asked)

    run(work())


def test_a_batch_sent_ahead_fails_for_itself(make: Callable[..., MicroBatcher]) -> None:
    batcher = make(max_batch=2)

    async def score(queries: Sequence[int]) -> list[int]:
        await asyncio.sleep(0.005)
        if 2 in queries:
            raise ArithmeticError("poison")
        return list(queries)

    async def work() -> list[Any]:
        asked = [asyncio.create_task(submit(batcher, score, [query])) for query in range(8)]
        return [*await asyncio.gather(*asked, return_exceptions=True)]

    results = run(work())
    assert [type(result) for result in results] == [Scored] * 2 + [ArithmeticError] + [Scored] * 5


def test_a_batch_that_is_halved_is_timed_from_its_own_beginning(make: Callable[..., MicroBatcher]) -> None:
    """Its halves come after the batch that was sent ahead, which ends first."""
    batcher = make(max_batch=2, stuck_s=0.15)
    turn = asyncio.Lock()

    async def score(queries: Sequence[int]) -> list[int]:
        async with turn:
            await asyncio.sleep(0.1)
        if 0 in queries:
            raise ArithmeticError("poison")
        return list(queries)

    async def work() -> None:
        asked = [asyncio.create_task(submit(batcher, score, [query])) for query in range(8)]
        troubles = set()
        while not asked[0].done():
            troubles.add(batcher.trouble)
            await asyncio.sleep(0.01)
        assert any(trouble is not None and "at one batch" in trouble for trouble in troubles)
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(results[1], Scored)
        assert results[1].wait_s < 0.05, "it has not waited for what it took itself"

    run(work())


def test_the_check_is_asked_when_nothing_else_is(make: Callable[..., MicroBatcher]) -> None:
    """Who is asked from a thread must not be asked from the event loop too."""
    under_way, together = 0, []

    async def score(queries: Sequence[int]) -> list[int]:
        nonlocal under_way
        under_way += 1
        await asyncio.sleep(0.01 if min(queries) < 2 else 0.1)
        under_way -= 1
        if min(queries) < 2:
            raise ArithmeticError("poison")
        return list(queries)

    batcher = make(max_batch=2, max_failures=1, check=lambda: together.append(under_way))

    async def work() -> list[Any]:
        asked = [asyncio.create_task(submit(batcher, score, [query])) for query in range(8)]
        return [*await asyncio.gather(*asked, return_exceptions=True)]

    results = run(work())
    assert [type(result) for result in results] == [ArithmeticError] * 2 + [Scored] * 6
    assert together and not any(together)
    assert batcher.trouble is None


def test_a_request_of_nothing_is_answered(make: Callable[..., MicroBatcher]) -> None:
    assert run(submit(make(), Recorder().score, [], timeout_s=20)).answers == []


def test_what_is_admitted_in_the_same_moment_goes_together(make: Callable[..., MicroBatcher]) -> None:
    recorder, batcher = Recorder(), make()

    async def together() -> None:
        await asyncio.gather(*(submit(batcher, recorder.score, [query]) for query in range(9)))

    run(together())
    assert recorder.batches == [list(range(9))]


def test_what_is_admitted_as_it_closes_is_finished(make: Callable[..., MicroBatcher]) -> None:
    batcher, recorder = make(), Recorder()

    async def together() -> Any:
        job = batcher.admit(recorder.score, [4])
        assert await batcher.close(10)
        assert job.future.done(), "before the queue was looked at"
        return await batcher.outcome(job)

    assert run(together()).answers == [8]


@pytest.mark.parametrize("how", ["answered", "failed", "late", "gone"])
def test_nothing_keeps_what_has_answered(
    make: Callable[..., MicroBatcher], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a bundle that serves no more would stay until garbage is looked for."""
    monkeypatch.setattr(scoring, "WATCH_AFTER_S", 0.01)
    batcher = make()

    class Owner:
        async def score(self, queries: Sequence[int]) -> list[int]:
            await asyncio.sleep(0.1)
            if how == "failed":
                raise ArithmeticError
            return list(queries)

    async def receive() -> Any:
        if how != "gone":
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def ask(owner: Owner) -> None:
        with suppress(ArithmeticError, DeadlineExceeded, scoring.ClientGone):
            await scoring.score(batcher, receive, owner.score, [1], 0.05 if how == "late" else 20)

    async def asked_once() -> weakref.ref[Owner]:
        owner = Owner()
        await ask(owner)
        await asyncio.sleep(0.15)
        return weakref.ref(owner)

    async def left() -> Any:
        kept = await asked_once()
        await asyncio.sleep(0.01)
        return kept()

    gc.collect()
    gc.disable()
    try:
        assert run(left()) is None
    finally:
        gc.enable()


def test_close_finishes_what_was_admitted(make: Callable[..., MicroBatcher]) -> None:
    recorder, batcher = Recorder(), make()

    async def closing() -> None:
        recorder.gate.clear()
        tasks = [asyncio.create_task(submit(batcher, recorder.score, [query])) for query in range(3)]
        await asyncio.sleep(0.01)
        closed = asyncio.create_task(batcher.close(10))
        await asyncio.sleep(0.01)
        with pytest.raises(ClosedError):
            await submit(batcher, recorder.score, [9])
        recorder.gate.set()
        assert [(await task).answers for task in tasks] == [[0], [2], [4]]
        assert await closed

    run(closing())


def test_closing_gives_up_on_a_thread_that_is_stuck() -> None:
    recorder, batcher = Recorder(), MicroBatcher()

    async def stuck() -> None:
        recorder.gate.clear()
        task = asyncio.create_task(submit(batcher, recorder.score, [1]))
        await asyncio.sleep(0.01)
        assert not await batcher.close(0.02)
        recorder.gate.set()
        await task

    run(stuck())


def test_repeated_failure_is_trouble_until_an_answer(make: Callable[..., MicroBatcher]) -> None:
    recorder, batcher = Recorder(poison=[1]), make(max_failures=3)
    for expected in (None, None, "the last 3 batches failed"):
        with pytest.raises(ArithmeticError):
            run(submit(batcher, recorder.score, [1]))
        assert batcher.trouble == expected
    run(submit(batcher, recorder.score, [2]))
    assert batcher.trouble is None


def test_queries_that_are_to_blame_are_no_trouble(make: Callable[..., MicroBatcher]) -> None:
    recorder = Recorder(poison=[1])
    batcher = make(max_failures=3, check=lambda: recorder.score([7]))
    for _ in range(10):
        with pytest.raises(ArithmeticError):
            run(submit(batcher, recorder.score, [1]))
        assert batcher.trouble is None
    recorder.poison.add(7)
    for _ in range(3):
        with pytest.raises(ArithmeticError):
            run(submit(batcher, recorder.score, [1]))
    assert batcher.trouble is not None


def test_what_a_user_can_mend_is_no_trouble(make: Callable[..., MicroBatcher]) -> None:
    batcher = make(max_failures=2)

    def refuse(queries: Sequence[None]) -> list[None]:
        raise UserError("ask otherwise")

    for _ in range(4):
        with pytest.raises(UserError):
            run(submit(batcher, refuse, [None]))
    assert batcher.trouble is None


def test_a_batch_that_does_not_end_is_trouble(make: Callable[..., MicroBatcher]) -> None:
    recorder, batcher = Recorder(), make(stuck_s=0.01)

    async def stuck() -> None:
        recorder.gate.clear()
        task = asyncio.create_task(submit(batcher, recorder.score, [1]))
        while batcher.trouble is None:
            await asyncio.sleep(0.002)
        assert "at one batch" in batcher.trouble
        recorder.gate.set()
        await task
        assert batcher.trouble is None

    run(stuck())


def test_each_batch_is_reported_with_its_waits(make: Callable[..., MicroBatcher]) -> None:
    reports: list[tuple[int, int]] = []
    batcher = make(on_batch=lambda size, waits_s: reports.append((size, len(waits_s))))
    run(behind(batcher, Recorder(), [1, 2], [3]))
    assert reports == [(1, 1), (3, 2)]


def test_long_turns_count_for_what_they_take(make: Callable[..., MicroBatcher]) -> None:
    """One turn of sixty queries is no measure for a single one, and fills the queue as sixty do."""
    batcher = make(max_queue=100)
    go = threading.Event()

    def turn(queries: Sequence[None]) -> list[None]:
        assert go.wait(20)
        sleep(0.06)
        return [None]

    async def work() -> None:
        first = asyncio.create_task(submit(batcher, turn, [None], size=60))
        while batcher.busy_s == 0:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(submit(batcher, turn, [None], size=60))
        await asyncio.sleep(0.01)
        assert batcher.queued == 60
        with pytest.raises(QueueFullError):
            await submit(batcher, turn, [None], size=60)
        go.set()
        await asyncio.gather(first, second)

    run(work())
    assert batcher.queued == 0
    assert batcher._query_s < 0.06


def test_lanes_score_batches_side_by_side(make: Callable[..., MicroBatcher]) -> None:
    batcher = make(lanes=2, max_batch=2)
    at_work: list[int] = []
    most: list[int] = []
    go = asyncio.Event()

    async def score(queries: Sequence[int]) -> list[int]:
        at_work.append(len(queries))
        most.append(len(at_work))
        await go.wait()
        at_work.pop()
        return [2 * query for query in queries]

    async def ask() -> list[list[int]]:
        tasks = [asyncio.create_task(submit(batcher, score, [query, query])) for query in range(2)]
        await asyncio.sleep(0.05)
        assert len(at_work) == 2, "one in each lane"
        go.set()
        return [scored.answers for scored in await asyncio.gather(*tasks)]

    assert run(ask()) == [[0, 0], [2, 2]]
    assert max(most) == 2
