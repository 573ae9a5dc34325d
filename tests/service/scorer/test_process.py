"""A scorer in another process: it answers as one here does, and its end is told."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any

import numpy as np
import pytest

from momok.model.answer import Query
from momok.model.errors import UserError
from momok.service.answering.answerer import Answerer
from momok.service.contract.fact_schemas import RankRelationsRequest, ScoreRequest
from momok.service.contract.failures import ScorerEnded
from momok.service.contract.schemas import PredictRequest
from momok.service.deployment.opening import open_apart
from momok.service.scorer import process as module
from momok.service.scorer.process import ScorerFailed, ScorerProcess, ScorerSpec
from momok.service.scorer.question import Question, Written
from momok.service.scorer.worker import _failure
from momok.service.settings import Settings
from tests.e2e.processes import has_ended
from tests.service.builders import Made
from tests.service.deployment.test_deployment import damage, spoil_golden
from tests.service.http.test_overload import until

ASKED = PredictRequest.model_validate(
    {
        "queries": [{"head": "e1", "relation": "r0"}, {"relation": "r1", "tail": "e2"}],
        "k": 7,
        "exclude_known": False,
    }
)

ONE = [Question(Query(1, 0, 5))]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """A line stays with the event loop that asked first, so there is one."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def spec(made: Made) -> ScorerSpec:
    return ScorerSpec(made.path, "cpu", "scan")


@pytest.fixture(scope="module")
def here(made: Made) -> Answerer:
    answerer = Answerer.open(made.path, "cpu", "scan")
    answerer.warm()  # Relations folded in the same company: else their last digits differ.
    return answerer


@pytest.fixture(scope="module")
def apart(made: Made) -> Answerer:
    answerer = open_apart(Settings(bundle=made.path, device="cpu", engine="scan"), made.path, lambda *_: None)
    answerer.warm()
    return answerer


def test_it_answers_as_one_here_does(apart: Answerer, here: Answerer, run: Run) -> None:
    assert os.getpid() not in apart.scorer_pids and here.scorer_pids == (os.getpid(),)
    for candidates in (None, ["e7", "e9", "e1"], "observed"):
        asked = ASKED.model_copy(update={"candidates": candidates})
        found, expected = (
            json.loads(one.render(run(one.answer(one.resolve(asked))))) for one in (apart, here)
        )
        assert found == expected


def test_it_scores_facts_as_one_here_does(apart: Answerer, here: Answerer, run: Run) -> None:
    asked = ScoreRequest.model_validate({"facts": [{"head": "e1", "relation": "r0", "tail": "e3"}]})
    ids = here.facts.resolve(asked)
    first, second = (one.facts.render(asked, ids, run(one.facts.score(ids))) for one in (apart, here))
    assert first == second
    pair = RankRelationsRequest.model_validate({"head": "e1", "tail": "e6"})
    ranked = [
        one.facts.render_relations(pair, 1, 6, run(one.facts.score_relations(1, 6, range(3))))
        for one in (apart, here)
    ]
    assert ranked[0] == ranked[1]


def test_everything_else_is_told_as_by_one_here(apart: Answerer, here: Answerer) -> None:
    settings = Settings(bundle=here.bundle.path)
    told, expected = apart.describe(settings), here.describe(settings)
    assert told == expected.model_copy(update={"engines": told.engines})
    assert set(told.engines.values()) == {"scan"}
    for name in ("e0", "e1", "e5"):
        assert apart.graph.entity(name) == here.graph.entity(name)
    assert np.array_equal(apart.bundle.present, here.bundle.present)


def test_questions_may_be_sent_ahead(spec: ScorerSpec, here: Answerer) -> None:
    """Whoever fails fails alone."""
    scorer = ScorerProcess(spec)
    asked = [[Question(Query(entity, 0, 5))] * (1 + entity) for entity in range(6)]
    work = [*asked[:3], [Question(Query(10**6, 0, 5))], *asked[3:]]

    async def together() -> list[Any]:
        return await asyncio.gather(*map(scorer.write, work), return_exceptions=True)

    found = asyncio.run(together())
    assert isinstance(found.pop(3), ScorerFailed)
    for answers, questions in zip(found, asked, strict=True):
        expected = [answered(answer) for answer in asyncio.run(here.answer(questions))]
        assert [answered(answer) for answer in answers] == expected


def answered(answer: Written) -> list[str]:
    return [candidate["entity"]["key"] for candidate in json.loads(answer.json)["candidates"]]


def test_a_question_given_up_leaves_it_well(spec: ScorerSpec) -> None:
    scorer = ScorerProcess(spec)

    async def give_up() -> list[Written]:
        asked = asyncio.create_task(scorer.write(ONE))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        return await scorer.write([Question(Query(2, 0, 5))])

    (found,) = asyncio.run(give_up())
    assert json.loads(found.json)["query"]["head"]["key"] == "e2"


