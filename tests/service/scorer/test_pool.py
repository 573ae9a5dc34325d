"""Several scoring processes behind one batcher: they answer side by side, and one that ends is left out."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from momok.model.answer import Query
from momok.model.errors import UserError
from momok.service.contract.failures import ScorerEnded
from momok.service.scorer import process
from momok.service.scorer.pool import ScorerPool
from momok.service.scorer.process import ScorerSpec
from momok.service.scorer.question import Question
from tests.service.builders import Made

ONE = [Question(Query(1, 0, 5))]


@pytest.fixture
def specs(made: Made) -> list[ScorerSpec]:
    return [ScorerSpec(made.path, "cpu", "scan", place=place, among=2) for place in range(2)]


def test_questions_go_to_the_one_that_has_fewest(specs: list[ScorerSpec]) -> None:
    pool = ScorerPool(specs)
    pool.warm()
    pool.verify()
    busiest: list[int] = []

    async def ask() -> list[Any]:
        work = [asyncio.ensure_future(pool.write(ONE)) for _ in range(6)]
        await asyncio.sleep(0)
        busiest.extend(pool._asked.values())
        return await asyncio.gather(*work)

    answers = asyncio.run(ask())
    assert busiest == [3, 3]
    assert len({answer[0].json for answer in answers}) == 1


def test_one_that_ends_is_left_out_and_the_others_answer(specs: list[ScorerSpec]) -> None:
    pool = ScorerPool(specs)

    async def ask() -> None:
        os.kill(pool.pids[0], signal.SIGKILL)
        ended = 0
        for _ in range(8):
            try:
                assert len(await pool.write(ONE)) == 1
            except ScorerEnded:
                ended += 1
        assert ended == 1
        os.kill(pool.pids[1], signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(ScorerEnded):
                await pool.write(ONE)

    asyncio.run(ask())


def test_a_bundle_that_is_refused_is_refused_by_all(made: Made, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        ScorerPool([ScorerSpec(tmp_path / "none", "cpu", place=place, among=2) for place in range(2)])


@pytest.mark.parametrize(("given", "shown"), [(None, ["0", "1", "0"]), ("2,5", ["2", "5", "2"])])
def test_each_process_sees_one_device(
    monkeypatch: pytest.MonkeyPatch, given: str | None, shown: list[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv(process.DEVICES, raising=False)
    if given is not None:
        monkeypatch.setenv(process.DEVICES, given)
    spec = [ScorerSpec(Path("b"), "cuda", place=place, among=3) for place in range(3)]
    assert [process._device(one) for one in spec] == [{process.DEVICES: device} for device in shown]
    assert process._device(ScorerSpec(Path("b"), "cuda")) == {}
    assert process._device(ScorerSpec(Path("b"), "cpu", place=1, among=2)) == {}
