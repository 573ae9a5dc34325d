"""Exchanging the bundle of a running app: what is served when, and what is left of the old one."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import shutil
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from momok.model.bundle.bundle import MANIFEST, WEIGHTS, Bundle
from momok.model.networks.base import LinkPredictor
from momok.service.answering.answerer import Answerer
from momok.service.contract.errors import Starting
from momok.service.contract.schemas import PredictRequest
from momok.service.deployment import deployment as module
from momok.service.deployment.deployment import Deployment
from momok.service.http.app import create_app, unloaded_app
from momok.service.http.context import context_of
from momok.service.settings import Settings
from tests.service.builders import ADMIN, admin_settings, make_bundle
from tests.service.http.test_api import PREDICT, problem
from tests.service.http.test_overload import broken, until
from tests.service.local_client import LocalClient
from tests.service.threads import in_thread

GOOD = {"queries": [{"head": "e1", "relation": "r0"}]}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return [
        make_bundle(folder / name, decision="sum", seed=seed).path for seed, name in enumerate(("one", "two"))
    ]


@pytest.fixture
def link(tmp_path: Path, bundles: list[Path]) -> Path:
    path = tmp_path / "current"
    path.symlink_to(bundles[0])
    return path


@pytest.fixture
def client(link: Path) -> Iterator[TestClient]:
    with LocalClient(
        create_app(admin_settings(link)),
        raise_server_exceptions=False,
    ) as client:
        yield client


def turn(link: Path, target: Path) -> None:
    """As deployments do it: at no time does the link lead nowhere."""
    new = link.with_suffix(".new")
    new.symlink_to(target)
    new.replace(link)


def versions(bundles: list[Path]) -> list[str]:
    return [Answerer.open(path, "cpu").reference().version for path in bundles]


def served(client: TestClient) -> str:
    version: str = client.post(PREDICT, json=GOOD).json()["model"]["version"]
    return version


def reloads(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("momok_reloads_total")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in found}


@contextmanager
def nothing_kept() -> Iterator[None]:
    """What is loaded within and not served is gone at the end, before the collector's own time comes."""

    def loaded() -> set[int]:
        kinds = (Answerer, Bundle, LinkPredictor)
        return {id(thing) for thing in gc.get_objects() if issubclass(type(thing), kinds)}

    gc.collect()
    gc.disable()
    try:
        before = loaded()
        yield
        assert loaded() <= before
    finally:
        gc.enable()


