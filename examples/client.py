"""A client of the API: pooled connections, a deadline for each call, retries where the server is busy.

    MOMOK_KEY=… python examples/client.py http://127.0.0.1:8000 --head Norway --relation borders -k 5

A file to copy: it needs httpx, and nothing of momok.
"""

from __future__ import annotations

import argparse
import email.utils
import os
import random
import sys
import time
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import quote

import httpx

RETRIED = frozenset({429, 503})
"""The server is busy, starting or draining: the same request may succeed in a moment."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0


class ProblemError(Exception):
    """The server refused; ``document`` is its problem document (RFC 9457)."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        super().__init__(f"{status} {document.get('title', '')}: {document.get('detail', '')}")
        self.status = status
        self.document = document


class DeadlineExceeded(Exception):
    """No answer within the deadline of the call."""


class Client:
    """A client of one server. Threads may share it; close it, or use it in a ``with``.

    ``key``: bearer key; the default is MOMOK_KEY of the environment. ``deadline_s``: for a call with all its
    retries. ``verify``: the certificate of a private authority, as a file.
    """

    def __init__(
        self, url: str, *, key: str | None = None, deadline_s: float = 30.0, verify: str | bool = True
    ) -> None:
        key = key or os.environ.get("MOMOK_KEY")
        self._deadline_s = deadline_s
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=16, keepalive_expiry=60),
            verify=verify,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()

    def predict(self, queries: Sequence[dict[str, str]], **options: Any) -> dict[str, Any]:
        """Answers to queries such as ``{"head": "Norway", "relation": "borders"}``; options as in the API."""
        return self.call("POST", "/v1/predict", json={"queries": list(queries), **options})

    def score(self, facts: Sequence[dict[str, str]], **options: Any) -> dict[str, Any]:
        """Scores of facts such as ``{"head": "Norway", "relation": "borders", "tail": "Sweden"}``."""
        return self.call("POST", "/v1/score", json={"facts": list(facts), **options})

    def entity(self, key: str) -> dict[str, Any]:
        """What the graph holds about an entity: label, description, picture and more."""
        return self.call("GET", f"/v1/entities/{quote(key, safe='')}")

    def call(self, method: str, path: str, *, json: Any = None) -> dict[str, Any]:
        """The JSON of one request, repeated while the server is busy and the deadline allows.

        Raises ``ProblemError``, ``DeadlineExceeded``, or ``httpx.TransportError`` for a server out of reach.
        """
        deadline = time.monotonic() + self._deadline_s
        pause_s = FIRST_PAUSE_S
        while True:
            left_s = deadline - time.monotonic()
            # Past the deadline, the server drops the request too.
            headers = {"X-Request-Timeout-Ms": str(max(int(left_s * 1000), 1))}
            try:
                response = self._http.request(method, path, json=json, headers=headers, timeout=left_s)
            except httpx.TimeoutException:
                raise DeadlineExceeded(f"no answer within {self._deadline_s} s") from None
            if response.is_success:
                answer: dict[str, Any] = response.json()
                return answer
            problem = _problem(response)
            if response.status_code not in RETRIED:
                raise problem
            wait_s = _pause(response.headers.get("Retry-After"), pause_s)
            if time.monotonic() + wait_s >= deadline:
                raise DeadlineExceeded(f"still refused after {self._deadline_s} s: {problem}")
            time.sleep(wait_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _pause(retry_after: str | None, pause_s: float) -> float:
    """Seconds to wait: as the server asks, or else ``pause_s``; and up to half as much again by chance.

    Without the random part, clients that were refused together would retry together.
    """
    asked_s = _seconds(retry_after)
    asked_s = pause_s if asked_s is None else asked_s
    return asked_s + random.uniform(0.0, 0.5) * max(pause_s, asked_s)


def _seconds(retry_after: str | None) -> float | None:
    """The seconds from now that a ``Retry-After`` header gives as a number or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        date = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())


def _problem(response: httpx.Response) -> ProblemError:
    """The server's problem document, or the page of a proxy in the form of one."""
    try:
        document = response.json()
    except ValueError:
        document = {"title": response.reason_phrase, "detail": response.text[:200]}
    return ProblemError(response.status_code, document)


def main() -> int:
    """The exit code: 1 where there is no answer."""
    parser = argparse.ArgumentParser(description="Ask a momok server one question.")
    parser.add_argument("url")
    parser.add_argument("--head")
    parser.add_argument("--relation", required=True)
    parser.add_argument("--tail")
    parser.add_argument("-k", type=int, default=5)
    parser.add_argument("--ca", help="certificate of the authority that signed the server's")
    arguments = parser.parse_args()
    given = {"head": arguments.head, "relation": arguments.relation, "tail": arguments.tail}
    query = {name: value for name, value in given.items() if value is not None}
    try:
        with Client(arguments.url, verify=arguments.ca or True) as client:
            (answer,) = client.predict([query], k=arguments.k)["answers"]
    except (ProblemError, DeadlineExceeded, httpx.TransportError) as error:
        print(f"client: {error}", file=sys.stderr)
        return 1
    for offer in answer["candidates"]:
        print(f"{offer['rank']:4}  {offer['score']:9.4f}  {offer['entity']['label']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
