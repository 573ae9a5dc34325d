"""Security: access to each route, and the headers that keep browsers careful, as plain ASGI middleware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from momok.service.contract.errors import Forbidden, ServiceError, Unauthorized, UnknownResource
from momok.service.http.keys import KeyRing
from momok.service.http.problems import respond
from momok.service.settings import Settings

PROBES = frozenset({"/livez", "/readyz", "/startupz"})
"""Open without a key: probes have none, and learn nothing but a word."""
DOCUMENTATION = ("/docs", "/openapi.json", "/static-offline-docs/")
METRICS = "/metrics"
ADMIN = "/admin"

HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Of every answer, where a route has not set its own. No CORS: other origins may not read answers."""
_LINES = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_NAMES = [name for name, _ in _LINES]

KEY_NAME = "key_name"

Header = tuple[bytes, bytes]
"""Its name in lower case, as ASGI has it, and its value."""


def careful(scope: Scope, headers: Sequence[Header]) -> list[Header]:
    """The headers of an answer and ``HEADERS``; answers to keys are kept out of shared caches."""
    given = {name for name, _ in headers}
    lines = _LINES if given.isdisjoint(_NAMES) else [line for line in _LINES if line[0] not in given]
    complete = [*headers, *lines]
    if KEY_NAME in scope["state"]:
        changed = MutableHeaders(raw=complete)
        cached = changed.get("cache-control", "no-store")
        changed["Cache-Control"] = cached.replace("public", "private")
    return complete


class Security:
    """Refuses requests without a key, except to public routes, wherever keys are configured.

    The name of a good key stands in ``scope["state"]["key_name"]``. Paths below /admin want an admin
    key, which is good for everything else too; without any there is nothing below /admin.
    """

    def __init__(self, app: ASGIApp, rings: tuple[KeyRing, KeyRing], settings: Settings) -> None:
        """``rings``: the API keys, and the admin keys."""
        self.app = app
        self._api, self._admin = rings
        self._public = set(PROBES) | ({METRICS} if settings.public_metrics else set())
        self._public_docs = settings.public_docs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # There are no websockets here, and none past the keys.
            await send({"type": "websocket.close", "code": 1008})
            return
        state = scope.setdefault("state", {})
        try:
            name = self._admit(scope["path"], _bearer(scope))
        except ServiceError as error:
            # A body that will not be read must not be waited for.
            headers = {} if scope["method"] in ("GET", "HEAD") else {"Connection": "close"}
            if isinstance(error, Unauthorized):
                headers["WWW-Authenticate"] = "Bearer"
            response = respond(error.problem(state.get("request_id")), headers)
            await response(scope, receive, send)
            return
        if name is not None:
            state[KEY_NAME] = name
        await self.app(scope, receive, send)

    def _admit(self, path: str, key: str | None) -> str | None:
        """The name of the caller's key, None where none was needed. Raises ``ServiceError``."""
        admin = None if key is None else self._admin.name_of(key)
        name = admin or (None if key is None else self._api.name_of(key))
        if path == ADMIN or path.startswith(f"{ADMIN}/"):
            if admin is not None:
                return admin
            if name is None and (self._api or self._admin):
                raise Unauthorized("send an admin key: Authorization: Bearer …")
            if self._admin:
                raise Forbidden("this takes an admin key")
            raise UnknownResource("this server has no admin key, so there is nothing to administer")
        if name is None and self._api and not self._is_public(path):
            raise Unauthorized("send a key that this server knows: Authorization: Bearer …")
        return name

    def _is_public(self, path: str) -> bool:
        if path in self._public:
            return True
        return self._public_docs and any(
            path.startswith(part) if part.endswith("/") else path == part for part in DOCUMENTATION
        )


def exposure(settings: Settings) -> list[str]:
    """What an operator should know about access, in a line each."""
    if settings.is_local:
        return []
    keys = (settings.api_keys, settings.api_keys_file)
    if keys == (None, None):
        return [f"note: any client of {settings.host} may ask; MOMOK_API_KEYS or --api-keys-file close it"]
    if settings.tls_cert is None:
        return ["note: keys travel unencrypted; give --tls-cert and --tls-key, or put a TLS proxy before it"]
    return []


def _bearer(scope: Scope) -> str | None:
    """The bearer key of a request; None where there is none, or more than one header."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1:
        return None
    scheme, _, key = given[0].decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
