"""GET /docs: a form for every route, which needs no network and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import Response

STATIC = "/static-offline-docs"


def install(app: FastAPI) -> None:
    """The page of an app; its scripts and styles are those that ``FastAPIOffline`` has mounted."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def documentation(request: Request) -> Response:
        page, policy = _page(app.title, request.scope.get("root_path", ""))
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": policy})

    app.include_router(router)


@lru_cache(maxsize=1)
def _page(title: str, prefix: str) -> tuple[bytes, str]:
    """The page below a prefix, and its policy."""
    page = get_swagger_ui_html(
        openapi_url=f"{prefix}/openapi.json",
        title=f"{title} API",
        swagger_js_url=f"{prefix}{STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{prefix}{STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{prefix}{STATIC}/favicon.png",
        swagger_ui_parameters={"persistAuthorization": False},
    ).body
    return bytes(page), _policy(bytes(page).decode())


def _policy(page: str) -> str:
    """What the page may load: its own files, its one script by hash, and styles that Swagger UI sets."""
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' {' '.join(repr(f'sha256-{digest}') for digest in hashes)}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
