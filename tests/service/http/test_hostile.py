"""Hostile requests: each part of a body or a query string, blown up to the byte limit, is refused shortly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from momok.service.http.app import build_api, create_app
from momok.service.http.problems import MOST_BYTES
from momok.service.settings import Settings
from tests.service.builders import Made

LIMIT = Settings.model_fields["max_body_bytes"].default
TICK_S = 0.005
MOST_HELD_S = 0.4
"""The event loop is held for less than 50 ms (docs/log); a busy machine may take several times as long."""

GOOD: dict[str, dict[str, Any]] = {
    "/v1/predict": {
        "queries": [{"head": "e1", "relation": "r0", "tail": None}], "k": 3, "exclude_known": True,
        "candidates": ["e1", "e2"], "min_score": 0.5, "explain": True,
    },
    "/v1/score": {"facts": [{"head": "e1", "relation": "r0", "tail": "e2"}], "explain": True},
    "/v1/relations/rank": {"head": "e1", "tail": "e2", "k": 3, "explain": True},
}  # fmt: skip
"""A body of each route that takes one, with every field."""

BLOWN_UP = {
    "objects": "[" + "{}," * 1_300_000 + "{}]",
    "wrong objects": "[" + '{"a":1},' * 500_000 + "{}]",
    "numbers": "[" + "1," * 2_000_000 + "1]",
    "texts": "[" + '"a",' * 1_000_000 + '"a"]',
    "deep lists": "[" * 2_000_000 + "]" * 2_000_000,
    "deep objects": '{"a":' * 690_000 + "1" + "}" * 690_000,
    "long text": '"' + "z" * 4_100_000 + '"',
    "text of separators": '"' + "[{,," * 1_000_000 + '"',
    "escaped text": '"' + "\\u0041" * 690_000 + '"',
    "unclosed text": "[" + "1," * 30_000 + '"' + '\\"' * 1_900_000,
    "long number": "9" * 4_100_000,
    "long fraction": "0." + "9" * 4_000_000,
    "keys": "{" + ",".join(f'"k{index}":1' for index in range(300_000)) + "}",
    "long key": '{"' + "z" * 4_100_000 + '":1}',
}


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a body, the whole first."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from places(part, (*path, name))


def with_text(value: Any, path: tuple[str | int, ...], text: str) -> str:
    """The JSON of a body with ``text`` in one place."""
    if not path:
        return text
    name, *rest = path
    parts = {
        key: with_text(part, tuple(rest), text) if key == name else json.dumps(part)
        for key, part in (value.items() if isinstance(value, dict) else enumerate(value))
    }
    if isinstance(value, list):
        return f"[{','.join(parts.values())}]"
    return f"{{{','.join(f'{json.dumps(key)}:{part}' for key, part in parts.items())}}}"


CASES = [(route, path) for route, body in GOOD.items() for path in places(body)]


@pytest.fixture(scope="module")
def app(made: Made) -> FastAPI:
    return create_app(Settings(bundle=made.path, device="cpu", engine="scan"))


async def _sent(app: FastAPI, requests: list[dict[str, Any]]) -> tuple[list[httpx.Response], float]:
    """The answers, and the longest time that the event loop was held."""
    longest, done = 0.0, False

    async def tick() -> None:
        nonlocal longest
        while not done:
            began = perf_counter()
            await asyncio.sleep(TICK_S)
            longest = max(longest, perf_counter() - began - TICK_S)

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        ticking = asyncio.create_task(tick())
        answers = [await client.request(**request) for request in requests]
        alive = await client.get("/livez")
        done = True
        await ticking
    assert alive.status_code == 200
    return answers, longest


def test_every_route_with_a_body_is_tried() -> None:
    documented = build_api().openapi()["paths"].items()
    assert {path for path, methods in documented if "requestBody" in methods.get("post", {})} == set(GOOD)


@pytest.mark.parametrize("kind", BLOWN_UP)
def test_a_blown_up_body_is_refused_shortly(app: FastAPI, kind: str) -> None:
    bodies = [(route, with_text(GOOD[route], path, BLOWN_UP[kind]).encode()) for route, path in CASES]
    assert max(len(body) for _, body in bodies) <= LIMIT
    requests = [
        {"method": "POST", "url": route, "content": body, "headers": {"content-type": "application/json"}}
        for route, body in bodies
    ]
    answers, longest = asyncio.run(_sent(app, requests))
    for (route, path), answer in zip(CASES, answers, strict=True):
        fits = kind == "long fraction" and path == ("min_score",)
        assert answer.status_code == (200 if fits else 422), f"{route} {path}: {answer.text[:200]}"
        assert len(answer.content) <= MOST_BYTES, f"{route} {path}"
        assert "z" * 65 not in answer.text
    assert longest < MOST_HELD_S


@pytest.mark.parametrize(
    "path", ["/v1/entities", "/v1/entities/e1/neighbors", "/v1/model", "/livez", "/v1/predict"]
)
def test_a_blown_up_query_string_is_refused_shortly(app: FastAPI, path: str) -> None:
    strings = ["a&" * 30_000, "a=1&" * 15_000, "search=" + "z" * 60_000, "x" * 60_000, "limit=1&" * 7_000]
    strings.append("&".join(f"a{index}=1" for index in range(7_000)))
    method = "POST" if path == "/v1/predict" else "GET"
    headers = {"content-type": "application/json"}
    requests = [
        {"method": method, "url": f"{path}?{string}", "headers": headers}
        | ({"content": json.dumps(GOOD[path])} if method == "POST" else {})
        for string in strings
    ]
    answers, longest = asyncio.run(_sent(app, requests))
    for answer in answers:
        assert answer.status_code in (200, 422) if "entities" in path else answer.status_code == 422
        assert len(answer.content) <= MOST_BYTES
    assert longest < MOST_HELD_S


def test_many_wrong_names_are_told_in_little_room(app: FastAPI) -> None:
    body = {"queries": [{"head": "z" * 1000, "relation": "y" * 1000}] * 64, "candidates": ["x" * 300] * 9_000}
    requests = [{"method": "POST", "url": "/v1/predict", "json": body}]
    (answer,), longest = asyncio.run(_sent(app, requests))
    assert answer.status_code == 422 and len(answer.json()["errors"]) == 20
    assert len(answer.content) <= MOST_BYTES
    assert longest < MOST_HELD_S
