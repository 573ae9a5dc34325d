"""HTTP by hand, so that it can be done wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.processes import serving

GOOD = {"queries": [{"head": "e1", "relation": "r0"}], "k": 5}


class Server:
    """A real server process, and ways to talk to it."""

    def __init__(self, url: str, process: Popen[bytes]) -> None:
        self.url, self.process = url, process
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        self.host, self.port = parts.hostname, parts.port

    @property
    def scorer_pid(self) -> int:
        """The process that scores for this one; those of bundles that nobody asks any more end soon."""
        deadline = monotonic() + 20
        while len(children := children_of(self.process.pid)) != 1:
            assert monotonic() < deadline, children
            sleep(0.01)
        return children[0]

    @property
    def rss_bytes(self) -> int:
        """Of both."""
        return sum(map(rss_bytes, (self.process.pid, self.scorer_pid)))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """The status and body of the answer to one request on a connection of its own."""
        reader, writer = await self.connect()
        try:
            writer.write(request)
            return await answer(reader)
        finally:
            writer.close()

    async def predict(self, body: Any = GOOD) -> tuple[int, Any]:
        status, content = await self.ask(post("/v1/predict", json.dumps(body).encode()))
        return status, json.loads(content)

    async def metric(self, series: str) -> float:
        _, text = await self.ask(get("/metrics"))
        return sum(float(line.split()[-1]) for line in text.decode().splitlines() if line.startswith(series))


@contextmanager
def server(bundle: Path, tmp_path: Path, *flags: object) -> Iterator[Server]:
    with serving(bundle, tmp_path, "--log-level", "warning", *flags) as (url, process):
        yield Server(url, process)


def children_of(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for threads in lists for child in threads.read_text().split()]


def rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    raise AssertionError(f"process {pid} has ended")


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()


def post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json",
        f"content-length: {len(body) if length is None else length}", *headers,
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(path: str, *chunks: bytes) -> bytes:
    head = "\r\n".join([f"POST {path} HTTP/1.1", "host: localhost", "transfer-encoding: chunked", "", ""])
    return head.encode() + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body; status 0 where the server closed the connection without one."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0, b""
    status = int(head.split(" ", 2)[1])
    if status == 100:
        return await answer(reader)
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
    return status, await reader.readexactly(int(fields.get("content-length", "0")))
