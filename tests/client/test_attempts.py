"""When a call is tried again, and when it is given up: by a clock that the test moves."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from momok.client import calls
from momok.client.attempts import FIRST_PAUSE_S, LONGEST_PAUSE_S, Attempts
from momok.client.errors import DeadlineExceeded, ProblemError, Unreachable


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def attempts(clock: Clock, call: Any = None, deadline_s: float = 10.0) -> Attempts:
    return Attempts(call or calls.model(), deadline_s, now=clock, chance=lambda: 0.0)


def problem(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": f"urn:momok:problem:{kind}", "title": "T", "detail": "d", **fields}).encode()


def test_the_server_is_told_how_long_its_answer_is_waited_for() -> None:
    clock = Clock()
    one = attempts(clock, calls.predict([{"head": "a", "relation": "r"}], {"k": 3}))
    clock.time = 4.0
    with httpx.Client(base_url="http://host/kg/") as client:
        request = one.request(client)
    assert request.headers["x-request-timeout-ms"] == "6000"
    assert str(request.url) == "http://host/kg/v1/predict"
    assert json.loads(request.content)["k"] == 3
    assert request.extensions["timeout"]["read"] == 6.0


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    one = attempts(Clock())
    assert one.refused(429, problem("queue-full", retry_after_ms=1500)) == 1.5
    assert one.refused(503, problem("starting", retry_after_ms=2000)) == 2.0


def test_pauses_grow_where_nothing_is_said_and_have_a_random_part() -> None:
    clock = Clock()
    one = attempts(clock, deadline_s=1000)
    pauses = [one.refused(503, b"<html>") for _ in range(9)]
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S
    late = Attempts(calls.model(), 10, now=clock, chance=lambda: 1.0)
    assert late.refused(429, problem("queue-full", retry_after_ms=1000)) == 1.5


@pytest.mark.parametrize(
    ("status", "kind"), [(422, "invalid-request"), (401, "unauthorized"), (500, "internal-error")]
)
def test_a_refusal_that_stays_is_told(status: int, kind: str) -> None:
    errors = [{"pointer": "/k", "detail": "no", "choices": []}]
    with pytest.raises(ProblemError) as refused:
        attempts(Clock()).refused(status, problem(kind, errors=errors, request_id="7"))
    found = refused.value
    assert (found.status, found.kind, found.request_id, found.errors) == (status, kind, "7", errors)


def test_a_pause_beyond_the_deadline_is_not_waited_for() -> None:
    clock = Clock()
    one = attempts(clock)
    clock.time = 9.0
    with pytest.raises(DeadlineExceeded) as late:
        one.refused(503, problem("starting", retry_after_ms=2000))
    assert isinstance(late.value.__cause__, ProblemError)
    with pytest.raises(DeadlineExceeded):
        attempts(clock).refused(408, problem("client-deadline"))


def test_a_server_that_is_away_is_tried_until_the_deadline() -> None:
    clock = Clock()
    one = attempts(clock)
    assert one.lost(httpx.ConnectError("refused")) == FIRST_PAUSE_S
    assert one.lost(httpx.ReadError("reset")) == 2 * FIRST_PAUSE_S
    clock.time = 9.99
    with pytest.raises(Unreachable):
        one.lost(httpx.ConnectError("refused"))
    clock.time = 10.0
    with pytest.raises(DeadlineExceeded):
        one.lost(httpx.ReadTimeout("slow"))


def test_what_changes_the_server_is_not_done_twice() -> None:
    call = calls.administer("reload")
    assert attempts(Clock(), call).lost(httpx.ConnectError("refused")) == FIRST_PAUSE_S
    with pytest.raises(Unreachable, match="may have been done"):
        attempts(Clock(), call).lost(httpx.ReadError("reset"))
    with pytest.raises(ProblemError):
        attempts(Clock(), call).refused(503, problem("starting", retry_after_ms=1))


@pytest.mark.parametrize("body", [b"", b"<html>bad gateway</html>", b"[]", b"\xff"])
def test_a_page_of_a_proxy_is_told_as_a_problem(body: bytes) -> None:
    with pytest.raises(ProblemError) as refused:
        attempts(Clock()).refused(404, body)
    assert refused.value.kind == ""
