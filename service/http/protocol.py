"""The server's side of a connection: uvicorn's, with deadlines and a limit on how many there are.

Uvicorn waits for ever for a request's header, and for a client that does not read; attackers know that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from momok.service.contract.errors import UnreadableRequest

CROWDED, WHOLE = "crowded", "whole"
from momok.service.http.outgoing import Outgoing, Round
from momok.service.http.problems import MEDIA_TYPE

READ_S = 30.0
"""How long a client may leave what was sent to it unread."""
MAX_HEADER_BYTES = 65_536


def guarded(header_s: float, max_connections: int, on_slow: Callable[[], object]) -> type[HttpToolsProtocol]:
    """A protocol class with these limits; ``on_slow`` is called for each connection that was too slow."""
    return type(
        "Guarded",
        (GuardedProtocol,),
        {
            "header_s": header_s,
            "max_connections": max_connections,
            "on_slow": staticmethod(on_slow),
            "round": Round(),
        },
    )


class GuardedProtocol(HttpToolsProtocol):
    """``header_s`` is the time for a whole header, from the connection or from the first piece that begins
    with it; one that begins in the same piece as another request ends has the time of an idle connection."""

    header_s: float
    max_connections: int
    on_slow: Callable[[], object]
    round: Round

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._header_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Outgoing(transport, self.round))
        if len(self.connections) > self.max_connections:
            self.app = _Crowded(self.app)
        self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_timer = _cancelled(self._header_timer)
        self._read_timer = _cancelled(self._read_timer)
        super().connection_lost(exc)

    def eof_received(self) -> None:
        self.round.end()  # Then the transport closes, and would send no more.

    def data_received(self, data: bytes) -> None:
        self.round.end()
        # Not at the parser's word: it takes empty lines before a request for nothing.
        if self.cycle is None or self.cycle.response_complete:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes:  # It has begun, and more of it is to come.
            self._expect_header()
        if self._header_bytes > MAX_HEADER_BYTES:
            self._give_up()

    def on_headers_complete(self) -> None:
        self._header_timer = _cancelled(self._header_timer)
        self._header_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.scope["state"][WHOLE] = True

    def send_400_response(self, msg: str) -> None:
        """As a problem document; it is no request that the app could answer."""
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


class _Crowded:
    """Tells the app that there are too many connections, so that the refusal is seen like any other."""

    def __init__(self, app: Any) -> None:
        self._app: ASGIApp = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})[CROWDED] = True
        await self._app(scope, receive, send)


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """None, for the place where the timer was kept."""
    if timer is not None:
        timer.cancel()
    return None
