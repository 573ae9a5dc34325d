"""examples/client.py: against a real momok server, and one that answers with refusals by plan."""

from __future__ import annotations

import email.utils
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from examples.client import Client, DeadlineExceeded, ProblemError, _pause
from momok.service.http.keys import hash_line, new_key
from tests.e2e.processes import ENVIRONMENT, ROOT, serving
from tests.service.builders import make_bundle

Planned = tuple[int, dict[str, str]]
"""Status and headers of an answer."""


@contextmanager
def planned(answers: Sequence[Planned]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that gives these answers, one after the other, and what it was asked: headers, port, body."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            port = str(self.client_address[1])
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked.append({**headers, "port": port, "body": body.decode()})
            status, given = answers[min(len(asked), len(answers)) - 1]
            content = json.dumps({"answers": [], "title": "Busy", "detail": "later"}).encode()
            self.send_response(status)
            for name, value in {**given, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def test_a_real_server_is_asked_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_bundle(tmp_path / "bundle", decision="sum", renamed={7: "a/b"})
    key = new_key()
    (tmp_path / "keys").write_text(hash_line("test", key), encoding="utf-8")
    with serving(made.path, tmp_path, "--api-keys-file", tmp_path / "keys", "--engine", "scan") as (url, _):
        with Client(url, key=key) as client:
            asked = [{"head": "e1", "relation": "likes"}, {"relation": "likes", "tail": "e2"}]
            answers = client.predict(asked, k=3, explain=False)["answers"]
            assert [len(answer["candidates"]) for answer in answers] == [3, 3]
            assert client.entity("a/b")["label"] == "Entity 7"
            facts = client.score([{"head": "e1", "relation": "likes", "tail": "e2"}])["facts"]
            assert facts[0]["ends"]["tail"]["raw_rank"] >= 1
            with pytest.raises(ProblemError, match=r"422 .*nobody") as refused:
                client.predict([{"head": "nobody", "relation": "likes"}])
            assert refused.value.document["errors"][0]["pointer"] == "/queries/0/head"
        with Client(url) as client, pytest.raises(ProblemError, match="401 "):
            client.entity("e1")
        script = str(ROOT / "examples" / "client.py")
        command = [sys.executable, script, url, "--head", "e1", "--relation", "likes", "-k", "2"]
        told = subprocess.run(
            command,
            env=ENVIRONMENT | {"MOMOK_KEY": key},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert len(told.stdout.splitlines()) == 2
        monkeypatch.setenv("MOMOK_KEY", key)
        with Client(url) as client:
            assert client.entity("e1")["key"] == "e1"


def test_refusals_are_waited_out_over_one_connection() -> None:
    date = email.utils.formatdate(time.time() + 1, usegmt=True)
    answers: list[Planned] = [
        (429, {"Retry-After": "0.2"}),
        (503, {"Retry-After": date}),
        (429, {}),
        (429, {"Retry-After": "soon"}),
        (200, {}),
    ]
    with planned(answers) as (url, asked), Client(url) as client:
        started = time.monotonic()
        assert client.predict([], k=1) == {"answers": [], "title": "Busy", "detail": "later"}
        # Only from below: what the server asked for is waited, whatever else the machine does.
        assert time.monotonic() - started >= 0.2
    assert len(asked) == 5
    assert len({request["port"] for request in asked}) == 1
    assert {request["body"] for request in asked} == {asked[0]["body"]}
    left = [int(request["x-request-timeout-ms"]) for request in asked]
    assert left == sorted(left, reverse=True)
    assert 0 < left[-1] < left[0] <= 30_000


def test_a_deadline_ends_the_waiting_before_it_begins() -> None:
    with planned([(429, {"Retry-After": "3600"})]) as (url, asked), Client(url, deadline_s=5) as client:
        with pytest.raises(DeadlineExceeded, match="still refused"):
            client.predict([])
        assert len(asked) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 500, 504])
def test_what_will_not_get_better_is_not_repeated(status: int) -> None:
    with planned([(status, {"Retry-After": "0"})]) as (url, asked), Client(url) as client:
        with pytest.raises(ProblemError) as refused:
            client.predict([])
        assert refused.value.status == status
        assert len(asked) == 1


def test_pauses_are_spread() -> None:
    pauses = {_pause("1", 0.2) for _ in range(50)}
    assert len(pauses) > 25
    assert all(1 <= pause <= 1.5 for pause in pauses)
    assert all(0.2 <= _pause(None, 0.2) <= 0.3 for _ in range(50))
    assert all(0.2 <= _pause(wrong, 0.2) <= 0.3 for wrong in ("nan", "-1", "soon", ""))
    assert all(0 <= _pause("Mon, 01 Jan 2001 00:00:00 GMT", 0.2) <= 0.1 for _ in range(50))
