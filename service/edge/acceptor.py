"""Acceptor: takes connections off the listening socket, as many as there is room for.

An ``asyncio`` server accepts without limit, and counts no connection before its TLS handshake is done.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from momok.service.http.connections import Connections

PAUSE_S = 0.1
"""After the system had no file for another connection."""

logger = logging.getLogger("momok.service")

Make = Callable[[Callable[[], object]], asyncio.Protocol]
"""A protocol that calls what it is given when its connection has ended."""


class Acceptor:
    """``ceiling`` connections are open at a time, TLS handshakes included; others wait in the system's
    queue. A TLS handshake has ``tls_s``."""

    def __init__(self, listener: socket.socket, connections: Connections, ceiling: int, tls_s: float) -> None:
        listener.setblocking(False)
        self._listener, self._connections = listener, connections
        self._ceiling, self._tls_s = ceiling, tls_s
        self._room = asyncio.Event()
        self._handshakes: set[asyncio.Task[None]] = set()

    async def run(self, protocol: Make, tls: ssl.SSLContext | None) -> None:
        """Until cancelled; then the socket is closed."""
        loop = asyncio.get_running_loop()
        with self._listener:
            while True:
                self._room.clear()
                if len(self._connections) >= self._ceiling:
                    await self._room.wait()
                    continue
                try:
                    connection, address = await loop.sock_accept(self._listener)
                except OSError as error:  # Too many files, or a client that has left already.
                    logger.warning("no connection could be accepted: %s", error)
                    await asyncio.sleep(PAUSE_S)
                    continue
                number = self._connections.opened(address[:2])
                handshake = loop.create_task(self._serve(connection, number, protocol, tls))
                self._handshakes.add(handshake)
                handshake.add_done_callback(self._handshakes.discard)

    def _closed(self, number: int) -> None:
        self._connections.closed(number)
        self._room.set()

    async def _serve(
        self,
        connection: socket.socket,
        number: int,
        protocol: Make,
        tls: ssl.SSLContext | None,
    ) -> None:
        ended = partial(self._closed, number)
        handshake: dict[str, Any] = {} if tls is None else {"ssl_handshake_timeout": self._tls_s}
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol(ended), connection, ssl=tls, **handshake
            )
        except (OSError, asyncio.CancelledError):  # ssl.SSLError and ConnectionError among them.
            ended()
            with suppress(OSError):
                connection.close()
