"""Errors that become problem documents (RFC 9457). Each class carries its status, type and title.

ServiceError
├── Unauthorized         401   no key, or none that is known
├── Forbidden            403   a known key that may not do this
├── InvalidRequest       422   malformed, or names that lead nowhere; lists all problems at once
├── UnreadableRequest    400   no HTTP
├── UnknownResource      404   a name in the path that nothing carries
├── TooLarge             413   a body of more bytes than are taken
├── TooSlow              408   a body that does not arrive in time
├── QueueFull            429   too many queries wait already
├── RateLimited          429   this client has asked for too much lately
├── DeadlineExceeded     504   not answered in the time that the request has
├── OutOfMemory          503   scoring takes more memory than there is
├── Starting             503   no bundle is loaded yet
├── Draining             503   the server is about to end
├── NotAlive             503   the scorer should be given up
├── TooManyConnections   503   no room for another connection
├── ReloadBusy           409   another bundle is being loaded already
├── BundleRefused        422   a bundle that cannot be served; the old one still is
└── InternalError        500   our own fault; details are in the log, under the request's id
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from momok.model.errors import UserError

RETRY_AFTER_S = 2.0
"""After how long a client of a loading server is told to try again."""


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
    title: str = Field(examples=["The request cannot be understood"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["/queries/0/head: unknown entity 'Swedn'; nearest: 'Sweden'"])
    errors: list[ProblemItem] = Field(default_factory=list)
    request_id: str | None = Field(None, examples=["5f0c2a9be1d47380"])
    retry_after_ms: int | None = Field(
        None, description="When asking again may help; `Retry-After`, exactly.", examples=[1500]
    )


class ServiceError(UserError):
    """``str(error)`` is the detail; ``closes``: the connection is of no more use."""

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
    status, slug, title = 422, "invalid-request", "The request cannot be understood"

    def __init__(self, errors: Sequence[ProblemItem]) -> None:
        super().__init__("; ".join(f"{item.pointer or 'body'}: {item.detail}" for item in errors[:3]), errors)


class Unauthorized(ServiceError):
    status, slug, title = 401, "unauthorized", "A key is needed"


class Forbidden(ServiceError):
    status, slug, title = 403, "forbidden", "This key may not do that"


class UnreadableRequest(ServiceError):
    status, slug, title, closes = 400, "unreadable-request", "This is no HTTP request", True


class UnknownResource(ServiceError):
    status, slug, title = 404, "unknown-resource", "There is no such thing"


class TooLarge(ServiceError):
    status, slug, title, closes = 413, "too-large", "The body is too large", True


class TooSlow(ServiceError):
    status, slug, title, closes = 408, "request-timeout", "The body did not arrive in time", True


class QueueFull(ServiceError):
    status, slug, title = 429, "queue-full", "Too many queries are waiting"


class RateLimited(ServiceError):
    status, slug, title = 429, "rate-limited", "You are asking for too much"


class DeadlineExceeded(ServiceError):
    status, slug, title = 504, "deadline-exceeded", "There was no time to answer"


class OutOfMemory(ServiceError):
    status, slug, title = 503, "out-of-memory", "There is not enough memory to answer"


class Starting(ServiceError):
    status, slug, title = 503, "starting", "The server is loading its bundle"


class Draining(ServiceError):
    status, slug, title = 503, "draining", "The server is about to end"


class NotAlive(ServiceError):
    status, slug, title = 503, "not-alive", "The server should be started again"


class TooManyConnections(ServiceError):
    status, slug, title, closes = 503, "too-many-connections", "There is no room for a connection", True


class ReloadBusy(ServiceError):
    status, slug, title = 409, "reload-busy", "A bundle is being loaded already"


class BundleRefused(ServiceError):
    status, slug, title = 422, "bundle-refused", "The bundle cannot be served; the old one still is"


class InternalError(ServiceError):
    status, slug, title = 500, "internal-error", "The server failed to answer"


def problem_type(slug: str) -> str:
    """A stable identifier; documented in docs/api.md, not an address to visit."""
    return f"urn:momok:problem:{slug}"


def pointer(*parts: Any) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
