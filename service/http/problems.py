"""Problems: every error becomes a problem document (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from momok.service.contract.errors import (
    InternalError,
    InvalidRequest,
    Problem,
    ProblemItem,
    ServiceError,
    problem_type,
)
from momok.service.http.exchange import Exchange, exchange_of
from momok.service.http.parsing import located
from momok.service.http.scoring import ClientGone

MEDIA_TYPE = "application/problem+json"
MOST_BYTES = 65_536
"""Of one document; choices are left out of one that would be larger."""
CLIENT_GONE = 499
"""No status of the standard, but known from the logs of proxies."""
logger = logging.getLogger("momok.service")


def install(app: FastAPI) -> None:
    """Register the handlers of expected errors; ``Observation`` takes care of the unexpected ones."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientGone, _on_client_gone)


async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return answer(exchange_of(request.scope), error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    """Of parameters: bodies are parsed by the routes that take one."""
    assert isinstance(error, RequestValidationError)
    items = [ProblemItem(pointer=located(e["loc"][1:]), detail=e["msg"]) for e in error.errors()]
    return answer(exchange_of(request.scope), InvalidRequest(items))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    problem = Problem(
        type=problem_type(phrase.lower().replace(" ", "-")),
        title=phrase,
        status=error.status_code,
        detail=error.detail if error.detail != phrase else f"{phrase}: /docs lists the routes",
        request_id=exchange_of(request.scope).request_id,
    )
    return respond(problem, dict(error.headers or {}))


async def _on_client_gone(request: Request, error: Exception) -> Response:
    """For the log and the metrics alone."""
    exchange_of(request.scope).outcome = "client-gone"
    return Response(status_code=CLIENT_GONE)


def answer(exchange: Exchange, error: ServiceError) -> Response:
    """The problem document of an error; its reason is noted for the log and the metrics."""
    exchange.outcome = error.slug
    return respond(error.problem(exchange.request_id), error.headers)


def unexpected(request_id: str, error: Exception) -> Response:
    """The answer to a defect: the log gets all of it, the caller only the id to look for."""
    logger.error("request %s failed", request_id, exc_info=error)
    return respond(InternalError("an unexpected error; the log has it under request_id").problem(request_id))


def respond(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """A document of at most ``MOST_BYTES``."""
    body = problem.model_dump_json().encode()
    if len(body) > MOST_BYTES:
        plain = [item.model_copy(update={"choices": []}) for item in problem.errors]
        body = problem.model_copy(update={"errors": plain}).model_dump_json().encode()
    return Response(body, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)
