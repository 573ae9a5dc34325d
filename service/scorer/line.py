"""Line: questions to another process over a socket, and its answers, told apart by their numbers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from itertools import count
from typing import Any, TypeVar

from momok.service.scorer.messages import SIZES_BYTES, Message, Words, framed, size_of, taken_apart

ResultT = TypeVar("ResultT")

logger = logging.getLogger("momok.service")

RECEIVED_BYTES = 1 << 18
"""At a time: most answers come in one piece. Room for them is made once, as making it takes longer."""
UNASKED = 0
"""The number of what the other side says first."""


class LineLost(Exception):
    """The other side does not speak any more."""


class Line:
    """Of one event loop at a time, which the reader stays with from the first question on: to begin and end
    listening for each would cost more than the question.

    An answer whose caller has stopped waiting is dropped when it comes.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._loop: asyncio.AbstractEventLoop | None = None
        self._numbers = count(UNASKED + 1)
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._unsent, self._received = bytearray(), bytearray()
        self._room = memoryview(bytearray(RECEIVED_BYTES))
        self._lost = False

    def wait(self, asking: Coroutine[Any, Any, ResultT]) -> ResultT:
        """What asks here, run from a thread that has no event loop: in the one that listens, if any does.

        From one thread at a time.
        """
        assert asyncio._get_running_loop() is None, "it would wait for itself"
        if self._loop is not None and self._loop.is_running():
            return asyncio.run_coroutine_threadsafe(asking, self._loop).result()
        return asyncio.run(asking)

    async def ask(self, words: Words, body: bytes) -> Message:
        """Raises ``LineLost``."""
        number = next(self._numbers)
        return await self._answer(number, framed(words | {"number": number}, body))

    async def listen(self) -> Message:
        """What the other side says first, before it is asked. Raises ``LineLost``."""
        return await self._answer(UNASKED, b"")

    def close(self) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # The event loop has ended meanwhile, and let go of everything.
            if self._loop is not None and self._loop.is_running():
                self._loop.call_soon_threadsafe(self._lose)
            else:
                self._lose()

    async def _answer(self, number: int, message: bytes) -> Message:
        if self._lost:
            raise LineLost
        loop = self._attached()
        future: asyncio.Future[Message] = loop.create_future()
        self._asked[number] = future
        try:
            self._send(loop, message)
            return await future
        finally:
            del self._asked[number]

    def _attached(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            loop.add_reader(self._socket, self._readable)
            if self._unsent:
                loop.add_writer(self._socket, self._writable)
        return loop

    def _send(self, loop: asyncio.AbstractEventLoop, message: bytes) -> None:
        if self._unsent:
            self._unsent += message
        elif rest := message[self._taken(message) :]:
            self._unsent += rest
            loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        del self._unsent[: self._taken(self._unsent)]
        if not self._unsent and self._loop is not None:
            self._loop.remove_writer(self._socket)

    def _taken(self, message: bytes | bytearray) -> int:
        """How many of these bytes have been sent."""
        try:
            return self._socket.send(message)
        except BlockingIOError:
            return 0
        except OSError:  # Reading finds out.
            return len(message)

    def _readable(self) -> None:
        try:
            size = self._socket.recv_into(self._room)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        try:
            self._received += self._room[:size]
            for message in self._messages():
                asked = self._asked.get(message[0]["number"])
                if asked is not None and not asked.done():
                    asked.set_result(message)
        except Exception:  # Of what is no message; the next would be none either.
            logger.exception("the line to another process is given up")
            size = 0
        if not size:
            self._lose()

    def _messages(self) -> Iterator[Message]:
        """Those that are whole."""
        received = self._received
        while len(received) >= SIZES_BYTES and len(received) >= (end := SIZES_BYTES + size_of(received)):
            message = taken_apart(received)
            del received[:end]
            yield message

    def _lose(self) -> None:
        if self._lost:
            return
        self._lost = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        self._socket.close()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(LineLost())
