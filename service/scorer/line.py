"""Line: questions to another process over a socket, and its answers, told apart by their numbers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from itertools import count

from momok.service.scorer.messages import SIZES_BYTES, Message, Words, framed, size_of, taken_apart

logger = logging.getLogger("momok.service")

RECEIVED_BYTES = 1 << 18
"""At a time: most answers come in one piece. Room for them is made once, as making it takes longer."""


class LineLost(Exception):
    """The other side has ended, or sends no messages."""


class Line:
    """Of the running event loop, which listens from now on. ``on_stuck`` is called where questions wait and
    no answer has come for ``stuck_s``.

    An answer whose caller has stopped waiting is dropped when it comes.
    """

    def __init__(
        self,
        connection: socket.socket,
        stuck_s: float = float("inf"),
        on_stuck: Callable[[], object] = lambda: None,
    ) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._stuck_s, self._on_stuck = stuck_s, on_stuck
        self._timer: asyncio.TimerHandle | None = None
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._unsent, self._received = bytearray(), bytearray()
        self._room = memoryview(bytearray(RECEIVED_BYTES))
        self._lost = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection, self._readable)

    async def ask(self, words: Words, body: bytes) -> Message:
        """Raises ``LineLost``."""
        if self._lost:
            raise LineLost
        number = next(self._numbers)
        future: asyncio.Future[Message] = self._loop.create_future()
        self._asked[number] = future
        if self._timer is None:
            self._watch()
        try:
            self._send(framed(words | {"number": number}, body))
            return await future
        finally:
            del self._asked[number]
            if not self._asked:
                self._watch()

    def close(self) -> None:
        """From any thread."""
        try:
            self._loop.call_soon_threadsafe(self._lose)
        except RuntimeError:  # The event loop has ended meanwhile.
            self._socket.close()

    def _watch(self) -> None:
        """From now on, as long as a question waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._asked and self._stuck_s < float("inf"):
            self._timer = self._loop.call_later(self._stuck_s, self._on_stuck)

    def _send(self, message: bytes) -> None:
        if self._unsent:
            self._unsent += message
        elif rest := message[self._taken(message) :]:
            self._unsent += rest
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        del self._unsent[: self._taken(self._unsent)]
        if not self._unsent:
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
        except Exception:  # Of bytes that are no message; the next would be none either.
            logger.exception("the line to another process is given up")
            size = 0
        if size:
            self._watch()
        else:
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
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(LineLost())