def slow_loading(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Says that loading has begun, and lets it end, from now on."""
    begun, go = threading.Event(), threading.Event()
    warm = Answerer.warm

    def slowly(answerer: Answerer) -> None:
        begun.set()
        assert go.wait(20)
        warm(answerer)

    monkeypatch.setattr(Answerer, "warm", slowly)
    return begun, go


def damage(bundle: Path) -> None:
    weights = bytearray((bundle / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (bundle / WEIGHTS).write_bytes(weights)


def spoil_golden(bundle: Path) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    manifest["golden"][1]["scores"][0] += 1
    (bundle / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def test_reload_and_rollback(client: TestClient, link: Path, bundles: list[Path]) -> None:
    one, two = versions(bundles)
    assert served(client) == one
    assert (
        problem(client.post("/admin/rollback", headers=ADMIN), 422)["type"]
        == "urn:momok:problem:bundle-refused"
    )
    turn(link, bundles[1])
    assert served(client) == one, "until it is told to"
    assert client.post("/admin/reload", headers=ADMIN).json()["version"] == two
    assert served(client) == two == client.get("/v1/model").json()["version"]
    assert f'version="{two}"}} 1.0' in client.get("/metrics").text
    assert f'version="{one}"' not in client.get("/metrics").text
    for expected in (one, two, one):
        assert client.post("/admin/rollback", headers=ADMIN).json()["version"] == expected
        assert served(client) == expected
    assert client.post("/admin/reload", headers=ADMIN).json()["version"] == two, "what the link leads to"
    assert reloads(client) == {"swapped": 5, "refused": 1, "failed": 0, "busy": 0, "revived": 0}


def test_reloading_the_same_bundle_keeps_what_was_before(
    client: TestClient, link: Path, bundles: list[Path]
) -> None:
    one, _ = versions(bundles)
    turn(link, bundles[1])
    for _ in range(2):
        client.post("/admin/reload", headers=ADMIN)
    assert client.post("/admin/rollback", headers=ADMIN).json()["version"] == one


@pytest.mark.parametrize("wrong", ["damaged", "missing", "golden"])
def test_a_bundle_that_cannot_be_served_leaves_the_old_one(
    client: TestClient, link: Path, bundles: list[Path], tmp_path: Path, wrong: str
) -> None:
    one, _ = versions(bundles)
    bad = make_bundle(tmp_path / "bad", decision="sum", seed=5).path
    if wrong == "damaged":
        damage(bad)
    elif wrong == "golden":
        spoil_golden(bad)
    turn(link, tmp_path / "nowhere" if wrong == "missing" else bad)
    with nothing_kept():
        document = problem(client.post("/admin/reload", headers=ADMIN), 422)
    words = {"damaged": WEIGHTS, "missing": "no such directory", "golden": "a golden query scores"}
    assert words[wrong] in document["detail"]
    assert served(client) == one
    assert client.get("/readyz").status_code == 200
    assert reloads(client)["refused"] == 1


def test_a_failure_of_ours_leaves_the_old_one_too(
    client: TestClient, bundles: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    warm = Answerer.warm
    with monkeypatch.context() as patched, nothing_kept():
        patched.setattr(Answerer, "warm", lambda answerer: (warm(answerer), 1 / 0))
        problem(client.post("/admin/reload", headers=ADMIN), 500)
    assert "could not be loaded" in caplog.text
    assert reloads(client)["failed"] == 1
    assert client.post("/admin/reload", headers=ADMIN).status_code == 200


def test_two_reloads_at_once_are_a_conflict(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = slow_loading(monkeypatch)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(client.post("/admin/reload", headers=ADMIN)))
    thread.start()
    assert begun.wait(20)
    for path in ("/admin/reload", "/admin/rollback"):
        assert problem(client.post(path, headers=ADMIN), 409)["type"] == "urn:momok:problem:reload-busy"
    assert client.post(PREDICT, json=GOOD).status_code == 200, "loading holds nobody up"
    go.set()
    thread.join(20)
    assert answers[0].status_code == 200
    assert reloads(client) == {"swapped": 1, "refused": 0, "failed": 0, "busy": 2, "revived": 0}


def test_requests_in_work_end_with_the_bundle_they_began_with(
    client: TestClient, link: Path, bundles: list[Path]
) -> None:
    one, two = versions(bundles)
    app: Any = client.app
    old = context_of(app).answerer
    scorer: Any = old._scorer
    begun, go, score = threading.Event(), threading.Event(), scorer._scorer.write

    def slowly(questions: Any) -> Any:
        begun.set()
        assert go.wait(20)
        return score(questions)

    old.answer = in_thread(slowly)  # type: ignore
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(client.post(PREDICT, json=GOOD)))
    thread.start()
    assert begun.wait(20)
    turn(link, bundles[1])
    assert client.post("/admin/reload", headers=ADMIN).status_code == 200
    go.set()
    thread.join(20)
    assert answers[0].json()["model"]["version"] == one
    assert served(client) == two
    expected = Answerer.open(bundles[0], "cpu")
    queries = expected.resolve(request())
    assert answers[0].content == expected.render(asyncio.run(expected.answer(queries)))


def with_memory_of_it(client: TestClient, answerer: Answerer, before: str) -> None:
    """Ask ``answerer`` once: an error that was raised keeps what it went through."""
    gc.disable()
    if before == "answered":
        assert served(client)
        return
    scorer: Any = answerer._scorer
    score = scorer._scorer.write
    if before == "failed":
        answerer.answer = in_thread(broken)  # type: ignore[method-assign,assignment]
        assert client.post(PREDICT, json=GOOD).status_code == 500
    else:
        go = threading.Event()

        def slowly(questions: Any) -> Any:
            assert go.wait(20)
            return score(questions)

        answerer.answer = in_thread(slowly)  # type: ignore
        assert client.post(PREDICT, json=GOOD, headers={"X-Request-Timeout-Ms": "50"}).status_code == 408
        go.set()
    del answerer.answer
    assert served(client)


def request() -> PredictRequest:
    return PredictRequest.model_validate(GOOD)


@pytest.mark.parametrize("before", ["answered", "failed", "late"])
def test_nothing_of_the_old_bundle_is_left(
    client: TestClient, link: Path, bundles: list[Path], before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pytest keeps what is logged, and so the errors.
    monkeypatch.setattr(logging.getLogger("momok.service"), "disabled", True)
    app: Any = client.app
    answerer = context_of(app).answerer
    with_memory_of_it(client, answerer, before)
    thread: Any = answerer._scorer
    scorer = thread._scorer
    parts: list[Any] = [answerer, scorer._model, answerer.bundle.vocabulary, scorer._table.joined_NX]
    left = [weakref.ref(part) for part in (*parts, scorer)]
    del thread, scorer, parts
    del answerer
    turn(link, bundles[1])
    try:  # Its memory is free, and can be handed back, as soon as it serves no more.
        assert client.post("/admin/reload", headers=ADMIN).status_code == 200
        assert served(client)
        assert [reference() for reference in left] == [None] * 5
    finally:
        gc.enable()


def test_a_turned_link_is_noticed(
    link: Path, bundles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCH_S", 0.01)
    one, two = versions(bundles)
    with LocalClient(create_app(admin_settings(link, watch=True))) as client:
        assert served(client) == one
        turn(link, bundles[1])
        until(lambda: served(client) == two)
        bad = make_bundle(tmp_path / "bad", decision="sum", seed=5).path
        damage(bad)
        turn(link, bad)
        until(lambda: reloads(client)["refused"] > 0)
        assert client.post("/admin/rollback", headers=ADMIN).json()["version"] == one
        link.unlink()
        turn(link, bundles[1])
        until(lambda: served(client) == two)
        assert reloads(client) == {"swapped": 3, "refused": 1, "failed": 0, "busy": 0, "revived": 0}, (
            "each once"
        )


def test_a_bundle_replaced_in_its_place_is_noticed(
    tmp_path: Path, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCH_S", 0.01)
    place = make_bundle(tmp_path / "place", decision="sum").path
    with LocalClient(create_app(admin_settings(place, watch=True))) as client:
        before = served(client)
        make_bundle(tmp_path / "other", decision="sum", seed=9)
        place.rename(tmp_path / "gone")
        (tmp_path / "other").rename(place)
        until(lambda: served(client) != before)


def test_a_link_turned_while_another_bundle_is_loaded_is_not_lost(
    link: Path, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCH_S", 0.01)
    _, expected = versions(bundles)
    with LocalClient(create_app(admin_settings(link, watch=True))) as client, ThreadPoolExecutor(1) as pool:
        begun, go = slow_loading(monkeypatch)
        other = pool.submit(client.post, "/admin/reload", headers=ADMIN)
        assert begun.wait(20)
        turn(link, bundles[1])
        until(lambda: reloads(client)["busy"] > 0)
        go.set()
        assert other.result().status_code == 200
        until(lambda: served(client) == expected)


def test_a_link_turned_before_a_rollback_is_not_lost(
    client: TestClient, link: Path, bundles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollback does not follow the link, so what the link leads to is still to be served."""
    monkeypatch.setattr(module, "WATCH_S", 0.01)
    third = make_bundle(tmp_path / "three", decision="sum", seed=7).path
    (expected,) = versions([third])
    turn(link, bundles[1])
    assert client.post("/admin/reload", headers=ADMIN).status_code == 200
    turn(link, third)
    assert client.post("/admin/rollback", headers=ADMIN).status_code == 200
    app: Any = client.app
    threading.Thread(target=context_of(app).deployment.watch, daemon=True).start()
    until(lambda: served(client) == expected)


class Apart:
    """Opens bundles as if processes of these numbers scored with them."""

    def __init__(self) -> None:
        self.pid = 100

    def __call__(self, settings: Settings, path: Path, on_end: Any) -> Answerer:
        self.pid += 1
        answerer = Answerer.open(path, settings.device)
        answerer.scorer_pids = (self.pid,)
        return answerer


def test_another_process_scores_where_one_has_ended(link: Path) -> None:
    results: list[str] = []
    deployment = Deployment(admin_settings(link), Apart(), on_reload=results.append)
    deployment.start()
    assert deployment.scorer_pids == (101,)
    deployment._revive(7, "by signal 9")
    assert (deployment.scorer_pids[0], results) == (101, []), "of a bundle that was exchanged"
    deployment._revive(101, "by signal 9")
    assert (deployment.scorer_pids[0], results) == (102, ["revived"])
    assert deployment.trouble is None
    deployment.close()
    deployment._revive(102, "by signal 9")
    assert deployment.scorer_pids == (102,), "nothing begins while the server ends"


def test_a_process_that_ends_before_its_bundle_is_served_is_replaced_too(link: Path) -> None:
    ended: list[threading.Thread] = []

    def end(answerer: Answerer) -> None:
        (pid,) = answerer.scorer_pids
        ended.append(threading.Thread(target=deployment._revive, args=(pid, "by signal 11")))
        if pid == 101:
            ended[0].start()

    deployment = Deployment(admin_settings(link), Apart(), on_swap=end)
    deployment.start()
    ended[0].join(20)
    assert deployment.scorer_pids == (102,)
    assert deployment.is_ready


def test_nobody_is_sent_to_a_process_that_has_ended(link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = Deployment(admin_settings(link), Apart())
    deployment.start()
    begun, go = slow_loading(monkeypatch)
    reload = threading.Thread(target=deployment.reload)
    reload.start()
    assert begun.wait(20)
    revive = threading.Thread(target=deployment._revive, args=(101, "by signal 9"))
    revive.start()  # Waits for the reload, but says so at once.
    until(lambda: not deployment.is_ready)
    with pytest.raises(Starting):
        assert deployment.answerer
    go.set()
    for thread in (reload, revive):
        thread.join(20)
    assert deployment.is_ready
    assert deployment.scorer_pids == (102,), "that of the reload; none is started in vain"


def test_processes_that_end_again_and_again_are_not_replaced_for_ever(link: Path) -> None:
    deployment = Deployment(admin_settings(link), Apart())
    troubles: list[str] = []
    deployment.on_trouble = troubles.append
    deployment.start()
    for _ in range(module.MOST_REVIVALS):
        deployment._revive(deployment.scorer_pids[0], "by signal 11")
    assert troubles == []
    deployment._revive(deployment.scorer_pids[0], "by signal 11")
    assert troubles == ["the scoring process has ended again, by signal 11"] == [deployment.trouble]


def test_a_server_whose_scorer_cannot_be_replaced_should_be_given_up(
    tmp_path: Path, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES_S", (0, 0))
    path = make_bundle(tmp_path / "bundle", decision="sum").path
    app = unloaded_app(admin_settings(path), Apart())
    deployment = context_of(app).deployment
    deployment.start()
    with LocalClient(app) as client:
        assert client.get("/livez").status_code == 200
        damage(path)
        deployment._revive(deployment.scorer_pids[0], "by signal 9")
        assert "no scorer can be started" in problem(client.get("/livez"), 503)["detail"]
        assert problem(client.get("/readyz"), 503)["type"] == "urn:momok:problem:starting"
        assert problem(client.post(PREDICT, json=GOOD), 503)["type"] == "urn:momok:problem:starting"
        assert "momok_scorer_alive 0.0" in client.get("/metrics").text
        shutil.rmtree(path)
        shutil.copytree(bundles[0], path)
        assert client.post("/admin/reload", headers=ADMIN).status_code == 200
        assert {client.get(path).status_code for path in ("/livez", "/readyz")} == {200}
