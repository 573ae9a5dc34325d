"""Access: the keys that each route needs, and the hosts that a server without keys answers to."""

from __future__ import annotations

import re
from collections.abc import Iterable

from momok.service.contract.errors import Forbidden, Unauthorized, UnknownHost, UnknownResource
from momok.service.http.keys import load_rings
from momok.service.http.paths import ADMIN, DOCUMENTATION, METRICS, PROBES
from momok.service.settings import LOOPBACK, Settings


class Access:
    """Deny by default: without a key, only public routes are answered wherever API keys are configured.

    Raises ``UserError`` for keys that cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hosts = {*LOOPBACK, "[::1]", settings.host, *re.split(r"[\s,]+", settings.allowed_hosts)} - {""}
        self.reload()

    def reload(self) -> None:
        """Read the keys again. Raises ``UserError``, and keeps the keys in use."""
        self._rings = load_rings(self._settings)

    def check_host(self, host: str | None) -> None:
        """Raises ``UnknownHost`` for a name by which a page of another site reaches a local server without
        keys (DNS rebinding)."""
        if host is None or self._rings.api or not self._settings.is_local:
            return
        if (name := _without_port(host)).lower() not in self._hosts:
            raise UnknownHost(
                "this server without keys answers to localhost only; add the name with --allowed-hosts"
                if len(name) < 256
                else "the Host header is too long"
            )

    def admit(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """The name of the caller's key, None where none was needed.

        Raises ``Unauthorized``, ``Forbidden``, and ``UnknownResource`` below /admin without admin keys.
        """
        key = _bearer(headers)
        rings = self._rings
        admin = None if key is None else rings.admin.name_of(key)
        name = admin or (None if key is None else rings.api.name_of(key))
        if path == ADMIN or path.startswith(f"{ADMIN}/"):
            return self._administrator(admin, name)
        if name is not None:
            return name
        scraper = None if key is None else rings.metrics.name_of(key)
        if path == METRICS and scraper is not None:
            return scraper
        if not self._is_public(path):
            if scraper is not None and path not in PROBES:
                raise Forbidden("this key may read /metrics only")
            raise Unauthorized("send a key that this server knows: Authorization: Bearer …")
        return None

    def _administrator(self, admin: str | None, name: str | None) -> str:
        if admin is not None:
            return admin
        if name is None and (self._rings.api or self._rings.admin):
            raise Unauthorized("send an admin key: Authorization: Bearer …")
        if self._rings.admin:
            raise Forbidden("this takes an admin key")
        raise UnknownResource("this server has no admin key, so /admin is closed")

    def _is_public(self, path: str) -> bool:
        if path in PROBES:
            return True
        if path == METRICS:
            return self._settings.public_metrics or not (self._rings.api or self._rings.metrics)
        if not self._rings.api:
            return True
        return self._settings.public_docs and any(
            path.startswith(part) if part.endswith("/") else path == part for part in DOCUMENTATION
        )


def exposure(settings: Settings) -> list[str]:
    """What an operator should know about access, in a line each."""
    if settings.is_local:
        return []
    if not settings.has_api_keys:
        return [f"note: any client of {settings.host} may ask (--allow-anonymous)"]
    if settings.tls_cert is None:
        return ["note: keys travel unencrypted; give --tls-cert and --tls-key, or put a TLS proxy before it"]
    return []


def _bearer(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """None also for more than one header: a proxy may have looked at the other."""
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1:
        return None
    scheme, _, key = given[0].decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
