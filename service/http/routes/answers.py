"""What the FastAPI routes share: the context, reads within the server's time, and documented problems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import Depends, Query, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.routing import Match
from starlette.types import Scope

from momok.service.contract.errors import Problem
from momok.service.http.context import Context, context_of
from momok.service.http.problems import MEDIA_TYPE

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")


async def _served(request: Request) -> Context:
    return context_of(request.app)


Served = Annotated[Context, Depends(_served)]


class Parameters(BaseModel):
    """Of a query string; unknown ones are an error, as they were meant to change the answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")


NoParameters = Annotated[Parameters, Query()]


class KeyRoute(APIRoute):
    """Leaves ``…%2Fpicture`` to the details: there the slash belongs to a key that ends in ``/picture``.

    Paths are decoded before they are matched, so only the raw one still tells the two apart.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        name = self.path.rsplit("/", 1)[1]
        if scope.get("raw_path", b"").lower().endswith(b"%2f" + name.encode()):
            return Match.NONE, {}
        return super().matches(scope)


async def read(
    served: Context,
    call: Callable[ParametersT, ResultT],
    *args: ParametersT.args,
    **kwargs: ParametersT.kwargs,
) -> ResultT:
    """The result of a lookup, within the server's time. Raises as ``Lookups.run``."""
    return await served.lookups.run(served.settings.timeout_s, call, *args, **kwargs)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of the problem documents that a route may answer with."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"model": Problem, "content": {MEDIA_TYPE: {"schema": schema}}, "description": "Problem"}
        for status in statuses
    }
