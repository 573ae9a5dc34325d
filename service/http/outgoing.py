"""Outgoing: the sending side of a connection, which sends once a round of the event loop is over.

Uvicorn writes an answer in two pieces, and each piece that is sent wakes its client, which may take longer
than the sending. Here what was written in a round of the event loop leaves together, before more is read of
any client: an answer in one piece, and the answers of a batch one after the other, to clients that the first
of them has woken (docs/log/2026-11-22-null-route.md).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

logger = logging.getLogger("momok.service")

HELD_BYTES = 65_536
"""More than that of one connection is not held back: how fast its client reads should be felt."""


class Round:
    """Connections that have something to send. Of one event loop.

    It sends in the next round, which begins with reading; a reader calls ``end`` first.
    """

    def __init__(self) -> None:
        self._waiting: list[Outgoing] = []

    def add(self, connection: Outgoing) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.end)
        self._waiting.append(connection)

    def end(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            try:
                connection.flush()
            except Exception:  # The others are not to blame.
                logger.exception("a connection is given up")
                connection.abort()


class Outgoing(asyncio.Transport):
    """Stands before the transport of a connection; what has been written before ``close`` is sent."""

    def __init__(self, transport: asyncio.Transport, sent_in: Round) -> None:
        super().__init__()
        self._transport, self._round = transport, sent_in
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._held:
            self._round.add(self)
        self._held.append(bytes(data))
        self._size += len(data)
        if self._size > HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what is held back; nothing where the connection is gone."""
        held, self._held, self._size = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.write(b"".join(held))

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
