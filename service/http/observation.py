"""Observation: what every answer has, and what is counted and logged of it, as one plain ASGI middleware."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from itertools import count
from time import perf_counter

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from momok.service.http.context import Context
from momok.service.http.exchange import Exchange, place
from momok.service.http.paths import WATCHED, Paths, path_of
from momok.service.http.problems import CLIENT_GONE, unexpected
from momok.service.monitoring.logs import log_request
from momok.service.monitoring.tracing import Stage, Tracer

CAREFUL = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every answer, where a route has not set its own. No CORS: other origins may not read answers."""

_GOOD_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observation:
    """Gives every request an id (the caller's where it is well formed), counts, times and logs it, and sets
    the headers that every answer has. HEAD is answered as GET, without the body.

    An exception that nothing has handled ends here, as a logged 500 like every other answer: outside of this
    middleware it would carry no id and be counted nowhere.
    """

    def __init__(self, app: ASGIApp, context: Context, paths: Paths) -> None:
        self.app = app
        self._context, self._paths = context, paths
        self._start, self._numbers = secrets.token_hex(6), count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = self._begin(scope)
        if exchange.method == "HEAD":
            scope = {**scope, "method": "GET"}
        answer = _Answer(send, exchange, self._context.deployment.draining)
        metrics = self._context.metrics
        metrics.in_flight += 1
        try:
            await self.app(scope, receive, answer.send)
        except Exception as error:
            response = unexpected(exchange.request_id, error)
            if not answer.status:
                await response(scope, receive, answer.send)
        finally:
            metrics.in_flight -= 1
            self._note(exchange, answer.status)
            if (tracer := self._context.tracer) is not None and exchange.stages:
                _trace(tracer, exchange, answer.status, dict(scope["headers"]).get(b"traceparent"))

    def _begin(self, scope: Scope) -> Exchange:
        path, client = path_of(scope), scope.get("client")
        exchange = Exchange(
            request_id=self._id(scope["headers"]),
            client=client[0] if client else "",
            method=scope["method"] if scope["method"] in _METHODS else "other",
            path=path,
            route=self._paths.route(path),
        )
        place(scope, exchange)
        return exchange

    def _id(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        given = dict(headers).get(b"x-request-id")
        if given is not None and _GOOD_ID.fullmatch(given):
            return given.decode()
        # Unique, not secret: fresh random bytes would cost as much as the rest of this.
        return f"{self._start}-{next(self._numbers):x}"

    def _note(self, exchange: Exchange, status: int) -> None:
        seconds = perf_counter() - exchange.began
        status = status or CLIENT_GONE
        outcome = exchange.outcome or (
            "answered" if status < 400 else "refused" if status < 500 else "failed"
        )
        self._context.metrics.answered(exchange.method, exchange.route, status, outcome, seconds)
        fields = {
            "request_id": exchange.request_id,
            "client": exchange.client,
            "key": exchange.key,
            "method": exchange.method,
            "route": exchange.route,
            "status": status,
            "ms": round(1000 * seconds, 3),
            "queries": exchange.queries,
            "outcome": outcome,
        }
        log_request(fields, status, is_probe=exchange.route in WATCHED)


def _trace(tracer: Tracer, exchange: Exchange, status: int, parent: bytes | None) -> None:
    """A request that came as far as the scorer; others are told by the metrics."""
    tracer.record(
        Stage(f"{exchange.method} {exchange.route}", exchange.began, perf_counter()),
        None if parent is None else parent.decode("latin-1"),
        {
            "http.request.method": exchange.method,
            "http.route": exchange.route,
            "http.response.status_code": status,
            "momok.request_id": exchange.request_id,
            "momok.queries": exchange.queries,
        },
        exchange.stages,
    )


class _Answer:
    """Sends an answer on, with the headers that every answer has."""

    def __init__(self, send: Send, exchange: Exchange, is_last: bool) -> None:
        self.status = 0
        self._send, self._exchange, self._is_last = send, exchange, is_last

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._complete(message.get("headers", ()))
        elif self._exchange.method == "HEAD":
            message = {**message, "body": b""}
        await self._send(message)

    def _complete(self, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = MutableHeaders(raw=list(given))
        for name, value in CAREFUL.items():
            headers.setdefault(name, value)
        headers["x-request-id"] = self._exchange.request_id
        if self._exchange.key is not None:  # Answers to keys are kept out of shared caches.
            headers["cache-control"] = headers.get("cache-control", "no-store").replace("public", "private")
        if self._is_last:  # A draining server: keep-alive clients should leave.
            headers["connection"] = "close"
        return headers.raw
