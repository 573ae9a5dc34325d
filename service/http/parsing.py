"""Parsing: bodies and headers of predictions to requests, in bounded time whatever was sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from momok.model.bundle.names import shorten
from momok.service.contract.errors import InvalidRequest, ProblemItem, pointer
from momok.service.contract.schemas import Request

RequestT = TypeVar("RequestT", bound=Request)

MOST_VALUES = 15_000
"""Values in one body, half as many again as the longest list of candidates; each takes time to look at."""
MOST_ERRORS = 1000
"""Beyond so many errors in one body only their number is told."""
MOST_MS = 86_400_000
TIMEOUT = "X-Request-Timeout-Ms"

_SEPARATORS = (b",", b"[", b"{")
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|([,\[{])', re.DOTALL)
"""A string, to the end where it is not closed, or a separator."""


def parsed(kind: type[RequestT], headers: Mapping[bytes, bytes], body: bytes) -> RequestT:
    """The request in a body. Raises ``InvalidRequest``."""
    media = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media != b"application/json":
        raise _invalid("expected a JSON object, sent as application/json")
    _check_size(body)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise InvalidRequest(_items(error, body)) from None


def timeout_of(headers: Mapping[bytes, bytes]) -> float | None:
    """The seconds that the client allows, None without its header. Raises ``InvalidRequest``."""
    given = headers.get(TIMEOUT.lower().encode())
    if given is None:
        return None
    if given.isdigit() and len(given) <= len(str(MOST_MS)) and 1 <= int(given) <= MOST_MS:
        return int(given) / 1000
    raise _invalid(f"expected a number of milliseconds from 1 to {MOST_MS}", TIMEOUT)


def check_no_query(query_string: bytes) -> None:
    """Raises ``InvalidRequest`` for parameters that the route does not have."""
    if query_string:
        name = query_string.partition(b"=")[0].decode("latin-1")
        raise _invalid("this route has no query parameters", shorten(name))


def located(path: Sequence[int | str]) -> str:
    """The name of a parameter, however long the caller made it."""
    return ".".join(shorten(str(part)) for part in path)


def _check_size(body: bytes) -> None:
    """Raises ``InvalidRequest`` for more values than a request can need."""
    # Where it begins comes first: to count all of a hostile body takes longer than to refuse it.
    if _separators(body[: 4 * MOST_VALUES]) <= MOST_VALUES and _separators(body) <= MOST_VALUES:
        return
    # Those within strings do not count: a slower look, which ends as soon as there are too many.
    separators = (True for token in _TOKEN.finditer(body) if token.lastindex)
    if next(islice(separators, MOST_VALUES, None), False):
        raise _invalid(f"more than the {MOST_VALUES} values that this server reads in one request")


def _separators(body: bytes) -> int:
    return sum(map(body.count, _SEPARATORS))


def _items(error: ValidationError, body: bytes) -> list[ProblemItem]:
    if (count := error.error_count()) > MOST_ERRORS:
        return [ProblemItem(pointer="", detail=f"{count} errors, too many to list")]
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        return [ProblemItem(pointer="", detail=f"not JSON: {_reason(errors[0]['msg'])}")]
    if not errors[0]["loc"] and errors[0]["type"] == "model_type":
        return [ProblemItem(pointer="", detail="expected a JSON object, sent as application/json")]
    given = from_json(body)
    return [
        ProblemItem(
            pointer=pointer(*_within(given, item["loc"])), detail=item["msg"].removeprefix("Value error, ")
        )
        for item in errors
    ]


def _reason(message: str) -> str:
    return shorten(message.removeprefix("Invalid JSON: "), 200)


def _within(given: Any, path: Sequence[int | str]) -> list[int | str]:
    """The path without the names that pydantic gives the branches of a union, which no body holds."""
    kept: list[int | str] = []
    for part in path:
        if isinstance(given, dict) and isinstance(part, str):
            given = given.get(part)
        elif isinstance(given, list) and isinstance(part, int):
            given = given[part]
        else:
            continue
        kept.append(shorten(part) if isinstance(part, str) else part)
    return kept


def _invalid(detail: str, where: str = "") -> InvalidRequest:
    return InvalidRequest([ProblemItem(pointer=where, detail=detail)])
