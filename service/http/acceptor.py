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
from typing import Any

SPARE = 32
"""Connections above the limit that are accepted to be told so, and for probes."""
PAUSE_S = 0.1
"""After the system had no file for another connection."""

logger = logging.getLogger("momok.service")


class Acceptor:
    """``most`` connections are served; ``SPARE`` beyond are surplus, and the rest wait in the system's queue.
    ``tls_s`` is the time of a TLS handshake."""

    def __init__(self, listener: socket.socket, most: int, tls: ssl.SSLContext | None, tls_s: float) -> None:
        listener.setblocking(False)
        self._listener, self._most = listener, most
        self.tls, self._tls_s = tls, tls_s
        self._open: set[Any] = set()
        self._surplus: set[Any] = set()
        self._room = asyncio.Event()
        self._handshakes: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """The connections that are open, TLS handshakes among them."""
        return len(self._open)

    def is_surplus(self, peer: Any) -> bool:
        return peer in self._surplus

    async def run(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Until cancelled; then nobody listens any more."""
        loop = asyncio.get_running_loop()
        with self._listener:
            while True:
                self._room.clear()
                if len(self._open) >= self._most + SPARE:
                    await self._room.wait()
                    continue
                try:
                    connection, peer = await loop.sock_accept(self._listener)
                except OSError as error:  # Too many files, or a client that has left already.
                    logger.warning("no connection could be accepted: %s", error)
                    await asyncio.sleep(PAUSE_S)
                    continue
                self._opened(peer[:2])
                handshake = loop.create_task(self._serve(connection, peer[:2], protocol))
                self._handshakes.add(handshake)
                handshake.add_done_callback(self._handshakes.discard)

    def closed(self, peer: Any) -> None:
        """The connection of a peer has ended."""
        self._open.discard(peer)
        self._surplus.discard(peer)
        self._room.set()

    def _opened(self, peer: Any) -> None:
        self._open.add(peer)
        if len(self._open) > self._most:
            self._surplus.add(peer)

    async def _serve(
        self, connection: socket.socket, peer: Any, protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        options: dict[str, Any] = {}
        if self.tls is not None:
            options = {"ssl": self.tls, "ssl_handshake_timeout": self._tls_s}
        try:
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection, **options)
        except (OSError, asyncio.CancelledError):  # ssl.SSLError and ConnectionError among them.
            self.closed(peer)
            with suppress(OSError):
                connection.close()
