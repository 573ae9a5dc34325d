"""serve: the app behind a socket, until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from time import sleep
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from momok.model.bundle.bundle import read_manifest
from momok.model.errors import UserError
from momok.service.contract.failures import ScorerEnded
from momok.service.deployment.deployment import Deployment
from momok.service.deployment.opening import open_apart, open_here
from momok.service.http.app import unloaded_app
from momok.service.http.context import Context, context_of
from momok.service.http.protocol import guarded
from momok.service.monitoring import logs
from momok.service.settings import Settings

if TYPE_CHECKING:
    from momok.service.answering.answerer import Answerer

SWITCH_S = 1e-4
"""How long a thread may keep Python's lock from another, instead of Python's own 5 ms: one that loads a
bundle would hold up the event loop, and a flood of requests to refuse would starve a scorer that is a thread,
which asks for the lock after each operation."""
ACCEPTED = 16
"""Connections taken in a round of the event loop. It takes one from each socket that listens (libuv since
2022), and in a flood, when hundreds connect, a round takes milliseconds."""
GARBAGE = 20_000
"""New objects before a look for garbage: an answer alone makes some hundred."""
GRACE_S = 30
"""How long a stopping server waits for requests in flight."""
KEEP_ALIVE_S = 75
"""How long a connection may be idle: longer than the proxies in front of us keep theirs."""


def serve(
    settings: Settings,
    announce: Callable[[str], None],
    *,
    first_call: Callable[[str, Answerer], None] | None = None,
) -> None:
    """Listen, load the bundle, call ``announce(url)``, and serve until SIGINT or SIGTERM.

    While it loads, ``/startupz`` and ``/readyz`` say so. ``first_call(url, answerer)`` runs in a thread of
    its own beside the server. Raises ``BundleError``, or ``UserError`` where the port cannot be had or what
    scores ends again and again.
    """
    _on_signals(_leave)
    _check_tls(settings)
    read_manifest(settings.bundle)  # What is no bundle at all is told before anyone can connect.
    logs.configure(settings.log_format, settings.log_level)
    app = unloaded_app(settings, open_apart if settings.scorer == "process" else open_here)
    context = context_of(app)
    listener = _listen(settings.host, settings.port)
    scheme = "http" if settings.tls_cert is None else "https"
    url = f"{scheme}://{_authority(settings.host, listener.getsockname()[1])}"
    server = _Server(_config(app, settings, context), context.deployment)
    # While it runs uvicorn has handlers of its own, which drain; then it raises the signal again, for these.
    _on_signals(lambda *_: setattr(server, "should_exit", True))

    def loaded() -> None:
        announce(url)
        if first_call is not None:
            first_call(url, context.answerer)

    start = _Start(context.deployment, server, loaded)
    context.deployment.on_trouble = start.fail
    # What imports have made stays: to look through it for garbage again would stop all requests for long.
    gc.freeze()
    gc.set_threshold(GARBAGE, *gc.get_threshold()[1:])
    sys.setswitchinterval(SWITCH_S)
    with listener:
        start.begin()
        server.run(sockets=several(listener))
    if start.error is not None:
        raise start.error


class _Server(uvicorn.Server):
    """Tells the deployment of the signals that concern it."""

    def __init__(self, config: uvicorn.Config, deployment: Deployment) -> None:
        super().__init__(config)
        self._deployment = deployment

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._deployment.reload_soon)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._deployment.draining = True
        super().handle_exit(sig, frame)


class _Start:
    """Loads the bundle beside the listening server, which ends if that fails; ``error`` says why."""

    def __init__(self, deployment: Deployment, server: uvicorn.Server, loaded: Callable[[], None]) -> None:
        self.error: BaseException | None = None
        self._deployment, self._server, self._loaded = deployment, server, loaded

    def begin(self) -> None:
        threading.Thread(target=self._run, name="start", daemon=True).start()

    def fail(self, reason: str) -> None:
        """End the server, so that its supervisor can start it again."""
        self.error = UserError(reason)
        self._server.should_exit = True

    def _run(self) -> None:
        try:
            self._deployment.start()
        except ScorerEnded as error:
            self.fail(str(error))
            return
        except BaseException as error:  # Raised again in the main thread.
            self.error = error
            self._server.should_exit = True
            return
        while not self._server.started and not self._server.should_exit:
            sleep(0.01)
        if not self._server.should_exit:
            self._loaded()


def _config(app: object, settings: Settings, context: Context) -> uvicorn.Config:
    slow = context.metrics.rejected["slow-header"]
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=guarded(settings.receive_timeout_s, settings.max_connections, slow.inc),
        ws="none",
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
        root_path=settings.root_path,
        proxy_headers=False,  # The peer is the client, whatever its headers claim.
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


def _on_signals(handler: Callable[[int, FrameType | None], object]) -> None:
    # As process 1 of a container there is no default that would end us while loading.
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


def several(listener: socket.socket) -> list[socket.socket]:
    """``ACCEPTED`` handles of one queue of connections."""
    return [listener, *(listener.dup() for _ in range(ACCEPTED - 1))]


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
