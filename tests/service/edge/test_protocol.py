"""The server's side of a connection, of which nothing stays behind."""

from __future__ import annotations

import gc
import http.client
import json
import socket
import threading
from contextlib import suppress

import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from momok.service.answering.answerer import Answerer
from momok.service.edge.protocol import guarded
from momok.service.edge.server import _listen
from momok.service.http.app import create_app
from momok.service.settings import Settings
from tests.service.builders import Made
from tests.service.http.test_overload import GOOD, until

REQUESTS = 50


def test_a_request_leaves_nothing_for_the_collector_of_garbage(made: Made) -> None:
    app = create_app(Settings(bundle=made.path, device="cpu"), Answerer.open(made.path, "cpu"))
    config = uvicorn.Config(app, http=guarded(30, lambda: None), log_config=None, ws="none", lifespan="off")
    server = uvicorn.Server(config)
    with _listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        until(lambda: server.started)
        connection = http.client.HTTPConnection(*listener.getsockname())
        gc.collect()
        gc.disable()
        try:
            for _ in range(REQUESTS):
                connection.request(
                    "POST", "/v1/predict", json.dumps(GOOD), {"content-type": "application/json"}
                )
                assert connection.getresponse().read()
            alive = sum(type(item) is RequestResponseCycle for item in gc.get_objects())
        finally:
            gc.enable()
            connection.close()
            server.should_exit = True
            thread.join()
    assert alive < REQUESTS / 5


def test_deadlines_limits_and_refusals_of_the_protocol(made: Made) -> None:
    """By hand over a socket: a header too slow, one too long, one pipelined, and no HTTP."""
    slow: list[int] = []
    app = create_app(Settings(bundle=made.path, device="cpu"), Answerer.open(made.path, "cpu"))
    protocol = guarded(0.3, lambda: slow.append(1))
    server = uvicorn.Server(uvicorn.Config(app, http=protocol, log_config=None, ws="none", lifespan="off"))
    with _listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        until(lambda: server.started)
        address = listener.getsockname()
        try:
            assert said(address, b"GET /livez HTTP/1.1\r\nhost: localhost\r\n") == b""
            assert slow == [1]
            assert said(address, b"GET /livez HTTP/1.1\r\nx: " + b"y" * 70_000) == b""
            assert slow == [1, 1]
            assert b"unreadable-request" in said(address, b"no HTTP\r\n\r\n")
            whole = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
            answered = said(address, whole, b"GET /livez HTTP/1.1\r\n")
            assert answered.endswith(b"alive\n"), "the first is answered, the second is given up"
            assert slow == [1, 1, 1]
        finally:
            server.should_exit = True
            thread.join()


def said(address: tuple[str, int], *sent: bytes) -> bytes:
    """All that a connection gets until the server closes it; a piece is sent after an answer to the last."""
    first, *others = sent
    received = b""
    with socket.create_connection(address, timeout=20) as connection, suppress(ConnectionError):
        connection.sendall(first)
        while piece := connection.recv(65_536):
            received += piece
            if others:
                connection.sendall(others.pop(0))
    return received
