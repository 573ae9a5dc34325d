"""The server's side of a connection, of which nothing stays behind."""

from __future__ import annotations

import gc
import http.client
import json
import threading

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
    config = uvicorn.Config(
        app, http=guarded(30, lambda: None, lambda peer: None), log_config=None, ws="none", lifespan="off"
    )
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
