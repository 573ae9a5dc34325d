"""Clients that hold connections without using them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.wire import GOOD, Server, answer, chunked, get, post, server

NUM_ATTACKERS = 40
MAX_CONNECTIONS = 60
MAX_BYTES = 100_000


@pytest.fixture(scope="module")
def to(bundles: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    flags = ("--receive-timeout-s", 0.5, "--max-connections", MAX_CONNECTIONS, "--max-body-bytes", MAX_BYTES)
    with server(bundles[0], tmp_path_factory.mktemp("slow"), *flags) as to:
        yield to


async def dribble(to: Server, start: bytes, drop: bytes) -> tuple[int, bytes]:
    """What is answered to a client that says ``start``, then ``drop`` again and again, and never an end."""
    reader, writer = await to.connect()
    writer.write(start)

    async def go_on() -> None:
        while True:
            await asyncio.sleep(0.05)
            writer.write(drop)

    dropping = asyncio.create_task(go_on())
    try:
        return await asyncio.wait_for(answer(reader), 20)
    finally:
        dropping.cancel()
        writer.close()


@pytest.mark.parametrize(
    ("start", "drop", "status"),
    [
        (b"", b"", 0),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\n", b"a: b\r\n", 0),
        (b"", b"\r\n", 0),
        (b"GET /", b"a", 0),
        (post("/v1/predict", b"", length=10_000), b" ", 408),
        (post("/livez", b"", length=10_000), b" ", 405),
    ],
    ids=["silence", "header", "empty lines", "path", "body", "a body that no route reads"],
)
def test_dribbling_is_ended_while_others_are_served(
    to: Server, start: bytes, drop: bytes, status: int
) -> None:
    async def attack() -> None:
        attackers = [asyncio.create_task(dribble(to, start, drop)) for _ in range(NUM_ATTACKERS)]
        assert (await to.predict())[0] == 200
        assert {found for found, _ in await asyncio.gather(*attackers)} == {status}
        assert (await to.predict())[0] == 200

    asyncio.run(attack())


@pytest.mark.parametrize(
    ("request_of", "status"),
    [
        (post("/v1/predict", b" " * 100, length=10_000), 408),
        (post("/v1/predict", b" " * 100, length=10**9), 413),
        (chunked("/v1/predict", *[b" " * 30_000] * 5)[:-5], 413),
    ],
    ids=["too slow", "said to be too large", "found to be too large"],
)
def test_a_refused_body_ends_its_connection(to: Server, request_of: bytes, status: int) -> None:
    """What follows would be the rest of a body that nobody wants to read."""

    async def send() -> None:
        reader, writer = await to.connect()
        writer.write(request_of)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert int(head.split()[1]) == status
        assert b"\r\nconnection: close\r\n" in head
        rest = await asyncio.wait_for(reader.read(), 20)
        assert json.loads(rest)["status"] == status
        writer.close()

    asyncio.run(send())


def test_a_second_header_has_its_deadline_too(to: Server) -> None:
    async def attack() -> None:
        assert await dribble(to, get("/livez") + b"GET /livez HTTP/1.1\r\n", b"") == (200, b"alive\n")
        reader, writer = await to.connect()
        writer.write(get("/livez"))
        assert (await answer(reader))[0] == 200
        writer.write(b"GET /livez HTTP/1.1\r\n")
        assert await asyncio.wait_for(answer(reader), 20) == (0, b"")
        writer.close()

    asyncio.run(attack())


def test_a_header_without_end_is_not_collected(to: Server) -> None:
    async def attack() -> None:
        reader, writer = await to.connect()
        writer.write(b"GET /livez HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):  # noqa: PT012
            for _ in range(2000):
                writer.write(b"a: " + b"b" * 1000 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0)
            await reader.read()
            raise ConnectionError  # Closed in order, which is as good.
        writer.close()

    asyncio.run(attack())


def test_what_is_no_http_is_told_so(to: Server) -> None:
    status, body = asyncio.run(to.ask(b"\x16\x03\x01 what is this?\r\n\r\n"))
    assert (status, json.loads(body)["type"]) == (400, "urn:momok:problem:unreadable-request")


def test_connections_beyond_the_limit_are_refused_but_for_probes(to: Server) -> None:
    async def crowd() -> None:
        idle = [await to.connect() for _ in range(MAX_CONNECTIONS)]
        for _, writer in idle:  # A finished request each, so that they may stay for long.
            writer.write(get("/livez"))
        assert [(await answer(reader))[0] for reader, _ in idle] == [200] * MAX_CONNECTIONS
        status, document = await to.predict(GOOD)
        assert (status, document["type"]) == (503, "urn:momok:problem:too-many-connections")
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await to.ask(get(path)))[0] == 200
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        while (await to.predict())[0] != 200:
            await asyncio.sleep(0.05)

    asyncio.run(crowd())


def test_the_slow_were_counted(to: Server) -> None:
    assert asyncio.run(to.metric('momok_rejected_total{reason="slow-header"}')) >= NUM_ATTACKERS
    assert asyncio.run(to.metric('momok_rejected_total{reason="request-timeout"}')) >= NUM_ATTACKERS
