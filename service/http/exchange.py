"""Exchange: what the layers know of one request and its answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Network
from time import perf_counter

from starlette.types import Scope

from momok.service.monitoring.tracing import Stage

_PLACE = "momok.exchange"


@dataclass(slots=True)
class Exchange:
    """``route`` is a template from a closed set; ``key`` the name of the caller's key, None without one;
    ``body`` is whole once the gate has let the request pass; ``outcome`` says why it was refused; ``stages``
    are traced."""

    request_id: str
    client: str
    method: str
    path: str
    route: str
    key: str | None = None
    body: bytes = b""
    queries: int = 0
    outcome: str | None = None
    stages: list[Stage] = field(default_factory=list)
    began: float = field(default_factory=perf_counter)

    @property
    def caller(self) -> str:
        """The owner of a rate: a key, else an address."""
        return f"key {self.key}" if self.key is not None else f"address {network_of(self.client)}"


def network_of(address: str) -> str:
    """An IPv6 client has a whole network of 64 bits to choose addresses from."""
    if ":" not in address:
        return address
    try:
        return str(IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def place(scope: Scope, exchange: Exchange) -> None:
    """Keep the exchange with its request."""
    scope.setdefault("state", {})[_PLACE] = exchange


def exchange_of(scope: Scope) -> Exchange:
    """The exchange of a request."""
    exchange: Exchange = scope["state"][_PLACE]
    return exchange
