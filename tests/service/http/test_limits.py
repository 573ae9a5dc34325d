"""Limits: bodies, connections and clients that ask for too much."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import sleep
from typing import Any

import pytest
from starlette.testclient import TestClient

from momok.service.answering.answerer import Answerer
from momok.service.contract.errors import RateLimited
from momok.service.contract.schemas import EntitiesOut
from momok.service.http.app import create_app
from momok.service.http.limiter import MOST_CLIENTS, Limiter
from momok.service.http.limits import CROWDED, WHOLE, Guard
from momok.service.http.routes.context import SEARCHES
from momok.service.settings import Settings
from tests.service.builders import Made
from tests.service.http.test_api import PREDICT, problem
from tests.service.http.test_overload import until

GOOD = {"queries": [{"head": "e1", "relation": "r0"}]}


@pytest.fixture
def client(made: Made) -> Iterator[TestClient]:
    settings = Settings(
        bundle=made.path, device="cpu", max_body_bytes=1000, rate_limit=0.5, rate_burst=3, max_queries=3
    )
    with TestClient(create_app(settings)) as client:
        yield client


def test_a_body_that_says_it_is_too_large_is_refused(client: TestClient) -> None:
    response = client.post(PREDICT, content=b"x" * 1001)
    assert problem(response, 413)["type"] == "urn:momok:problem:too-large"
    assert response.headers["connection"] == "close"


def test_a_body_that_turns_out_too_large_is_refused(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield b"x" * 100

    problem(client.post(PREDICT, content=chunks()), 413)


def test_a_body_of_just_the_size_is_read(client: TestClient) -> None:
    content = json.dumps(GOOD).encode().ljust(1000)
    headers = {"content-type": "application/json"}
    assert client.post(PREDICT, content=content, headers=headers).status_code == 200
    parts = iter([content[:7], content[7:]])
    assert client.post(PREDICT, content=parts, headers=headers).status_code == 200


def test_a_client_that_asks_too_much_is_told_when_to_come_back(client: TestClient) -> None:
    several = {"queries": GOOD["queries"] * 2}
    assert client.post(PREDICT, json=several).status_code == 200
    response = client.post(PREDICT, json=several)
    document = problem(response, 429)
    assert document["type"] == "urn:momok:problem:rate-limited"
    assert 1000 < document["retry_after_ms"] <= 2000, "one token more, at one in two seconds"
    assert response.headers["retry-after"] == "2"
    assert client.post(PREDICT, json=GOOD).status_code == 200


def test_every_search_takes_a_token(client: TestClient) -> None:
    for _ in range(3):
        assert client.get("/v1/entities", params={"search": "entity"}).status_code == 200
    assert problem(client.get("/v1/entities"), 429)["type"] == "urn:momok:problem:rate-limited"
    problem(client.post(PREDICT, json=GOOD), 429)
    assert client.get("/v1/entities/e1").status_code == 200, "to be looked up costs no search"


def test_more_searches_than_are_made_at_a_time_wait_and_are_answered(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    answerer = Answerer.open(made.path, "cpu", "scan")
    entities, go = answerer.graph.entities, threading.Event()
    at_work: list[int] = []
    most = 0

    def slowly(*arguments: Any) -> EntitiesOut:
        nonlocal most
        at_work.append(1)
        most = max(most, len(at_work))
        assert go.wait(20)
        sleep(0.02)  # So that those who waited would be seen beside each other.
        at_work.pop()
        return entities(*arguments)

    monkeypatch.setattr(answerer.graph, "entities", slowly)
    app = create_app(Settings(bundle=made.path, device="cpu"), answerer)
    num_searches = SEARCHES + 4
    with TestClient(app) as client, ThreadPoolExecutor(num_searches) as pool:
        found = [
            pool.submit(client.get, "/v1/entities", params={"search": f"Entity {index}"})
            for index in range(10, 10 + num_searches)
        ]
        until(lambda: f"momok_requests_in_flight {num_searches + 1}.0" in client.get("/metrics").text)
        assert client.post(PREDICT, json=GOOD).status_code == 200, "they hold up nobody else"
        go.set()
        keys = [future.result().json()["entities"][0]["key"] for future in found]
    assert keys == [f"e{index}" for index in range(10, 10 + num_searches)]
    assert most == SEARCHES


def test_a_bucket_fills_up_to_its_size() -> None:
    now = 0.0
    limiter = Limiter(rate=2, burst=4, now=lambda: now)
    limiter.admit("a", 4)
    with pytest.raises(RateLimited) as refused:
        limiter.admit("a", 1)
    assert refused.value.retry_after_s == pytest.approx(0.5)
    limiter.admit("b", 4)
    now = 1.0
    limiter.admit("a", 2)
    now = 100.0
    limiter.admit("a", 5)  # More than a bucket holds takes all of it, or could never be had.
    with pytest.raises(RateLimited):
        limiter.admit("a", 1)


def test_clients_without_end_do_not_fill_the_memory() -> None:
    limiter = Limiter(rate=1, burst=1)
    for index in range(MOST_CLIENTS + 50):
        limiter.admit(str(index), 1)
    assert len(limiter._buckets) == MOST_CLIENTS


def test_nobody_is_limited_by_default() -> None:
    limiter = Limiter(rate=0, burst=1)
    for _ in range(100):
        limiter.admit("a", 64)


def ask(
    parts: list[dict[str, Any]], *, state: dict[str, Any] | None = None, path: str = "/"
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """What a guarded app sends, and the bodies that came through; ``parts`` arrive, then nothing does."""
    passed: list[bytes] = []
    sent: list[dict[str, Any]] = []

    async def app(
        scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        passed.append((await receive())["body"])

    async def receive() -> dict[str, Any]:
        return parts.pop(0) if parts else await asyncio.Future()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "state": state or {},
        "headers": [(b"transfer-encoding", b"chunked")],
    }  # fmt: skip
    asyncio.run(Guard(app, max_bytes=10, timeout_s=0.02)(scope, receive, send))
    return sent, passed


def part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_comes_in_one_piece() -> None:
    assert ask([part(b"ab"), part(b"cd"), part(b"", more=False)]) == ([], [b"abcd"])


def test_a_body_that_has_come_whole_is_asked_for_once() -> None:
    follows = part(b"of another")
    parts = [part(b"abcd", more=False), follows]
    assert ask(parts, state={WHOLE: True}) == ([], [b"abcd"])
    assert parts == [follows]
    assert ask([{"type": "http.disconnect"}], state={WHOLE: True}) == ([], [])


def test_a_body_that_has_come_whole_and_is_too_large_is_refused_and_not_waited_for() -> None:
    follows = part(b"of another")
    parts = [part(b"x" * 11, more=False), follows]
    sent, passed = ask(parts, state={WHOLE: True})
    assert passed == [] and sent[0]["status"] == 413
    assert parts == [follows], "there is nothing left to read"
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_a_body_that_dribbles_is_given_up() -> None:
    sent, passed = ask([part(b"a")])
    assert passed == []
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_a_client_that_leaves_is_not_answered() -> None:
    assert ask([part(b"a"), {"type": "http.disconnect"}]) == ([], [])


def test_one_connection_too_many_is_refused_but_for_probes() -> None:
    whole = part(b"", more=False)
    sent, passed = ask([whole], state={CROWDED: True}, path="/v1/predict")
    assert (sent[0]["status"], passed) == (503, [])
    assert ask([whole], state={CROWDED: True}, path="/livez") == ([], [b""])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_queue": 63}, "max_queue 63 is below max_queries 64"),
        ({"rate_limit": 1.0, "rate_burst": 5}, "rate_burst 5 is below max_queries 64"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(made: Made, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(bundle=made.path, **wrong)
