"""Gate: the one place that lets a request pass or refuses it, in the order of what each check costs.

Connection, host, key, rate, then the bytes of the body. Parsing and the limits of a prediction follow in the
routes, before anything waits for the scorer.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from momok.service.contract.errors import MethodNotAllowed, ServiceError, TooManyConnections, Unauthorized
from momok.service.http.body import check_headers, is_announced, read_body, refuse_body
from momok.service.http.context import Context
from momok.service.http.exchange import Exchange, exchange_of
from momok.service.http.paths import WATCHED, Paths
from momok.service.http.problems import answer

RATED = "/v1/"


class Gate:
    """Plain ASGI; the app finds the whole body in the exchange of the request."""

    def __init__(self, app: ASGIApp, context: Context, paths: Paths) -> None:
        self.app = app
        self._context, self._paths = context, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # There are no websockets.
            await send({"type": "websocket.close", "code": 1008})
            return
        exchange, headers = exchange_of(scope), dict(scope["headers"])
        try:
            self._admit(scope, exchange, headers)
            body = await self._body(exchange, headers, receive)
        except ServiceError as error:
            await self._refuse(scope, receive, send, error, is_announced(headers))
            return
        if body is None:
            exchange.outcome = "client-gone"
            return
        exchange.body = body
        await self.app(scope, receive, send)

    def _admit(self, scope: Scope, exchange: Exchange, headers: dict[bytes, bytes]) -> None:
        """Raises ``ServiceError``."""
        if exchange.path not in WATCHED and self._context.connections.is_surplus(scope.get("client")):
            raise TooManyConnections("use fewer connections, or try again later", retry_after_s=1)
        access = self._context.access
        host = headers.get(b"host")
        access.check_host(None if host is None else host.decode("latin-1"))
        exchange.key = access.admit(exchange.path, scope["headers"])
        methods = self._paths.methods(exchange.route)
        if methods and exchange.method not in methods:
            raise MethodNotAllowed(f"this route has {', '.join(methods)}; /docs lists the routes")
        if exchange.path.startswith(RATED):
            self._context.limiter.admit(exchange.caller, 1)

    async def _body(self, exchange: Exchange, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        settings = self._context.settings
        if not is_announced(headers):
            return b""
        takes = self._paths.takes_body(exchange.method, exchange.route)
        max_bytes = settings.max_body_bytes if takes else 0
        check_headers(headers, max_bytes)
        return await read_body(receive, max_bytes, settings.receive_timeout_s)

    async def _refuse(
        self, scope: Scope, receive: Receive, send: Send, error: ServiceError, has_body: bool
    ) -> None:
        response = answer(exchange_of(scope), error)
        if isinstance(error, Unauthorized):
            response.headers["WWW-Authenticate"] = "Bearer"
        if isinstance(error, MethodNotAllowed):
            response.headers["Allow"] = ", ".join(self._paths.methods(exchange_of(scope).route))
        if not has_body:
            await response(scope, receive, send)
            return
        response.headers["Connection"] = "close"  # The rest of the body will not be waited for.
        await refuse_body(response, receive, send)
