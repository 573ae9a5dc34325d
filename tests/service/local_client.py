"""LocalClient: a client of an app in this process, by a name that a server without keys answers to."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient


class LocalClient(TestClient):
    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **({"base_url": "http://localhost"} | options))
