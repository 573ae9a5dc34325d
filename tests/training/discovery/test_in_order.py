"""Results come in order, however long each takes, and not many before they are wanted."""

from __future__ import annotations

import threading
from contextlib import closing
from time import sleep

import pytest

from momok.training.discovery.in_order import in_order


@pytest.mark.parametrize("num_threads", [1, 3, 20])
def test_results_come_in_the_order_of_their_items(num_threads: int) -> None:
    def late(item: int) -> int:
        sleep(0.01 * (item % 3 == 0))
        return item * item

    assert list(in_order(late, range(10), num_threads)) == [(item, item * item) for item in range(10)]


def test_calls_are_made_in_as_many_threads_at_a_time() -> None:
    together = threading.Barrier(3, timeout=30)
    begun: list[str] = []
    results = in_order(
        lambda item: together.wait(), range(9), 3, lambda: begun.append(threading.current_thread().name)
    )
    assert sorted(place for _, place in results) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len(set(begun)) == len(begun) == 3


def test_no_more_is_begun_than_is_wanted_soon() -> None:
    taken: list[int] = []
    with closing(in_order(taken.append, range(100), 2)) as results:
        next(results)
    assert len(taken) <= 3


def test_an_error_is_raised_in_its_turn_and_ends_the_rest() -> None:
    made: list[int] = []

    def failing(item: int) -> int:
        if item == 2:
            raise KeyError("two")
        made.append(item)
        return item

    results = in_order(failing, range(50), 2)
    assert [next(results), next(results)] == [(0, 0), (1, 1)]
    with pytest.raises(KeyError, match="two"):
        next(results)
    assert len(made) <= 5
    assert next(results, None) is None


def test_closing_waits_for_what_has_begun() -> None:
    begun, ended = threading.Event(), threading.Event()

    def slow(item: int) -> None:
        if item == 1:
            begun.set()
            sleep(0.2)
            ended.set()

    with closing(in_order(slow, range(9), 1)) as results:
        next(results)
        assert begun.wait(30)
    assert ended.is_set()
