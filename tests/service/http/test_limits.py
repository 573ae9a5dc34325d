"""Limits: bodies, connections and clients that ask for too much."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import sleep
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Receive

from momok.service.answering.answerer import Answerer
from momok.service.contract.errors import RateLimited, TooLarge, TooSlow
from momok.service.contract.schemas import EntitiesOut
from momok.service.http.app import create_app, unloaded_app
from momok.service.http.body import read_body
from momok.service.http.connections import Connections
from momok.service.http.exchange import network_of
from momok.service.http.limiter import MOST_CLIENTS, Limiter
from momok.service.http.lookups import THREADS, WAITING
from momok.service.settings import Settings
from tests.service.builders import Made
from tests.service.http.test_api import PREDICT, problem
from tests.service.http.test_overload import until
from tests.service.local_client import LocalClient

GOOD = {"queries": [{"head": "e1", "relation": "r0"}]}


@pytest.fixture
def client(made: Made) -> Iterator[TestClient]:
    settings = Settings(
        bundle=made.path, device="cpu", max_body_bytes=1000, rate_limit=0.5, rate_burst=3, max_queries=3
    )
    with LocalClient(create_app(settings)) as client:
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


def test_every_request_takes_a_token(client: TestClient) -> None:
    for path in ("/v1/entities?search=entity", "/v1/entities/e1", "/v1/nowhere"):
        assert client.get(path).status_code != 429
    assert problem(client.get("/v1/entities"), 429)["type"] == "urn:momok:problem:rate-limited"
    problem(client.post(PREDICT, content=b"{"), 429)
    assert client.get("/livez").status_code == 200


def test_a_request_of_several_queries_takes_as_many_tokens(client: TestClient) -> None:
    assert client.post(PREDICT, json={"queries": GOOD["queries"] * 3}).status_code == 200
    problem(client.get("/v1/model"), 429)


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
    num_searches = THREADS + 4
    with LocalClient(app) as client, ThreadPoolExecutor(num_searches) as pool:
        found = [
            pool.submit(client.get, "/v1/entities", params={"search": f"Entity {index}"})
            for index in range(10, 10 + num_searches)
        ]
        until(lambda: f"momok_requests_in_flight {num_searches + 1}.0" in client.get("/metrics").text)
        assert client.post(PREDICT, json=GOOD).status_code == 200, "they hold up nobody else"
        go.set()
        keys = [future.result().json()["entities"][0]["key"] for future in found]
    assert keys == [f"e{index}" for index in range(10, 10 + num_searches)]
    assert most == THREADS


def test_lookups_beyond_those_that_may_wait_are_refused(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    answerer, go = Answerer.open(made.path, "cpu", "scan"), threading.Event()
    monkeypatch.setattr(answerer.graph, "relations", lambda: go.wait(20))
    app = create_app(Settings(bundle=made.path, device="cpu", timeout_s=0.3), answerer)
    with LocalClient(app, raise_server_exceptions=False) as client, ThreadPoolExecutor(WAITING) as pool:
        waiting = [pool.submit(client.get, "/v1/relations") for _ in range(WAITING)]
        assert {future.result().status_code for future in waiting} == {504}, "each within its time"
        stuck = [pool.submit(client.get, "/v1/relations") for _ in range(THREADS)]
        assert {future.result().status_code for future in stuck} <= {504, 429}
        go.set()
        until(lambda: client.get("/v1/model").status_code == 200)


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


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("a:b", "a:b"),
    ],
)
def test_an_address_counts_as_the_network_that_its_owner_has(address: str, network: str) -> None:
    assert network_of(address) == network


def test_nobody_is_limited_by_default() -> None:
    limiter = Limiter(rate=0, burst=1)
    for _ in range(100):
        limiter.admit("a", 64)


def arriving(*parts: dict[str, Any]) -> Receive:
    """These messages, then nothing."""
    left = list(parts)

    async def receive() -> dict[str, Any]:
        return left.pop(0) if left else await asyncio.Future()

    return receive


def read(*parts: dict[str, Any]) -> bytes | None:
    return asyncio.run(read_body(arriving(*parts), max_bytes=10, timeout_s=0.02))


def part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_is_read_whole() -> None:
    assert read(part(b"ab"), part(b"cd"), part(b"", more=False)) == b"abcd"


def test_a_body_that_dribbles_is_given_up() -> None:
    with pytest.raises(TooSlow, match="1 bytes came in"):
        read(part(b"a"))


def test_a_body_is_read_no_further_than_its_limit() -> None:
    follows = part(b"of another")
    receive = arriving(part(b"x" * 11), follows)
    with pytest.raises(TooLarge):
        asyncio.run(read_body(receive, max_bytes=10, timeout_s=1))

    async def next_part() -> Any:
        return await receive()

    assert asyncio.run(next_part()) == follows


def test_a_client_that_leaves_has_no_body() -> None:
    assert read(part(b"a"), {"type": "http.disconnect"}) is None


def test_a_compressed_body_is_refused_by_name(client: TestClient) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    document = problem(client.post(PREDICT, content=b"x", headers=headers), 415)
    assert "'gzip'" in document["detail"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/v1/model", "/nowhere"])
def test_a_path_that_takes_no_body_reads_none(client: TestClient, path: str) -> None:
    for method in ("DELETE", "POST") if path == "/nowhere" else ("GET",):
        response = client.request(method, path, content=b"x")
        assert problem(response, 413)["detail"] == "this path takes no body"
        assert response.headers["connection"] == "close"


def test_one_connection_too_many_is_refused_but_for_probes(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = unloaded_app(Settings(bundle=made.path, device="cpu"))
    monkeypatch.setattr(Connections, "is_surplus", lambda connections, peer: True)
    with LocalClient(app) as client:
        document = problem(client.post(PREDICT, json=GOOD), 503)
        assert document["type"] == "urn:momok:problem:too-many-connections"
        assert client.get("/livez").status_code == client.get("/metrics").status_code == 200


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
