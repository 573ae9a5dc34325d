"""Errors that become problem documents (RFC 9457). Each class carries its status, type and title.

ServiceError
├── Unauthorized      401   no key, or none that is known
├── Forbidden         403   a known key that may not do this
├── InvalidRequest    422   malformed, or names that lead nowhere; lists all problems at once
├── UnknownResource   404   a name in the path that nothing carries
└── InternalError     500   our own fault; details are in the log, under the request's id
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from model.errors import UserError


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


class ServiceError(UserError):
    """``str(error)`` is the detail."""

    status: ClassVar[int]
    slug: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str, errors: Sequence[ProblemItem] = ()) -> None:
        super().__init__(detail)
        self.errors = list(errors)

    def problem(self, request_id: str | None) -> Problem:
        return Problem(
            type=problem_type(self.slug),
            title=self.title,
            status=self.status,
            detail=str(self),
            errors=self.errors,
            request_id=request_id,
        )


class InvalidRequest(ServiceError):
    status, slug, title = 422, "invalid-request", "The request cannot be understood"

    def __init__(self, errors: Sequence[ProblemItem]) -> None:
        super().__init__("; ".join(f"{item.pointer or 'body'}: {item.detail}" for item in errors[:3]), errors)


class Unauthorized(ServiceError):
    status, slug, title = 401, "unauthorized", "A key is needed"


class Forbidden(ServiceError):
    status, slug, title = 403, "forbidden", "This key may not do that"


class UnknownResource(ServiceError):
    status, slug, title = 404, "unknown-resource", "There is no such thing"


class InternalError(ServiceError):
    status, slug, title = 500, "internal-error", "The server failed to answer"


def problem_type(slug: str) -> str:
    """A stable identifier; documented in docs/api.md, not an address to visit."""
    return f"urn:momok:problem:{slug}"


def pointer(*parts: Any) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
