"""Limiter: so many queries a second for each client, as token buckets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from momok.service.contract.errors import RateLimited

MOST_CLIENTS = 10_000
"""Clients remembered; the least recent is forgotten first, and begins again with a full bucket."""


class Limiter:
    """A client may ask ``burst`` queries at once and ``rate`` a second in the long run; 0 sets no limit."""

    def __init__(self, rate: float, burst: int, now: Callable[[], float] = monotonic) -> None:
        self._rate, self._burst, self._now = rate, burst, now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, client: str, num_queries: int, held: int = 0) -> None:
        """``held``: tokens that this request has taken already; they return to the client if it is refused.

        Raises ``RateLimited``, which says when there will be tokens enough.
        """
        if not self._rate:
            return
        now = self._now()
        tokens, since = self._buckets.pop(client, (float(self._burst), now))
        tokens = min(self._burst, tokens + held + (now - since) * self._rate)
        num_queries = min(num_queries, self._burst)  # More than fits would never be let in.
        refused = num_queries > tokens
        self._buckets[client] = (tokens if refused else tokens - num_queries, now)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        if refused:
            raise RateLimited(
                f"{self._rate:g} queries a second, {self._burst} at once, are what one client may ask",
                retry_after_s=(num_queries - tokens) / self._rate,
            )
