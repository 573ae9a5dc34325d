"""How answers leave: in one piece, and whole whatever was asked and however."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.wire import GOOD, Server, answer, get, post, server

BODY = json.dumps(GOOD).encode()


@pytest.fixture(scope="module")
def to(bundles: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(bundles[0], tmp_path_factory.mktemp("answers")) as to:
        yield to


def test_several_requests_at_once_are_answered_in_order(to: Server) -> None:
    async def ask() -> list[tuple[int, bytes]]:
        reader, writer = await to.connect()
        writer.write(get("/livez") + post("/v1/predict", BODY) + get("/nowhere") + get("/v1/relations"))
        answers = [await answer(reader) for _ in range(4)]
        writer.close()
        return answers

    answers = asyncio.run(ask())
    assert [status for status, _ in answers] == [200, 200, 404, 200]
    assert "answers" in json.loads(answers[1][1]) and "relations" in json.loads(answers[3][1])


def test_an_answer_without_a_body_is_sent(to: Server) -> None:
    async def ask() -> bytes:
        reader, writer = await to.connect()
        writer.write(get("/livez").replace(b"GET", b"HEAD", 1) + get("/livez"))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        status, _ = await asyncio.wait_for(answer(reader), 20)
        assert status == 200, "on the same connection"
        writer.close()
        return head

    assert asyncio.run(ask()).startswith(b"HTTP/1.1 200 ")


def test_who_waits_to_be_asked_for_a_body_is_asked(to: Server) -> None:
    async def ask() -> tuple[int, bytes]:
        reader, writer = await to.connect()
        whole = post("/v1/predict", BODY, "expect: 100-continue")
        writer.write(whole[: -len(BODY)])
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(BODY)
        found = await asyncio.wait_for(answer(reader), 20)
        writer.close()
        return found

    status, body = asyncio.run(ask())
    assert status == 200 and json.loads(body)["answers"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/nowhere", "/metrics"])
def test_who_has_nothing_more_to_ask_is_answered(to: Server, path: str) -> None:
    async def ask() -> list[int]:
        statuses = []
        for _ in range(10):
            reader, writer = await to.connect()
            writer.write(get(path))
            writer.write_eof()
            status, body = await asyncio.wait_for(answer(reader), 20)
            assert body
            statuses.append(status)
            writer.close()
        return statuses

    assert asyncio.run(ask()) == [404 if path == "/nowhere" else 200] * 10


def test_who_sends_no_body_is_not_asked_for_one(to: Server) -> None:
    async def ask() -> tuple[int, bytes]:
        reader, writer = await to.connect()
        writer.write(get("/livez").replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n"))
        found = await asyncio.wait_for(answer(reader), 20)
        writer.close()
        return found

    assert asyncio.run(ask()) == (200, b"alive\n")


def test_the_last_answer_of_a_connection_is_sent_before_it_closes(to: Server) -> None:
    async def ask() -> bytes:
        reader, writer = await to.connect()
        writer.write(post("/v1/predict", BODY, "connection: close"))
        found = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return found

    head, _, body = asyncio.run(ask()).partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert json.loads(body)["answers"]
