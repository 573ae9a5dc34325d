"""Observation: what every answer has and what is noted of it, as one plain ASGI middleware."""

from __future__ import annotations

import re
import secrets
from itertools import count
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from momok.service.http.problems import unexpected
from momok.service.http.security import careful
from momok.service.monitoring.logs import log_request, wanted
from momok.service.monitoring.metrics import UNMATCHED, Metrics

_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observation:
    """Gives every request an id (the caller's where it is well formed), counts, times and logs it, and sets
    the headers that every answer has.

    An exception that nothing has handled ends here, as a logged 500 like every other answer: outside of this
    middleware it would carry no id and be counted nowhere.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics
        self._start, self._numbers = secrets.token_hex(6), count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = self._id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        started = perf_counter()

        async def send_complete(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                message["headers"] = careful(scope, given)
            await send(message)

        self.metrics.in_flight += 1
        try:
            await self.app(scope, receive, send_complete)
        except Exception as error:
            response = unexpected(request_id, error)
            if not status:
                await response(scope, receive, send_complete)
        finally:
            self.metrics.in_flight -= 1
            self._note(scope, status, perf_counter() - started)

    def _id(self, scope: Scope) -> str:
        given: bytes | None = dict(scope["headers"]).get(b"x-request-id")
        if given is not None and _GOOD_ID.fullmatch(text := given.decode("latin-1")):
            return text
        # Unique, not secret: fresh random bytes would cost as much as the rest of this.
        return f"{self._start}-{next(self._numbers):x}"

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path_format", UNMATCHED)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        state = scope["state"]
        outcome = state.get(
            "outcome", "answered" if status < 400 else "refused" if status < 500 else "failed"
        )
        self.metrics.answered(method, route, status, seconds)
        if (rejected := self.metrics.rejected.get(outcome)) is not None:
            rejected.inc()
        if not wanted(status):
            return
        log_request(
            {
                "request_id": state["request_id"],
                "method": method,
                "route": route,
                "status": status,
                "ms": round(1000 * seconds, 3),
                "queries": state.get("queries", 0),
                "outcome": outcome,
            },
            status,
        )
