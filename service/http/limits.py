"""Guard: reads each body before the app does, no more of it than allowed and no longer."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from momok.service.contract.errors import ServiceError, TooLarge, TooManyConnections, TooSlow
from momok.service.http.problems import answer

CROWDED = "crowded"
"""What a request's state holds where its connection is one too many."""
WHOLE = "whole"
"""What a request's state holds once its body has all come, if the server says so."""
WATCHED = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})
"""Paths that are answered on any connection: a crowd must not look like a failure."""
LINGER_S = 1.0
"""How long the rest of a refused body is read and forgotten: a client that is still sending when the
connection closes may never see the answer."""


class Guard:
    """Plain ASGI; the app gets every body in one piece, and nothing of a connection that is one too many."""

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self.app = app
        self._max_bytes, self._timeout_s = max_bytes, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            if scope.get("state", {}).get(CROWDED) and scope["path"] not in WATCHED:
                raise TooManyConnections("use fewer, or come back later", retry_after_s=1)
            first = await self._body(scope, receive)
        except ServiceError as error:
            await _refuse(scope, receive, send, error)
            return
        if first is not None:
            await self.app(scope, Replay(first, receive), send)

    async def _body(self, scope: Scope, receive: Receive) -> Message | None:
        """The whole body as one message, None if the client went away. Raises ``TooLarge``, ``TooSlow``."""
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._max_bytes:
            raise self._too_large()
        message = {"type": "http.request", "body": b"", "more_body": False}
        if length in (b"", b"0") and b"transfer-encoding" not in headers:
            return message
        if scope.get("state", {}).get(WHOLE):  # Else a deadline is needed, which costs more than this.
            whole = await receive()
            if len(whole.get("body", b"")) > self._max_bytes:
                raise self._too_large()
            return whole if whole["type"] == "http.request" else None
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                arrived = await self._collect(receive, parts)
        except TimeoutError:
            size = sum(map(len, parts))
            raise TooSlow(f"{size} bytes came in {self._timeout_s:g} s; send it faster") from None
        return message | {"body": b"".join(parts)} if arrived else None

    async def _collect(self, receive: Receive, parts: list[bytes]) -> bool:
        """All parts of a body, False if the client went away. Raises ``TooLarge``."""
        size = 0
        while True:
            part = await receive()
            if part["type"] == "http.disconnect":
                return False
            parts.append(part.get("body", b""))
            size += len(parts[-1])
            if size > self._max_bytes:
                raise self._too_large()
            if not part.get("more_body", False):
                return True

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"more than the {self._max_bytes} bytes that this server takes; send several requests"
        )


class Replay:
    """``receive`` that begins with a message already received."""

    def __init__(self, first: Message, receive: Receive) -> None:
        self._first: Message | None = first
        self._receive = receive

    async def __call__(self) -> Message:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await self._receive()


async def _refuse(scope: Scope, receive: Receive, send: Send, error: ServiceError) -> None:
    """The whole answer first, its end only when the client has had time to read it."""
    response = answer(scope, error)
    await send(
        {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    )
    await send({"type": "http.response.body", "body": bytes(response.body), "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while not scope.get("state", {}).get(WHOLE):
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    break
    await send({"type": "http.response.body", "body": b"", "more_body": False})
