"""Handlers that turn every error into a problem document (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import Scope

from momok.model.bundle.names import shorten
from momok.service.contract.errors import (
    InternalError,
    InvalidRequest,
    Problem,
    ProblemItem,
    ServiceError,
    pointer,
    problem_type,
)
from momok.service.http.scoring import ClientGone

MEDIA_TYPE = "application/problem+json"
CLIENT_GONE = 499
"""No status of the standard, but known from the logs of proxies."""
logger = logging.getLogger("momok.service")


def install(app: FastAPI) -> None:
    """Register the handlers of expected errors; ``Observation`` takes care of the unexpected ones."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientGone, _on_client_gone)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return answer(request.scope, error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    items = [_item(given["loc"], given["type"], given["msg"], error.body) for given in error.errors()]
    return answer(request.scope, InvalidRequest(items))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.BAD_REQUEST:  # What FastAPI says to a body that it cannot even decode.
        unreadable = ProblemItem(pointer="", detail="not JSON that can be read; send UTF-8, not too deep")
        return answer(request.scope, InvalidRequest([unreadable]))
    phrase = HTTPStatus(error.status_code).phrase
    problem = Problem(
        type=problem_type(phrase.lower().replace(" ", "-")),
        title=phrase,
        status=error.status_code,
        detail=error.detail if error.detail != phrase else f"{phrase}: see /docs for what there is",
        request_id=_request_id(request),
    )
    return respond(problem, dict(error.headers or {}))


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return left(request.scope)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    raise error  # The framework would answer it with a page of its own.


def left(scope: Scope) -> Response:
    """The answer to a client that is gone: for the log and the metrics alone."""
    scope["state"]["outcome"] = "client-gone"
    return Response(status_code=CLIENT_GONE)


def answer(scope: Scope, error: ServiceError) -> Response:
    """The problem document of an error; its reason is noted for the log and the metrics."""
    state = scope.setdefault("state", {})
    state["outcome"] = error.slug
    return respond(error.problem(state.get("request_id")), error.headers)


def unexpected(request_id: str, error: Exception) -> Response:
    """The answer to our own mistake: the log gets all of it, the caller only where to look."""
    logger.error("request %s failed", request_id, exc_info=error)
    return respond(InternalError("an unexpected error; the log has it under request_id").problem(request_id))


def respond(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return Response(
        problem.model_dump_json(), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers
    )


def _item(location: tuple[int | str, ...], kind: str, message: str, body: Any) -> ProblemItem:
    source, *path = location
    if kind == "json_invalid":
        return ProblemItem(pointer="", detail=f"not JSON (at character {path[0] if path else 0})")
    if source == "body" and not path:
        return ProblemItem(pointer="", detail="expected a JSON object, sent as application/json")
    # A field that we do not know is named by the caller, at any length.
    parts = [shorten(part) if isinstance(part, str) else part for part in path]
    where = pointer(*_within(body, path)) if source == "body" else ".".join(map(str, parts))
    return ProblemItem(pointer=where, detail=message.removeprefix("Value error, "))


def _within(body: Any, path: Sequence[int | str]) -> list[int | str]:
    """The path without the names that pydantic gives the branches of a union, which no body holds."""
    kept: list[int | str] = []
    for part in path:
        if isinstance(body, dict) and isinstance(part, str):
            body = body.get(part)
        elif isinstance(body, list) and isinstance(part, int):
            body = body[part]
        else:
            continue
        kept.append(shorten(part) if isinstance(part, str) else part)
    return kept


def _request_id(request: Request) -> str | None:
    request_id: str | None = request.scope.get("state", {}).get("request_id")
    return request_id
