"""What is made ahead is what would be made in turn, and nobody waits for a thread that has not begun."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Generator, Iterator
from contextlib import suppress
from threading import Event, current_thread

import numpy as np
import pytest
import torch

from momok.model.retrieval import matmul as layout
from momok.model.retrieval.ahead import Ahead, T
from momok.model.retrieval.matmul import Layout, spaces_of
from momok.model.retrieval.scan import Scan
from momok.model.retrieval.selection import Selection
from momok.model.retrieval.table import EntityTable
from momok.model.scores import Branch, Decision

WAIT_S = 20.0


@pytest.mark.parametrize("number", [0, 1, 2, 7])
def test_all_come_in_order(number: int) -> None:
    ahead = Ahead()
    for _ in range(50):
        assert list(ahead(iter(range(number)))) == list(range(number))


def test_the_next_is_made_while_one_is_used() -> None:
    begun = Event()

    def items() -> Iterator[str]:
        yield current_thread().name
        begun.set()
        yield current_thread().name

    given = Ahead()(items())
    first = next(given)
    assert begun.wait(WAIT_S), "nobody has asked for it yet"
    assert first == current_thread().name != next(given)


def test_a_thread_that_has_not_begun_is_not_waited_for() -> None:
    ahead, begun, end = Ahead(), Event(), Event()

    def slow() -> Iterator[int]:
        yield 0
        begun.set()
        end.wait(WAIT_S)
        yield 1

    occupied = ahead(slow())
    next(occupied)
    assert begun.wait(WAIT_S)
    try:
        assert list(ahead(iter(range(5)))) == list(range(5)), "while the thread is at something else"
    finally:
        end.set()
    assert list(occupied) == [1]


def test_what_is_raised_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise MemoryError("no room")

    ahead = Ahead()
    given = ahead(items())
    assert [next(given), next(given)] == [0, 1]
    with pytest.raises(MemoryError, match="no room"):
        next(given)
    assert list(ahead(iter([7, 8]))) == [7, 8], "the thread goes on"


def test_what_was_raised_is_not_kept() -> None:
    """Out of memory: what asked for too much must be gone before less is asked for."""
    ahead, begun = Ahead(), Event()

    def items() -> Iterator[int]:
        yield 0
        begun.set()
        raise MemoryError("no room")

    def use() -> weakref.ref[Ahead]:
        held = Ahead()
        begun.clear()
        with suppress(MemoryError):
            for _ in ahead(items()):
                assert begun.wait(WAIT_S)
        return weakref.ref(held)

    gc.disable()
    try:
        assert [use()() for _ in range(20)] == [None] * 20
    finally:
        gc.enable()


def test_whoever_leaves_leaves_nothing_to_make() -> None:
    ahead, end, made = Ahead(), Event(), []

    def slow() -> Iterator[int]:
        yield 0
        end.wait(WAIT_S)
        yield 1

    def items() -> Iterator[int]:
        for number in range(3):
            made.append(number)
            yield number

    occupied = ahead(slow())
    next(occupied)
    left = ahead(items())
    next(left)
    left.close()
    end.set()
    assert list(occupied) == [1]
    assert list(ahead(iter([1, 2]))) == [1, 2], "after all that was asked before"
    assert made == [0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("decision", ["sum", "mean_sigmoid"])
def test_a_scan_finds_the_same(
    dtype: torch.dtype, decision: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(1)
    branches = [Branch("a", 6), Branch("b", 5)]
    vectors = {b.name: random.normal(size=(5000, b.width)).astype(np.float32) for b in branches}
    table = EntityTable(branches, vectors)
    monkeypatch.setitem(layout.CELLS, "cpu", 1)  # The least: five tiles.
    read = Layout(table, spaces_of(table, decision), dtype)
    query_BX = random.normal(size=(40, 11)).astype(np.float32)
    selections = [Selection(10, np.sort(random.choice(5000, 30, replace=False))) for _ in range(40)]
    assert len(list(read.tiles(torch.from_numpy(query_BX)))) == 5
    heard: list[object] = []

    class Heard(Ahead):
        def __call__(self, items: Iterator[T]) -> Generator[T, None, None]:
            heard.append(items)
            return super().__call__(items)

    alone = Scan(table, decision, read).propose(query_BX, selections)
    scan = Scan(table, decision, read, ahead=Heard())
    helped = scan.propose(query_BX, selections)
    assert len(heard) == 1
    for name in ("rows", "entities", "ceilings"):
        assert np.array_equal(getattr(helped, name), getattr(alone, name)), name
    monkeypatch.undo()
    scan.propose(query_BX, selections)
    assert len(heard) == 1, "nothing comes after the only tile"
