"""Attempts: when a call is tried again, and when it is given up. No input or output happens here."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

import httpx

from momok.client.calls import Call
from momok.client.errors import ClientError, DeadlineExceeded, ProblemError, Unreachable

AnswerT = TypeVar("AnswerT")

BUSY = frozenset({429, 502, 503, 504})
"""The server, or a proxy before it, may answer the same request in a moment."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Attempts:
    """Of one call, all within ``deadline_s`` together."""

    def __init__(
        self,
        call: Call[Any],
        deadline_s: float,
        now: Callable[[], float] = monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._call, self._deadline_s = call, deadline_s
        self._now, self._chance = now, chance
        self._deadline = now() + deadline_s
        self._pause_s = FIRST_PAUSE_S

    @property
    def left_s(self) -> float:
        """Never nothing: httpx takes 0 for no time at all."""
        return max(self._deadline - self._now(), 1e-3)

    @property
    def is_over(self) -> bool:
        return self._now() >= self._deadline

    def late(self) -> DeadlineExceeded:
        """The error of a call whose time is over."""
        return DeadlineExceeded(f"no answer within {self._deadline_s:g} s")

    def request(self, client: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The next one, which tells the server how long its answer is waited for."""
        call, left_s = self._call, self.left_s
        headers = {"X-Request-Timeout-Ms": str(max(1, int(1000 * left_s)))}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        return client.build_request(
            call.method, call.path, content=call.body, params=call.parameters, headers=headers, timeout=left_s
        )

    def lost(self, error: httpx.TransportError) -> float:
        """Seconds until the next attempt after one without an answer. Raises ``ClientError``."""
        if not (self._call.repeats or isinstance(error, NOT_SENT)):
            raise Unreachable(
                f"the connection was lost, the request may have been done: {error!r}"
            ) from error
        if isinstance(error, httpx.TimeoutException) and self._deadline <= self._now():
            raise DeadlineExceeded(f"no answer within {self._deadline_s:g} s") from error
        return self._pause(
            None, Unreachable(f"no connection within {self._deadline_s:g} s: {error!r}"), error
        )

    def refused(self, status: int, body: bytes) -> float:
        """Seconds until the next attempt after a refusal. Raises ``ClientError``."""
        problem = ProblemError(status, _document(body))
        if problem.kind == "client-deadline":
            raise self.late() from problem
        if status not in BUSY or not self._call.repeats:
            raise problem
        late = DeadlineExceeded(f"still refused after {self._deadline_s:g} s")
        return self._pause(problem.retry_after_s, late, problem)

    def _pause(self, asked_s: float | None, late: ClientError, cause: Exception) -> float:
        """With a random part: clients that were refused together must not return together."""
        wait_s = self._pause_s if asked_s is None else max(asked_s, FIRST_PAUSE_S)
        wait_s *= 1 + self._chance() / 2
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        if self._now() + wait_s >= self._deadline:
            raise late from cause
        return wait_s


def _document(body: bytes) -> dict[str, Any]:
    """The problem document, or a proxy's page in the form of one."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"detail": body[:200].decode("utf-8", "replace")}