def test_a_bundle_that_does_not_answer_as_it_did(made: Made, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(made.path, bad)
    spoil_golden(bad)
    scorer = ScorerProcess(ScorerSpec(bad, "cpu"))
    with pytest.raises(UserError, match="a golden query scores"):
        scorer.verify()
    assert len(asyncio.run(scorer.write(ONE))) == 1, "it is for others to decide what becomes of it"


def test_what_it_cannot_answer_leaves_it_well(spec: ScorerSpec, run: Run) -> None:
    scorer = ScorerProcess(spec)
    with pytest.raises(ScorerFailed, match="index") as failed:
        run(scorer.write([Question(Query(10**6, 0, 5))]))
    assert "Traceback" in failed.value.__notes__[0], "of where it happened"
    assert len(run(scorer.write(ONE))) == 1


def test_errors_arrive_as_what_they_are() -> None:
    for error, kind in ((MemoryError("no room"), MemoryError), (UserError("say it so"), UserError)):
        raised = module._raised(**_failure(error)["failure"])
        assert type(raised) is kind
        assert str(error) in str(raised)
    assert type(module._raised(**_failure(ValueError("odd"))["failure"])) is ScorerFailed


def test_a_bundle_that_is_refused(made: Made, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(made.path, bad)
    damage(bad)
    with pytest.raises(UserError, match=r"weights\.safetensors: its sha256 is not the manifest's"):
        ScorerProcess(ScorerSpec(bad, "cpu"))


def test_one_that_ends_while_it_is_loading(spec: ScorerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORKER", "platform")
    with pytest.raises(ScorerEnded, match="ended with exit code 0"):
        ScorerProcess(spec)


def test_it_ends_with_its_last_reference(spec: ScorerSpec) -> None:
    told = Event()
    scorer = ScorerProcess(spec, lambda *_: told.set())
    pid = scorer.pid
    gc.disable()
    try:
        del scorer
        until(lambda: has_ended(pid))
    finally:
        gc.enable()
    assert not told.wait(0.1), "it did not end unasked"


def test_one_that_is_killed_is_missed(spec: ScorerSpec, run: Run) -> None:
    ended: list[tuple[int, str]] = []
    scorer = ScorerProcess(spec, lambda *told: ended.append(told))
    os.kill(scorer.pid, signal.SIGKILL)
    with pytest.raises(ScorerEnded, match=r"by signal 9; was there enough memory\?"):
        run(scorer.write(ONE))
    until(lambda: ended == [(scorer.pid, "by signal 9; was there enough memory?")])
    with pytest.raises(ScorerEnded):
        run(scorer.score(*(np.array([1]) for _ in range(3))))


def test_signals_for_all_processes_leave_it_to_the_server(
    spec: ScorerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = module._start

    def signalled(*arguments: Any) -> Any:
        process = start(*arguments)
        for _ in range(5):  # From its first moment on.
            for number in module.OURS:
                process.send_signal(number)
            sleep(0.02)
        return process

    monkeypatch.setattr(module, "_start", signalled)
    scorer = ScorerProcess(spec)
    for number in module.OURS:
        os.kill(scorer.pid, number)
    assert len(asyncio.run(scorer.write(ONE))) == 1
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set(), "we still hear them"


def test_one_that_only_stops_speaking_is_ended(
    spec: ScorerSpec, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(module, "LEAVE_S", 0.1)
    told = Event()
    scorer = ScorerProcess(spec, lambda *_: told.set())
    scorer._connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ScorerEnded):
        run(scorer.write(ONE))
    assert told.wait(20), "so that it is replaced"


def stopped(scorer: ScorerProcess) -> None:
    """Hangs from now on, whatever it is asked."""
    os.kill(scorer.pid, signal.SIGSTOP)


def test_one_that_hangs_is_ended(spec: ScorerSpec, run: Run) -> None:
    told = Event()
    scorer = ScorerProcess(replace(spec, stuck_s=0.2), lambda *_: told.set())
    assert len(run(scorer.write(ONE))) == 1
    run(asyncio.sleep(0.3))
    assert len(run(scorer.write(ONE))) == 1, "an idle one does not hang"
    stopped(scorer)
    with pytest.raises(ScorerEnded, match="by signal 9"):
        run(scorer.write(ONE))
    assert told.wait(20), "so that it is replaced"


def test_one_that_sleeps_for_ever_is_ended(
    spec: ScorerSpec, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(module, "WORKER", "tests.service.scorer.sleepy_worker")
    told = Event()
    scorer = ScorerProcess(replace(spec, stuck_s=0.2), lambda *_: told.set())
    assert len(run(scorer.write(ONE))) == 1
    with pytest.raises(ScorerEnded, match="by signal 9"):
        run(scorer.write([Question(Query(13, 0, 5))]))
    assert told.wait(20), "so that it is replaced"


def test_one_that_hangs_while_it_loads_is_ended(spec: ScorerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = ScorerProcess(spec)
    scorer._connection.settimeout(0.2)
    stopped(scorer)
    with pytest.raises(ScorerEnded, match="was not ready"):
        scorer.warm()
    until(lambda: has_ended(scorer.pid))


def test_it_inherits_no_settings_of_the_server(spec: ScorerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOMOK_API_KEYS", "a-key-of-someone-else")
    scorer = ScorerProcess(spec)
    assert b"MOMOK_" not in Path(f"/proc/{scorer.pid}/environ").read_bytes()


def test_it_runs_the_same_code_as_the_server(
    spec: ScorerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").write_text("raise SystemExit(77)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert len(asyncio.run(ScorerProcess(spec).write(ONE))) == 1
