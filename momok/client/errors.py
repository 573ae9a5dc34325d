"""Errors of a call.

ClientError
├── DeadlineExceeded   no answer within the deadline of the call
├── Unreachable        no connection to the server within the deadline, or lost where a repetition is not safe
└── ProblemError       the server refused, and says why
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ClientError(Exception):
    """A call without an answer."""


class DeadlineExceeded(ClientError):
    """No answer within the deadline; ``__cause__`` is what the last attempt met, if it met anything."""


class Unreachable(ClientError):
    """The server could not be reached."""


class ProblemError(ClientError):
    """The server refused. ``kind`` is the last part of the problem's type, such as ``invalid-request``.

    ``errors`` has an entry with ``pointer``, ``detail`` and ``choices`` for each mistake.
    """

    def __init__(self, status: int, document: Mapping[str, Any]) -> None:
        title, detail = document.get("title", ""), document.get("detail", "")
        super().__init__(f"{status} {title}: {detail}")
        self.status, self.title, self.detail = status, str(title), str(detail)
        self.kind = str(document.get("type", "")).rpartition(":")[2]
        self.errors: Sequence[Mapping[str, Any]] = document.get("errors", ())
        self.request_id: str | None = document.get("request_id")
        wait_ms = document.get("retry_after_ms")
        self.retry_after_s: float | None = None if wait_ms is None else wait_ms / 1000
