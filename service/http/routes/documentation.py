"""GET /docs: a form for every route, which needs no network and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import re

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import Response

STATIC = "/static-offline-docs"


def install(app: FastAPI) -> None:
    """The page of an app; its scripts and styles are those that ``FastAPIOffline`` has mounted."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=f"{app.title} API",
        swagger_js_url=f"{STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{STATIC}/favicon.png",
        swagger_ui_parameters={"persistAuthorization": False},
    ).body
    policy = _policy(bytes(page).decode())
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def documentation() -> Response:
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": policy})

    app.include_router(router)


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
