"""What requests meet when the scorer is busy, slow, gone wrong, or not there yet."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from fastapi import FastAPI
from starlette.testclient import TestClient

from momok.model.answer import Query
from momok.service.answering.answerer import Answerer
from momok.service.http.app import create_app, unloaded_app
from momok.service.http.context import context_of
from momok.service.http.parsing import MOST_MS
from momok.service.scorer.question import Question, Written
from momok.service.settings import Settings
from tests.service.builders import Made
from tests.service.http.test_api import PREDICT, pointers, problem
from tests.service.local_client import LocalClient
from tests.service.threads import in_thread

GOOD = {"queries": [{"head": "e1", "relation": "r0"}]}
POISON = {"queries": [{"head": "e13", "relation": "r0"}]}


class Faulty:
    """In the place of ``Answerer.answer``: waits for a gate, and fails for entity 13."""

    def __init__(self, answerer: Answerer, error: Exception) -> None:
        scorer: Any = answerer._scorer
        self.score: Callable[[Sequence[Question]], list[Written]] = scorer._scorer.write
        self.error = error
        self.open = threading.Event()
        self.open.set()
        self.asked: list[int] = []

    def __call__(self, questions: Sequence[Question]) -> list[Written]:
        assert self.open.wait(20)
        entities = [question.query.entity for question in questions]
        self.asked += entities
        if 13 in entities:
            raise self.error
        return self.score(questions)


def broken(questions: Sequence[Question]) -> list[Written]:
    raise RuntimeError("nothing can be scored")


@contextmanager
def faulty(
    made: Made, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None, **limits: Any
) -> Iterator[tuple[TestClient, Faulty, FastAPI]]:
    answerer = Answerer.open(made.path, "cpu")
    score = Faulty(answerer, error or RuntimeError("poison"))
    monkeypatch.setattr(answerer, "answer", in_thread(score))
    monkeypatch.setattr(answerer, "check", in_thread(lambda: score.score([Question(Query(1, 0, 1))])))
    app = create_app(Settings(bundle=made.path, device="cpu", **limits), answerer)
    with LocalClient(app, raise_server_exceptions=False) as client:
        try:
            yield client, score, app
        finally:
            score.open.set()


@contextmanager
def waiting(
    client: TestClient, score: Faulty, app: FastAPI, bodies: Sequence[Any]
) -> Iterator[list[Future[Any]]]:
    """These requests wait behind one that is being scored, while the block lasts."""
    scorer = context_of(app).scorer
    score.open.clear()
    with ThreadPoolExecutor(len(bodies) + 1) as pool:
        first = pool.submit(client.post, PREDICT, json=GOOD)
        until(lambda: scorer.busy_s > 0)
        futures = [pool.submit(client.post, PREDICT, json=body) for body in bodies]
        until(lambda: scorer.queued == sum(len(body["queries"]) for body in bodies))
        try:
            yield futures
        finally:
            score.open.set()
        assert first.result().status_code == 200


def until(condition: Callable[[], bool]) -> None:
    async def poll() -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.002)

    asyncio.run(poll())


def test_a_poisonous_query_fails_alone(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty(made, monkeypatch) as (client, score, app):
        with waiting(client, score, app, [GOOD, POISON, GOOD]) as futures:
            pass
        assert [future.result().status_code for future in futures] == [200, 500, 200]
        assert client.post(PREDICT, json=GOOD).status_code == 200
        assert client.get("/livez").status_code == 200


def test_a_full_queue_is_a_429_at_once_and_liveness_stays(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(made, monkeypatch, max_queue=2, max_queries=2) as (client, score, app):
        with waiting(client, score, app, [GOOD, GOOD]) as futures:
            response = client.post(PREDICT, json=GOOD)
            document = problem(response, 429)
            assert document["type"] == "urn:momok:problem:queue-full"
            assert document["retry_after_ms"] >= 0
            assert int(response.headers["retry-after"]) >= 1
            unknown = {"queries": [{"head": "nobody", "relation": "r0"}]}
            # No name is looked up for what has no room.
            problem(client.post(PREDICT, json=unknown), 429)
            nobodys = {"facts": [{"head": "nobody", "relation": "r0", "tail": "e1"}]}
            problem(client.post("/v1/score", json=nobodys), 429)
            problem(client.post("/v1/relations/rank", json={"head": "nobody", "tail": "e1"}), 429)
            assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
        assert [future.result().status_code for future in futures] == [200, 200]


def test_a_deadline_of_the_client_is_told_and_the_work_is_not_done(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(made, monkeypatch) as (client, score, app):
        with waiting(client, score, app, []):
            late = {"queries": [{"head": "e7", "relation": "r0"}]}
            response = client.post(PREDICT, json=late, headers={"X-Request-Timeout-Ms": "20"})
            assert problem(response, 408)["type"] == "urn:momok:problem:client-deadline"
        assert client.post(PREDICT, json=GOOD).status_code == 200
    assert 7 not in score.asked


def test_a_deadline_of_the_server_is_a_504(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty(made, monkeypatch, timeout_s=0.05) as (client, score, _):
        score.open.clear()
        for headers in ({}, {"X-Request-Timeout-Ms": "60000"}):
            response = client.post(PREDICT, json=GOOD, headers=headers)
            assert problem(response, 504)["type"] == "urn:momok:problem:deadline-exceeded"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PREDICT, GOOD),
        ("/v1/score", {"facts": [{"head": "e1", "relation": "r0", "tail": "e2"}]}),
        ("/v1/relations/rank", {"head": "e1", "tail": "e2"}),
    ],
    ids=["predict", "score", "rank"],
)
@pytest.mark.parametrize(
    "given",
    ["0", "-5", "soon", "1.5", str(MOST_MS + 1), str(10**30), "9" * 5000, "\u0663"],
    ids=lambda given: repr(given)[:12],
)
def test_a_senseless_deadline_is_refused(
    client: TestClient, path: str, body: dict[str, Any], given: str
) -> None:
    response = client.post(path, json=body, headers={b"x-request-timeout-ms": given.encode()})
    assert pointers(problem(response, 422)) == ["X-Request-Timeout-Ms"]
    assert len(response.content) < 1000, "what was sent is not sent back at length"


def test_the_longest_deadline_is_taken(client: TestClient) -> None:
    headers = {"X-Request-Timeout-Ms": str(MOST_MS)}
    assert client.post(PREDICT, json=GOOD, headers=headers).status_code == 200


def test_a_deadline_cannot_be_longer_than_the_servers(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty(made, monkeypatch, timeout_s=0.05) as (client, score, _):
        score.open.clear()
        response = client.post(PREDICT, json=GOOD, headers={"X-Request-Timeout-Ms": "60000"})
        assert "within 0.0" in problem(response, 504)["detail"]


def test_the_work_of_a_client_that_left_is_not_done(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty(made, monkeypatch) as (client, score, app):
        with waiting(client, score, app, []):
            left = asyncio.run(disconnecting(app, b'{"queries":[{"head":"e7","relation":"r0"}]}'))
            assert left == [499], "for the log alone"
            assert context_of(app).scorer.queued == 0
        assert client.post(PREDICT, json=GOOD).status_code == 200
        assert 'momok_rejected_total{reason="client-gone"} 1.0' in client.get("/metrics").text
    assert 7 not in score.asked


async def disconnecting(app: FastAPI, body: bytes) -> list[int]:
    """The statuses sent to a client that leaves as soon as its query waits."""
    statuses: list[int] = []
    messages: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        while not context_of(app).scorer.queued:
            await asyncio.sleep(0.002)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {
        "type": "http", "method": "POST", "path": PREDICT, "raw_path": PREDICT.encode(), "headers": headers,
        "query_string": b"", "root_path": "", "http_version": "1.1", "scheme": "http", "state": {},
    }  # fmt: skip
    await app(scope, receive, send)
    return statuses


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("no room")])
def test_too_little_memory_is_a_503(made: Made, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    with faulty(made, monkeypatch, error) as (client, _, _app):
        response = client.post(PREDICT, json=POISON)
        assert problem(response, 503)["type"] == "urn:momok:problem:out-of-memory"
        assert client.post(PREDICT, json=GOOD).status_code == 200


def test_a_scorer_that_keeps_failing_is_not_alive_until_it_answers(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(made, monkeypatch, max_failures=3) as (client, score, _):
        right = score.score
        score.score = broken
        for expected in (200, 200, 503):
            problem(client.post(PREDICT, json=GOOD), 500)
            assert client.get("/livez").status_code == client.get("/readyz").status_code == expected
        assert problem(client.get("/livez"), 503)["type"] == "urn:momok:problem:not-alive"
        score.score = right
        assert client.post(PREDICT, json=GOOD).status_code == 200
        assert client.get("/livez").status_code == 200


def test_one_who_sends_poison_again_and_again_does_not_end_the_server(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(made, monkeypatch, max_failures=2) as (client, _, _app):
        for _ in range(5):
            problem(client.post(PREDICT, json=POISON), 500)
        assert client.get("/livez").status_code == 200


def test_a_batch_that_does_not_end_is_not_alive(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        faulty(made, monkeypatch, stuck_s=0.05) as (client, score, app),
        waiting(client, score, app, []),
    ):
        until(lambda: client.get("/livez").status_code == 503)
        assert "at one batch" in problem(client.get("/livez"), 503)["detail"]


def test_before_the_bundle_is_loaded_only_probes_answer(made: Made) -> None:
    app = unloaded_app(Settings(bundle=made.path, device="cpu"))
    with LocalClient(app) as client:
        assert client.get("/livez").status_code == 200
        for path in ("/readyz", "/startupz", "/v1/model", "/v1/entities/e1", "/v1/relations"):
            response = client.get(path)
            assert problem(response, 503)["type"] == "urn:momok:problem:starting"
            assert response.headers["retry-after"] == "2"
        problem(client.post(PREDICT, json=GOOD), 503)
        assert "momok_ready 0.0" in client.get("/metrics").text
        context_of(app).deployment.start()
        for path in ("/readyz", "/startupz", "/v1/model"):
            assert client.get(path).status_code == 200
        assert client.post(PREDICT, json=GOOD).status_code == 200
        assert "momok_ready 1.0" in client.get("/metrics").text


def test_while_draining_it_is_not_ready_but_alive(made: Made) -> None:
    app = create_app(Settings(bundle=made.path, device="cpu"))
    with LocalClient(app) as client:
        context_of(app).deployment.draining = True
        assert problem(client.get("/readyz"), 503)["type"] == "urn:momok:problem:draining"
        assert client.get("/livez").status_code == client.get("/startupz").status_code == 200
        assert client.post(PREDICT, json=GOOD).status_code == 200, "what still comes is answered"


def test_a_prediction_says_how_long_its_stages_took(made: Made) -> None:
    with LocalClient(create_app(Settings(bundle=made.path, device="cpu"))) as client:
        timing = client.post(PREDICT, json=GOOD).headers["server-timing"]
    stages = dict(item.split(";dur=") for item in timing.split(", "))
    assert set(stages) == {"resolve", "encode", "search", "rescore", "serialise", "queue"}
    assert all(float(taken_ms) >= 0 for taken_ms in stages.values())
