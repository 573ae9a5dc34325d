"""A line to another process: a caller gets the answer to its own question, or an error."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import uvloop

from momok.service.scorer import line as module
from momok.service.scorer.line import Line, LineLost
from momok.service.scorer.messages import SIZES_BYTES, framed, size_of, taken_apart


class Other:
    """The other end: answers with what it is asked, as ``answer`` says."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.answer: Callable[[dict[str, Any], bytes], bytes] = framed
        self.asked: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(20)
        self.connection.close()

    def _serve(self) -> None:
        with suppress(OSError), self.connection.makefile("rb") as stream:  # The test is over.
            while sizes := stream.read(SIZES_BYTES):
                words, body = taken_apart(sizes + stream.read(size_of(sizes)))
                self.asked.append(body)
                self.connection.sendall(self.answer(words, body))


def connected() -> tuple[Line, Other]:
    here, there = socket.socketpair()
    return Line(here), Other(there)


@pytest.fixture
def ends() -> Iterator[tuple[Line, Other]]:
    line, other = connected()
    yield line, other
    line.close()
    other.end()


@pytest.fixture(params=[asyncio.run, uvloop.run])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    found: Callable[[Any], Any] = request.param
    return found


@pytest.mark.parametrize("piece", [module.RECEIVED_BYTES, 1, 1000])
def test_many_ask_at_once(monkeypatch: pytest.MonkeyPatch, run: Callable[[Any], Any], piece: int) -> None:
    """Answers come in pieces, several in one, and out of order."""
    monkeypatch.setattr(module, "RECEIVED_BYTES", piece)
    line, other = connected()
    held: list[bytes] = []

    def backwards(words: dict[str, Any], body: bytes) -> bytes:
        held.append(framed(words, body[::-1]))
        return b"".join(reversed(held)) if len(held) == 20 else b""

    other.answer = backwards
    other.begin()

    async def ask() -> list[tuple[dict[str, Any], bytes]]:
        return await asyncio.gather(*(line.ask({"call": n}, bytes([n, 0]) * n) for n in range(20)))

    for n, (words, body) in enumerate(run(ask())):
        assert words["call"] == n
        assert body == (bytes([n, 0]) * n)[::-1]
    line.close()
    other.end()


def test_more_than_the_socket_takes(ends: tuple[Line, Other], run: Callable[[Any], Any]) -> None:
    line, other = ends
    large = bytes(range(256)) * 40_000

    async def ask() -> list[tuple[dict[str, Any], bytes]]:
        work = [asyncio.ensure_future(line.ask({}, body)) for body in (large, b"small", large)]
        await asyncio.sleep(0.05)
        assert other.asked == [], "nobody has read it, and the event loop goes on"
        other.begin()
        return await asyncio.gather(*work)

    assert [body for _, body in run(ask())] == [large, b"small", large]


def test_an_answer_that_nobody_waits_for_is_nobody_elses(ends: tuple[Line, Other]) -> None:
    line, other = ends
    other.begin()

    async def ask() -> bytes:
        given_up = asyncio.ensure_future(line.ask({}, b"given up"))
        await asyncio.sleep(0)
        given_up.cancel()
        return (await line.ask({}, b"mine"))[1]

    assert asyncio.run(ask()) == b"mine"
    assert other.asked == [b"given up", b"mine"]


def test_each_event_loop_in_its_turn_and_threads_through_the_one_that_runs(ends: tuple[Line, Other]) -> None:
    line, other = ends
    other.begin()
    assert line.wait(line.ask({}, b"without any"))[1] == b"without any"

    async def serve() -> list[bytes]:
        first = (await line.ask({}, b"here"))[1]
        beside = await asyncio.to_thread(lambda: line.wait(line.ask({}, b"from a thread")))
        return [first, beside[1]]

    assert asyncio.run(serve()) == [b"here", b"from a thread"]
    assert line.wait(line.ask({}, b"after it"))[1] == b"after it"


def test_who_asks_anew_goes_on_with_what_was_half_sent(ends: tuple[Line, Other]) -> None:
    line, other = ends

    async def begin() -> None:
        asked = asyncio.ensure_future(line.ask({}, bytes(10_000_000)))
        await asyncio.sleep(0)
        asked.cancel()

    asyncio.run(begin())
    other.begin()
    assert line.wait(line.ask({}, b"next"))[1] == b"next"
    assert [len(body) for body in other.asked] == [10_000_000, 4]


def test_it_is_closed_while_an_event_loop_listens(
    ends: tuple[Line, Other], run: Callable[[Any], Any]
) -> None:
    line, other = ends
    other.answer = lambda words, body: framed(words) if body == b"first" else b""
    other.begin()
    said: list[dict[str, Any]] = []

    async def serve() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        await line.ask({}, b"first")
        asked = asyncio.ensure_future(line.ask({}, b"second"))
        await asyncio.sleep(0.05)
        line.close()
        with pytest.raises(LineLost):
            await asked
        line.close()
        await asyncio.sleep(0.05)

    run(serve())
    assert said == []
    other.end()
    assert other.asked == [b"first", b"second"], "and the other side has seen the end"


def test_it_does_not_wait_for_its_own_event_loop(ends: tuple[Line, Other]) -> None:
    line, other = ends
    other.begin()

    async def serve() -> None:
        await line.ask({}, b"")
        asking = line.ask({}, b"")
        with pytest.raises(AssertionError, match="wait for itself"):
            line.wait(asking)
        asking.close()

    asyncio.run(serve())


@pytest.mark.parametrize("how", ["closed", "nonsense", "no number"])
def test_a_line_that_is_lost(ends: tuple[Line, Other], run: Callable[[Any], Any], how: str) -> None:
    line, other = ends

    def answer(words: dict[str, Any], body: bytes) -> bytes:
        if how == "closed":
            other.connection.shutdown(socket.SHUT_RDWR)
        return {"nonsense": b"\x02" + bytes(15) + b"no JSON", "no number": framed({})}.get(how, b"")

    other.answer = answer
    other.begin()

    async def ask() -> list[Any]:
        return [*await asyncio.gather(line.ask({}, b"1"), line.ask({}, b"2"), return_exceptions=True)]

    for _ in range(2):  # Also who asks later, in another event loop.
        assert [type(outcome) for outcome in run(ask())] == [LineLost, LineLost]


def test_an_event_loop_lets_go_of_a_line_that_is_lost() -> None:
    line, other = connected()
    other.begin()
    left = weakref.ref(line)

    async def serve(line: Line | None) -> None:
        assert line is not None
        await line.ask({}, b"")
        line = None
        other.connection.shutdown(socket.SHUT_RDWR)
        while left() is not None:
            await asyncio.sleep(0.01)
            gc.collect()

    work = serve(line)
    del line
    asyncio.run(asyncio.wait_for(work, 20))
    other.end()
