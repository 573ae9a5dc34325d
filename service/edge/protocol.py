"""The server's side of a connection: uvicorn's, with deadlines and a limit on headers.

Uvicorn waits for ever for a request's header, and for a client that does not read; attackers know that. It
has no setting for either, so this subclass overrides callbacks of its protocol; pyproject.toml pins the
minor version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from momok.service.contract.errors import UnreadableRequest
from momok.service.http.problems import MEDIA_TYPE

READ_S = 30.0
"""How long a client may leave an answer unread."""
MAX_HEADER_BYTES = 65_536


def guarded(header_s: float, on_slow: Callable[[], object]) -> type[HttpToolsProtocol]:
    """A protocol class with this deadline; ``on_slow`` is called for each connection that was too slow."""
    return type("Guarded", (GuardedProtocol,), {"header_s": header_s, "on_slow": staticmethod(on_slow)})


class GuardedProtocol(HttpToolsProtocol):
    """``header_s`` is the time for a whole header, from the connection or from its first piece.

    ``on_lost`` is called when the connection has ended.
    """

    header_s: float
    on_slow: Callable[[], object]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.on_lost: Callable[[], object] = lambda: None
        self._header_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._in_header, self._header_bytes = True, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_timer = _cancelled(self._header_timer)
        self._read_timer = _cancelled(self._read_timer)
        super().connection_lost(exc)
        self.on_lost()

    def data_received(self, data: bytes) -> None:
        # Before the parser sees them: it takes empty lines before a request for nothing.
        if self._in_header:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes:  # It has begun, and more of it is to come.
            self._expect_header()
        if self._header_bytes > MAX_HEADER_BYTES:
            self._give_up()

    def on_headers_complete(self) -> None:
        self._header_timer = _cancelled(self._header_timer)
        self._in_header, self._header_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_header = True  # Of a request behind this one, whether this is answered yet or not.
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """As a problem document; the app could not answer this."""
        body = UnreadableRequest("this is not HTTP that can be read").problem(None).model_dump_json().encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n"
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_timer = self.loop.call_later(READ_S, self._give_up)

    def resume_writing(self) -> None:
        self._read_timer = _cancelled(self._read_timer)
        super().resume_writing()

    def _expect_header(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_s, self._give_up)

    def _give_up(self) -> None:
        self.on_slow()
        self.transport.abort()


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """None, for the place where the timer was kept."""
    if timer is not None:
        timer.cancel()
    return None
