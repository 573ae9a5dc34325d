"""Errors that become problem documents (RFC 9457). Each class carries its status, type and title.

ServiceError
├── UnreadableRequest    400   not HTTP
├── Unauthorized         401   no key, or an unknown one
├── Forbidden            403   a known key without this permission
├── UnknownResource      404   an unknown name in the path
├── MethodNotAllowed     405   a method that the route does not have
├── TooSlow              408   the body did not arrive in time
├── ClientDeadline       408   not answered within the time that the client set
├── ReloadBusy           409   another bundle is being loaded
├── TooLarge             413   more bytes in the body than the server takes
├── UnsupportedEncoding  415   a compressed body
├── UnknownHost          421   a Host header that a local server without keys does not answer
├── InvalidRequest       422   malformed, or unknown names; lists all problems at once
├── BundleRefused        422   a bundle that cannot be served; the previous one still serves
├── QueueFull            429   too many queries wait
├── RateLimited          429   the client exceeds its rate
├── InternalError        500   a defect; details are in the log, under the request's id
├── OutOfMemory          503   scoring takes more memory than there is
├── Starting             503   no bundle is loaded yet
├── Draining             503   the server is shutting down
├── NotAlive             503   the scorer does not work
├── TooManyConnections   503   no room for another connection
└── DeadlineExceeded     504   not answered within the server's time
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from momok.model.errors import UserError

RETRY_AFTER_S = 2.0
"""After how long a client of a loading server is told to try again."""


MOST_ITEMS = 20
"""Problems of one request that are listed."""


class ProblemItem(BaseModel):
    """One thing wrong with a request."""

    pointer: str = Field(
        description="JSON pointer into the body (empty: the whole), or the parameter's name.",
        examples=["/queries/0/head"],
    )
    detail: str = Field(examples=["unknown entity 'Swedn'; nearest: 'Sweden'"])
    choices: list[str] = Field(
        default_factory=list,
        description="Nearest labels of an unknown name, or keys of an ambiguous one.",
        examples=[["Sweden"]],
    )


class Problem(BaseModel):
    """The body of every answer that is not a success, `application/problem+json`."""

    type: str = Field(examples=["urn:momok:problem:invalid-request"])
    title: str = Field(examples=["Invalid request"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["/queries/0/head: unknown entity 'Swedn'; nearest: 'Sweden'"])
    errors: list[ProblemItem] = Field(default_factory=list)
    request_id: str | None = Field(None, examples=["5f0c2a9be1d47380"])
    retry_after_ms: int | None = Field(
        None, description="When asking again may help; `Retry-After`, exactly.", examples=[1500]
    )


class ServiceError(UserError):
    """``str(error)`` is the detail; ``closes``: the connection is closed after the answer."""

    status: ClassVar[int]
    slug: ClassVar[str]
    title: ClassVar[str]
    closes: ClassVar[bool] = False

    def __init__(
        self, detail: str, errors: Sequence[ProblemItem] = (), retry_after_s: float | None = None
    ) -> None:
        super().__init__(detail)
        self.errors = list(errors)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        headers = {"connection": "close"} if self.closes else {}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        return headers

    def problem(self, request_id: str | None) -> Problem:
        return Problem(
            type=problem_type(self.slug),
            title=self.title,
            status=self.status,
            detail=str(self),
            errors=self.errors,
            request_id=request_id,
            retry_after_ms=None if self.retry_after_s is None else math.ceil(1000 * self.retry_after_s),
        )


class InvalidRequest(ServiceError):
    status, slug, title = 422, "invalid-request", "Invalid request"

    def __init__(self, errors: Sequence[ProblemItem]) -> None:
        shown = "; ".join(f"{item.pointer or 'body'}: {item.detail}" for item in errors[:3])
        super().__init__(shown, errors[:MOST_ITEMS])
        self.count = len(errors)


class Unauthorized(ServiceError):
    status, slug, title = 401, "unauthorized", "Missing or unknown key"


class Forbidden(ServiceError):
    status, slug, title = 403, "forbidden", "Key without permission"


class UnknownHost(ServiceError):
    status, slug, title = 421, "unknown-host", "Unknown Host header"


class UnsupportedEncoding(ServiceError):
    status, slug, title = 415, "unsupported-encoding", "Unsupported content encoding"


class UnreadableRequest(ServiceError):
    status, slug, title, closes = 400, "unreadable-request", "Unreadable HTTP request", True


class UnknownResource(ServiceError):
    status, slug, title = 404, "unknown-resource", "Unknown resource"


class TooLarge(ServiceError):
    status, slug, title, closes = 413, "too-large", "Request body too large", True


class MethodNotAllowed(ServiceError):
    status, slug, title = 405, "method-not-allowed", "Method Not Allowed"


class TooSlow(ServiceError):
    status, slug, title, closes = 408, "request-timeout", "Request body too slow", True


class QueueFull(ServiceError):
    status, slug, title = 429, "queue-full", "Queue full"


class RateLimited(ServiceError):
    status, slug, title = 429, "rate-limited", "Rate limit exceeded"


class ClientDeadline(ServiceError):
    status, slug, title = 408, "client-deadline", "Client's deadline exceeded"


class DeadlineExceeded(ServiceError):
    status, slug, title = 504, "deadline-exceeded", "Deadline exceeded"


class OutOfMemory(ServiceError):
    status, slug, title = 503, "out-of-memory", "Out of memory"


class Starting(ServiceError):
    status, slug, title = 503, "starting", "Server is loading its bundle"


class Draining(ServiceError):
    status, slug, title = 503, "draining", "Server is shutting down"


class NotAlive(ServiceError):
    status, slug, title = 503, "not-alive", "Scorer not working"


class TooManyConnections(ServiceError):
    status, slug, title, closes = 503, "too-many-connections", "Too many connections", True


class ReloadBusy(ServiceError):
    status, slug, title = 409, "reload-busy", "Another bundle is being loaded"


class BundleRefused(ServiceError):
    status, slug, title = 422, "bundle-refused", "Bundle rejected, the previous one still serves"


class InternalError(ServiceError):
    status, slug, title = 500, "internal-error", "Internal error"


def problem_type(slug: str) -> str:
    """A stable identifier; documented in docs/api.md, not an address to visit."""
    return f"urn:momok:problem:{slug}"


def pointer(*parts: Any) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
