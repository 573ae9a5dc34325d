"""A line to another process: a caller gets the answer to its own question, or an error."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvloop

from momok.service.scorer import line as module
from momok.service.scorer.line import Line, LineLost
from momok.service.scorer.messages import SIZES_BYTES, framed, size_of, taken_apart

Run = Callable[[Any], Any]


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


@contextmanager
def connected(**options: Any) -> Iterator[tuple[Line, Other]]:
    """Within an event loop."""
    here, there = socket.socketpair()
    line, other = Line(here, **options), Other(there)
    try:
        yield line, other
    finally:
        line._lose()
        other.end()


@pytest.fixture(params=[asyncio.run, uvloop.run])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


@pytest.mark.parametrize("piece", [module.RECEIVED_BYTES, 1, 1000])
def test_many_ask_at_once(monkeypatch: pytest.MonkeyPatch, run: Run, piece: int) -> None:
    """Answers come in pieces, several in one, and out of order."""
    monkeypatch.setattr(module, "RECEIVED_BYTES", piece)
    held: list[bytes] = []

    def backwards(words: dict[str, Any], body: bytes) -> bytes:
        held.append(framed(words, body[::-1]))
        return b"".join(reversed(held)) if len(held) == 20 else b""

    async def ask() -> list[tuple[dict[str, Any], bytes]]:
        with connected() as (line, other):
            other.answer = backwards
            other.begin()
            return await asyncio.gather(*(line.ask({"call": n}, bytes([n, 0]) * n) for n in range(20)))

    for n, (words, body) in enumerate(run(ask())):
        assert words["call"] == n
        assert body == (bytes([n, 0]) * n)[::-1]


def test_more_than_the_socket_takes(run: Run) -> None:
    large = bytes(range(256)) * 40_000

    async def ask() -> list[tuple[dict[str, Any], bytes]]:
        with connected() as (line, other):
            work = [asyncio.ensure_future(line.ask({}, body)) for body in (large, b"small", large)]
            await asyncio.sleep(0.05)
            assert other.asked == [], "it is not read yet, and the event loop goes on"
            other.begin()
            return await asyncio.gather(*work)

    assert [body for _, body in run(ask())] == [large, b"small", large]


def test_an_answer_without_a_caller_goes_to_no_other(run: Run) -> None:
    async def ask() -> tuple[bytes, list[bytes]]:
        with connected() as (line, other):
            other.begin()
            given_up = asyncio.ensure_future(line.ask({}, b"given up"))
            await asyncio.sleep(0)
            given_up.cancel()
            return (await line.ask({}, b"mine"))[1], other.asked

    assert run(ask()) == (b"mine", [b"given up", b"mine"])


def test_it_is_closed_while_an_event_loop_listens(run: Run) -> None:
    said: list[dict[str, Any]] = []

    async def serve() -> list[bytes]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        with connected() as (line, other):
            other.answer = lambda words, body: framed(words) if body == b"first" else b""
            other.begin()
            await line.ask({}, b"first")
            asked = asyncio.ensure_future(line.ask({}, b"second"))
            await asyncio.sleep(0.05)
            line.close()
            with pytest.raises(LineLost):
                await asked
            line.close()
            await asyncio.sleep(0.05)
            return other.asked

    assert run(serve()) == [b"first", b"second"]
    assert said == []


@pytest.mark.parametrize("how", ["closed", "nonsense", "no number"])
def test_a_line_that_is_lost(run: Run, how: str) -> None:
    async def ask() -> list[Any]:
        with connected() as (line, other):

            def answer(words: dict[str, Any], body: bytes) -> bytes:
                if how == "closed":
                    other.connection.shutdown(socket.SHUT_RDWR)
                return {"nonsense": b"\x02" + bytes(15) + b"no JSON", "no number": framed({})}.get(how, b"")

            other.answer = answer
            other.begin()
            both = await asyncio.gather(line.ask({}, b"1"), line.ask({}, b"2"), return_exceptions=True)
            return [*both, *await asyncio.gather(line.ask({}, b"later"), return_exceptions=True)]

    assert [type(outcome) for outcome in run(ask())] == [LineLost] * 3


def test_silence_is_told_only_while_a_question_waits(run: Run) -> None:
    async def ask() -> list[int]:
        stuck: list[int] = []
        with connected(stuck_s=0.1, on_stuck=lambda: stuck.append(1)) as (line, other):
            other.answer = lambda words, body: b"" if body == b"unanswered" else framed(words)
            other.begin()
            for _ in range(6):
                await line.ask({}, b"answered")
                await asyncio.sleep(0.04)
            assert stuck == []
            waiting = asyncio.ensure_future(line.ask({}, b"unanswered"))
            while not stuck:
                await asyncio.sleep(0.01)
            waiting.cancel()
        return stuck

    assert run(ask()) == [1]


def test_an_event_loop_lets_go_of_a_line_that_is_lost() -> None:
    async def serve() -> None:
        here, there = socket.socketpair()
        line, other = Line(here), Other(there)
        other.begin()
        left = weakref.ref(line)
        await line.ask({}, b"")
        del line
        other.connection.shutdown(socket.SHUT_RDWR)
        while left() is not None:
            await asyncio.sleep(0.01)
            gc.collect()
        other.end()

    asyncio.run(asyncio.wait_for(serve(), 20))
