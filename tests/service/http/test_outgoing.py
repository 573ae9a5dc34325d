"""What is written in a round of the event loop leaves after it, and before the connection closes."""

from __future__ import annotations

import asyncio
from typing import Any

from momok.service.http.outgoing import HELD_BYTES, Outgoing, Round


class Sent(asyncio.Transport):
    """Notes what reaches the network."""

    def __init__(self, log: list[tuple[str, bytes]], name: str = "a") -> None:
        super().__init__({"peername": name})
        self._log, self._name = log, name
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self._closing, "nothing would be sent"
        if data == b"too much":
            raise MemoryError
        self._log.append((self._name, bytes(data)))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        self._log.append((self._name, b"closed"))

    def abort(self) -> None:
        self._closing = True
        self._log.append((self._name, b"aborted"))


def connections(names: str) -> tuple[list[tuple[str, bytes]], Round, list[Outgoing]]:
    """What reaches the network of connections so named, and their round."""
    log: list[tuple[str, bytes]] = []
    together = Round()
    return log, together, [Outgoing(Sent(log, name), together) for name in names]


def test_pieces_leave_together_at_the_end_of_the_round() -> None:
    async def write() -> None:
        log, _, (first, second) = connections("ab")
        for number in (b"1", b"2"):
            first.write(b"head" + number)
            second.write(b"other" + number)
            first.write(b"body" + number)
            assert len(log) == 2 * (int(number) - 1)
            await asyncio.sleep(0)
            assert log[-2:] == [("a", b"head%bbody%b" % (number, number)), ("b", b"other" + number)]
        assert len(log) == 4

    asyncio.run(write())


def test_what_was_written_is_sent_before_the_connection_closes() -> None:
    async def write() -> None:
        log, _, (connection,) = connections("a")
        connection.write(b"the last")
        connection.close()
        assert connection.is_closing()
        await asyncio.sleep(0)
        assert log == [("a", b"the last"), ("a", b"closed")]

    asyncio.run(write())


def test_much_is_not_held_back() -> None:
    async def write() -> None:
        log, _, (connection,) = connections("a")
        connection.write(b"head")
        connection.write(b"x" * HELD_BYTES)
        assert log == [("a", b"head" + b"x" * HELD_BYTES)]
        connection.write(b"rest")
        await asyncio.sleep(0)
        assert log[1:] == [("a", b"rest")]

    asyncio.run(write())


def test_who_has_left_is_sent_nothing_and_others_are() -> None:
    async def write() -> None:
        log, _, (gone, there) = connections("ab")
        gone.write(b"1")
        there.write(b"2")
        gone.abort()
        await asyncio.sleep(0)
        assert log == [("a", b"aborted"), ("b", b"2")]

    asyncio.run(write())


def test_one_that_cannot_send_does_not_silence_another() -> None:
    async def write() -> None:
        log, _, (failing, other) = connections("ab")
        failing.write(b"too much")
        for text in (b"1", b"2"):
            other.write(text)
            await asyncio.sleep(0)
        assert log == [("a", b"aborted"), ("b", b"1"), ("b", b"2")]

    asyncio.run(write())


def test_who_reads_has_it_sent_before() -> None:
    async def write() -> None:
        log, together, (connection,) = connections("a")
        connection.write(b"1")
        together.end()
        assert log == [("a", b"1")]
        connection.write(b"2")
        await asyncio.sleep(0)
        assert log[1:] == [("a", b"2")]

    asyncio.run(write())


def test_what_is_known_of_a_connection_is_its_transports() -> None:
    assert Outgoing(Sent([], "me"), Round()).get_extra_info("peername") == "me"
    assert Outgoing(Sent([]), Round()).get_extra_info("sslcontext", "none") == "none"
