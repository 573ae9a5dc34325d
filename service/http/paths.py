"""Paths: the documented routes, as the layers before routing need to know them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.types import Scope

UNMATCHED = "unmatched"
"""The route of requests that no route takes: callers cannot make label values."""
PROBES = frozenset({"/livez", "/readyz", "/startupz"})
METRICS = "/metrics"
WATCHED = PROBES | {METRICS}
"""Answered on any connection: a crowd of clients must not look like a failure."""
DOCUMENTATION = ("/docs", "/openapi.json", "/static-offline-docs/")
ADMIN = "/admin"

_PARAMETER = re.compile(r"\\\{[a-z]+\\\}")


class Paths:
    """``documented``: the paths of an OpenAPI document, more special ones first."""

    def __init__(self, documented: Mapping[str, Mapping[str, Any]]) -> None:
        self.operations = [
            (method.upper(), path) for path, methods in documented.items() for method in methods
        ]
        self._exact = {path: path for path in documented if "{" not in path}
        self._patterns = [
            (re.compile(_PARAMETER.sub(".+", re.escape(path)), re.DOTALL), path)
            for path in documented
            if "{" in path
        ]
        self._posts = {path for method, path in self.operations if method == "POST"}

    def route(self, path: str) -> str:
        """The template of a path, ``UNMATCHED`` without one."""
        if (exact := self._exact.get(path)) is not None:
            return exact
        return next((route for pattern, route in self._patterns if pattern.fullmatch(path)), UNMATCHED)

    def methods(self, route: str) -> list[str]:
        """Of a documented route, HEAD wherever GET; empty for others."""
        documented = [method for method, path in self.operations if path == route]
        return [*documented, "HEAD"] if "GET" in documented else documented

    def takes_body(self, method: str, route: str) -> bool:
        return method == "POST" and route in self._posts


def path_of(scope: Scope) -> str:
    """The path below the prefix that a proxy has taken off (``root_path``)."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"
