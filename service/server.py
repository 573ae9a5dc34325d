"""serve: the app behind a socket, until a signal ends it."""

from __future__ import annotations

import signal
import socket
import ssl
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from model.errors import UserError
from service.app import create_app
from service.routes.context import context_of
from service.settings import Settings

if TYPE_CHECKING:
    from service.answerer import Answerer

GRACE_S = 30
"""How long a stopping server waits for requests in flight."""


def serve(
    settings: Settings,
    announce: Callable[[str], None],
    *,
    first_call: Callable[[str, Answerer], None] | None = None,
) -> None:
    """Load the bundle, listen, call ``announce(url)``, and serve until SIGINT or SIGTERM.

    ``first_call(url, answerer)`` runs in a thread of its own beside the server. Raises ``BundleError``, or
    ``UserError`` where the port cannot be had.
    """
    _on_signals(_leave)  # As process 1 of a container there is no default that would end us while loading.
    _check_tls(settings)
    app = create_app(settings)
    answerer = context_of(app).answerer
    listener = _listen(settings.host, settings.port)
    scheme = "http" if settings.tls_cert is None else "https"
    url = f"{scheme}://{_authority(settings.host, listener.getsockname()[1])}"
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level=settings.log_level,
            access_log=settings.log_level == "debug",
            timeout_graceful_shutdown=GRACE_S,
            server_header=False,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
        )
    )
    # While it runs uvicorn has handlers of its own, which drain; then it raises the signal again, for these.
    _on_signals(lambda *_: setattr(server, "should_exit", True))
    announce(url)
    if first_call is not None:
        threading.Thread(target=first_call, args=(url, answerer), daemon=True).start()
    with listener:
        server.run(sockets=[listener])


def _on_signals(handler: Callable[[int, FrameType | None], object]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot listen on {_authority(host, port)}: {reason}; try another --port") from None


def _check_tls(settings: Settings) -> None:
    """Raises ``UserError`` for files that cannot serve HTTPS, before a bundle is loaded for nothing."""
    if settings.tls_cert is None or settings.tls_key is None:
        return
    for path in (settings.tls_cert, settings.tls_key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_cert, settings.tls_key, password=lambda: ""
        )
    except ssl.SSLError:
        raise UserError(
            f"{settings.tls_cert}, {settings.tls_key}: not a PEM certificate and its unencrypted private key"
        ) from None


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
