"""The body of a request: read whole, no more of it than allowed and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Send

from momok.service.contract.errors import TooLarge, TooSlow, UnsupportedEncoding

LINGER_S = 1.0
"""How long the rest of a refused body is read and forgotten: a client that is still sending when the
connection closes may never see the answer."""


def check_headers(headers: Mapping[bytes, bytes], max_bytes: int) -> None:
    """What the headers announce. Raises ``UnsupportedEncoding``, ``TooLarge``."""
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1")
    if encoding.lower() != "identity":
        raise UnsupportedEncoding(f"this server reads no {encoding[:32]!r} bodies; send plain JSON")
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length[:20]) > max_bytes:
        raise _too_large(max_bytes)


def is_announced(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a body follows the headers."""
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


async def read_body(receive: Receive, max_bytes: int, timeout_s: float) -> bytes | None:
    """The whole body, None if the client left. Raises ``TooLarge``, ``TooSlow``."""
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(timeout_s):
            whole = await _collect(receive, parts, max_bytes)
    except TimeoutError:
        size = sum(map(len, parts))
        raise TooSlow(f"{size} bytes came in {timeout_s:g} s; send it faster") from None
    return b"".join(parts) if whole else None


async def refuse_body(response: Response, receive: Receive, send: Send) -> None:
    """The whole answer first, its end only when the client has had time to read it."""
    await send(
        {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    )
    await send({"type": "http.response.body", "body": bytes(response.body), "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while (message := await receive())["type"] != "http.disconnect":
                if not message.get("more_body", False):
                    break
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _collect(receive: Receive, parts: list[bytes], max_bytes: int) -> bool:
    size = 0
    while (message := await receive())["type"] != "http.disconnect":
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return True
    return False


def _too_large(max_bytes: int) -> TooLarge:
    if not max_bytes:
        return TooLarge("this path takes no body")
    return TooLarge(f"more than the {max_bytes} bytes that this server takes; send several requests")
