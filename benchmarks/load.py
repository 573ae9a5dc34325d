"""Load on a server: wrk, which saturates it, an open loop, which asks at a fixed rate, and a lone client."""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import numpy as np
import uvloop

CONNECTIONS = 64


def lua(bodies: Sequence[bytes]) -> str:
    """A script by which wrk sends one body after the other."""
    table = ",\n".join(f"[==[{body.decode()}]==]" for body in bodies)
    return (
        f'local bodies = {{\n{table}\n}}\nlocal place = 0\nwrk.method = "POST"\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
        "request = function()\n  place = place % #bodies + 1\n"
        "  return wrk.format(nil, nil, nil, bodies[place])\nend\n"
        'done = function(summary)\n  io.write(string.format("answered %d in %d us, refused %d\\n",'
        " summary.requests, summary.duration, summary.errors.status))\nend\n"
    )


def wrk_command(url: str, script: Path, seconds: float, connections: int = CONNECTIONS) -> list[str]:
    duration = f"{max(1, round(seconds))}s"
    return ["wrk", "-t1", f"-c{connections}", f"-d{duration}", "-s", str(script), url]


def wrk(url: str, script: Path, seconds: float, connections: int = CONNECTIONS) -> float:
    """Successful requests a second at saturation."""
    command = wrk_command(url, script, seconds, connections)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"answered (\d+) in (\d+) us, refused (\d+)", done.stdout)
    assert found, done.stdout
    answered, taken_us, refused = map(int, found.groups())
    return (answered - refused) / (taken_us / 1e6)


class Reply:
    """``seconds`` from when the request should have left."""

    def __init__(self, status: int, seconds: float) -> None:
        self.status, self.seconds = status, seconds


def open_loop(url: str, bodies: Sequence[bytes] | None, rate: float, seconds: float) -> list[Reply]:
    """Requests at a fixed rate: ``/v1/predict`` with these bodies, or ``/livez``."""
    client, requests = _Client(url), _requests(bodies)
    return uvloop.run(client.open_loop(requests, rate, seconds))


def one_client(url: str, bodies: Sequence[bytes], seconds: float) -> list[Reply]:
    """One request at a time, the next as soon as the last is answered."""
    client, requests = _Client(url), _requests(bodies)
    return uvloop.run(client.in_turn(requests, seconds))


def _requests(bodies: Sequence[bytes] | None) -> list[bytes]:
    head = "host: localhost\r\ncontent-type: application/json\r\n"
    if bodies is None:
        return [f"GET /livez HTTP/1.1\r\n{head}\r\n".encode()]
    return [
        f"POST /v1/predict HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body
        for body in bodies
    ]


class _Client:
    def __init__(self, url: str) -> None:
        # Looking through all that this process has imported takes 0.2 s, which answers would seem to take.
        gc.freeze()
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._replies: list[Reply] = []

    async def in_turn(self, requests: Sequence[bytes], seconds: float) -> list[Reply]:
        end = perf_counter() + seconds
        for request in cycle(requests):
            if (now := perf_counter()) > end:
                break
            await self._ask(request, now)
        return self._ended()

    async def open_loop(self, requests: Sequence[bytes], rate: float, seconds: float) -> list[Reply]:
        tasks = set()
        began = perf_counter()
        for number in range(int(rate * seconds)):
            due = began + number / rate
            if (early := due - perf_counter()) > 0:
                await asyncio.sleep(early)
            tasks.add(asyncio.create_task(self._ask(requests[number % len(requests)], due)))
        await asyncio.gather(*tasks)
        return self._ended()

    def _ended(self) -> list[Reply]:
        for _, writer in self._idle:
            writer.close()
        return self._replies

    async def _ask(self, request: bytes, due: float) -> None:
        reader, writer = (
            self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
        )
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head)
        await reader.readexactly(int(found[1]) if found else 0)
        self._replies.append(Reply(int(head[9:12]), perf_counter() - due))
        if b"connection: close" in head.lower():
            writer.close()
        else:
            self._idle.append((reader, writer))


def percentile(replies: Sequence[Reply], percent: float) -> float:
    return 1e3 * float(np.percentile([reply.seconds for reply in replies], percent))
