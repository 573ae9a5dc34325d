"""serve: the app behind a socket, until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from time import sleep
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from momok.model.bundle.bundle import read_manifest
from momok.model.errors import UserError
from momok.service.contract.failures import ScorerEnded
from momok.service.deployment.deployment import Deployment
from momok.service.deployment.opening import open_apart
from momok.service.edge.acceptor import Acceptor
from momok.service.edge.protocol import GuardedProtocol, guarded
from momok.service.edge.tls import read_certificate, tls_of
from momok.service.http.app import unloaded_app
from momok.service.http.context import Context, context_of
from momok.service.monitoring import logs
from momok.service.settings import Settings

if TYPE_CHECKING:
    from momok.service.answering.answerer import Answerer

GARBAGE = 20_000
"""New objects before a look for garbage: an answer alone makes some hundred."""
GRACE_S = 30
"""How long a stopping server waits for requests in flight."""
KEEP_ALIVE_S = 75
"""How long a connection may be idle: longer than the proxies in front of us keep theirs."""
SPARE = 32
"""Connections beyond the limit that are accepted, to be told so and for probes."""
OTHER_FILES = 256
"""Files that a server opens besides its connections: bundles, pictures, the lines to its scorers."""

logger = logging.getLogger("momok.service")


def serve(
    settings: Settings,
    announce: Callable[[str], None],
    *,
    first_call: Callable[[str, Answerer], None] | None = None,
) -> None:
    """Listen, load the bundle, call ``announce(url)``, and serve until SIGINT or SIGTERM.

    While it loads, ``/startupz`` and ``/readyz`` say so. ``first_call(url, answerer)`` runs in a thread of
    its own beside the server. Raises ``BundleError``, or ``UserError`` where the port cannot be had or the
    scorer ends again and again.
    """
    _on_signals(_leave)
    tls = tls_of(settings)
    read_manifest(settings.bundle)  # A path without a bundle is told before anyone can connect.
    logs.configure(settings.log_format, settings.log_level)
    _raise_file_limit(settings.max_connections)
    with _listen(settings.host, settings.port) as listener:
        url = f"{'http' if tls is None else 'https'}://{_authority(settings.host, listener.getsockname()[1])}"
        app = unloaded_app(settings, open_apart)
        context = context_of(app)
        acceptor = Acceptor(
            listener, context.connections, settings.max_connections + SPARE, settings.receive_timeout_s
        )
        server = _Server(_config(app, context), context, acceptor, tls)

        def loaded() -> None:
            announce(url)
            if first_call is not None:
                first_call(url, context.answerer)

        _run(server, _Start(context.deployment, server, loaded))


def _run(server: _Server, start: _Start) -> None:
    # While it runs uvicorn has handlers of its own, which drain; then it raises the signal again, for these.
    _on_signals(lambda *_: setattr(server, "should_exit", True))
    # What imports have made stays: to look through it for garbage again would stop all requests for long.
    gc.freeze()
    gc.set_threshold(GARBAGE, *gc.get_threshold()[1:])
    start.begin()
    server.run(sockets=[])
    if start.error is not None:
        raise start.error


class _Server(uvicorn.Server):
    """Connections come from the acceptor. A first signal makes the server unready and, after ``linger_s``,
    ends it: load balancers still send for a while. A second one ends it at once."""

    def __init__(
        self, config: uvicorn.Config, context: Context, acceptor: Acceptor, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(config)
        self._context, self._acceptor, self._tls = context, acceptor, tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        self._loop = asyncio.get_running_loop()
        self._accepting = self._loop.create_task(self._acceptor.run(self._protocol, self._tls))
        self._loop.add_signal_handler(signal.SIGHUP, self._read_again)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._accepting.cancel()
        await super().shutdown([])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        deployment, linger_s = self._context.deployment, self._context.settings.linger_s
        if deployment.draining or not linger_s or not self.started:
            deployment.draining = True
            super().handle_exit(sig, frame)
            return
        deployment.draining = True
        self._loop.call_soon_threadsafe(self._loop.call_later, linger_s, self._end)

    def _end(self) -> None:
        self.should_exit = True

    def _protocol(self, on_lost: Callable[[], object]) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: GuardedProtocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        protocol.on_lost = on_lost
        return protocol

    def _read_again(self) -> None:
        """The bundle, the keys and the certificate; what is wrong with one leaves its old state in use."""
        self._context.deployment.reload_soon()
        _try("keys", self._context.access.reload)
        if self._tls is not None:
            _try("certificate", partial(read_certificate, self._tls, self._context.settings))


def _try(what: str, read: Callable[[], object]) -> None:
    try:
        read()
    except UserError as error:
        logger.error("%s: the old ones stay in use: %s", what, error)
    else:
        logger.info("%s: read again", what)


class _Start:
    """Loads the bundle beside the listening server, which ends if that fails; ``error`` says why."""

    def __init__(self, deployment: Deployment, server: uvicorn.Server, loaded: Callable[[], None]) -> None:
        self.error: BaseException | None = None
        self._deployment, self._server, self._loaded = deployment, server, loaded
        deployment.on_trouble = self.fail

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


def _config(app: object, context: Context) -> uvicorn.Config:
    settings, slow = context.settings, context.metrics.rejected["slow-header"]
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=guarded(settings.receive_timeout_s, slow.inc),
        ws="none",
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
        root_path=settings.root_path,
        proxy_headers=False,  # The peer is the client, whatever its headers claim.
    )


def _raise_file_limit(max_connections: int) -> None:
    """As far as the system allows: each connection is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + SPARE + OTHER_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < wanted:
        logger.warning(
            "max_connections %d needs %d files, the system allows %d: raise its limit (LimitNOFILE, ulimit)",
            max_connections, wanted, soft,
        )  # fmt: skip


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


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
