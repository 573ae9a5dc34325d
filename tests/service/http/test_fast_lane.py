"""Both ways to a prediction lead to the same answer: past the framework, and through it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from momok.service.http.routes import predict
from tests.service.http.test_api import PREDICT

GOOD = {"head": "e1", "relation": "r0"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"queries": [GOOD, {"relation": "r2", "tail": "Entity 9"}], "k": 3}, 200),
        ({"queries": [GOOD], "candidates": ["e4", "e5"], "exclude_known": False, "explain": False}, 200),
        ({"queries": [GOOD] * 9}, 422),
        ({"queries": [GOOD], "k": 101}, 422),
        ({"queries": [{"head": "Entitty 1", "relation": "r0"}]}, 422),
    ],
)
def test_both_ways_answer_alike(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, body: Any, status: int
) -> None:
    taken: list[bool] = []
    asked = predict._asked

    def noted(*arguments: Any) -> Any:
        found = asked(*arguments)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(predict, "_asked", noted)
    content = json.dumps(body).encode()
    # The framework takes any JSON type, the fast lane the one that everybody sends.
    kinds = ("application/json", "application/vnd.momok+json")
    headers = {"x-request-id": "same"}
    fast, slow = (
        client.post(PREDICT, content=content, headers=headers | {"content-type": kind}) for kind in kinds
    )
    assert taken == [True, False]
    assert fast.status_code == slow.status_code == status
    assert fast.content == slow.content
    assert fast.headers.keys() == slow.headers.keys()
    assert fast.headers["content-type"] == slow.headers["content-type"]


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"content-type": "text/plain"}, b'{"queries": []}'),
        ({"content-type": "application/json"}, b"{"),
        ({"content-type": "application/json"}, b'{"queries": []}'),
        ({"content-type": "application/json", "x-request-timeout-ms": "0"}, b"{}"),
        ({"content-type": "application/json", "x-request-timeout-ms": "soon"}, b"{}"),
        ({}, b""),
    ],
)
def test_what_is_unusual_is_left_to_the_framework(headers: dict[str, str], content: bytes) -> None:
    raw = {name.encode(): value.encode() for name, value in headers.items()}
    message = {"type": "http.request", "body": content, "more_body": False}
    assert predict._asked(raw, message) is None


def test_a_deadline_is_read_in_both(client: TestClient) -> None:
    asked = predict._asked(
        {b"content-type": b"application/json; charset=utf-8", b"x-request-timeout-ms": b"250"},
        {"type": "http.request", "body": json.dumps({"queries": [GOOD]}).encode(), "more_body": False},
    )
    assert asked is not None
    assert asked[1] == 250
