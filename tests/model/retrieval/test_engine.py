"""Engines: the quickest for each size of batch, or the one asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from momok.model.arrays import Float32
from momok.model.retrieval.engine import HOPELESS, MEASURED_SIZES, MEASURING_S, EngineName, Engines
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.index_spec import IndexSpec
from momok.model.retrieval.table import EntityTable
from momok.model.scores import Branch

Cost = Callable[[str, int], float]


@pytest.fixture
def table() -> EntityTable:
    rows = np.random.default_rng(0).standard_normal((200, 8), dtype=np.float32)
    return EntityTable([Branch("only", 8)], {"only": rows})


def measured(table: EntityTable, cost: Cost, monkeypatch: pytest.MonkeyPatch) -> tuple[Engines, list]:
    """Engines that were timed by a clock of our own: an answer takes what ``cost`` says, in seconds."""
    clock, asked = [0.0], []
    monkeypatch.setattr("momok.model.retrieval.engine.perf_counter", lambda: clock[0])
    engines = Engines(table, "sum")

    def answer(size: int) -> None:
        name = engines.of(size).name
        asked.append((name, size))
        clock[0] += cost(name, size)

    engines.measure(answer)
    return engines, asked


def test_before_anything_is_measured_everyone_is_scanned(table: EntityTable) -> None:
    engines = Engines(table, "sum")
    assert [engines.of(size).name for size in (1, 5, 1000)] == ["scan"] * 3


@pytest.mark.parametrize("engine", ["faiss", "scan", "scan-bfloat16", "scan-int8"])
def test_what_was_asked_for_stays_whatever_it_takes(table: EntityTable, engine: EngineName) -> None:
    engines = Engines(table, "sum", engine=engine)
    named = {1: engines.of(1).name}
    assert named[1].startswith(engine)
    engines.measure(lambda size: pytest.fail("nothing is timed"))
    assert engines.choices == named


def test_each_size_takes_the_quickest_for_it(table: EntityTable, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"scan": 3e-3, "scan-bfloat16": 2e-3, "scan-int8": 4e-3, "faiss-flat": 1e-3}

    def cost(name: str, size: int) -> float:
        return 2e-3 if name == "faiss-flat" and size >= 64 else costs[name] / (4 if size >= 64 else 1)

    engines, _ = measured(table, cost, monkeypatch)
    assert engines.choices == {
        1: "faiss-flat", 4: "faiss-flat", 16: "faiss-flat", 64: "scan-bfloat16", 256: "scan-bfloat16",
    }  # fmt: skip
    assert [engines.of(size).name for size in (3, 63, 64, 1000)] == [
        "faiss-flat", "faiss-flat", "scan-bfloat16", "scan-bfloat16",
    ]  # fmt: skip


@pytest.mark.parametrize(("times", "expected"), [(1.1, "faiss-flat"), (1.3, "scan")])
def test_a_scan_must_be_clearly_quicker_than_the_indexes(
    table: EntityTable, times: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = {"scan": 1e-3, "scan-bfloat16": 2e-3, "scan-int8": 2e-3, "faiss-flat": times * 1e-3}
    engines, _ = measured(table, lambda name, _: costs[name], monkeypatch)
    assert set(engines.choices.values()) == {expected}


def test_the_hopeless_are_not_timed_again(table: EntityTable, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"scan": 1e-3, "scan-bfloat16": 0.9e-3, "scan-int8": 1e-3, "faiss-flat": (HOPELESS + 1) * 1e-3}
    engines, asked = measured(table, lambda name, _: costs[name], monkeypatch)
    assert {size for name, size in asked if name == "faiss-flat"} == {1}
    assert {size for name, size in asked if name == "scan"} == set(MEASURED_SIZES)
    assert set(engines.choices.values()) == {"scan-bfloat16"}


def test_measuring_ends_in_time(table: EntityTable, monkeypatch: pytest.MonkeyPatch) -> None:
    engines, asked = measured(table, lambda *_: 1.0, monkeypatch)
    assert {size for _, size in asked} == {1}
    assert list(engines.choices) == [1]


def test_copies_that_nobody_reads_are_given_back(table: EntityTable, monkeypatch: pytest.MonkeyPatch) -> None:
    engines, _ = measured(table, lambda name, _: 1e-3 if name == "scan" else 1.0, monkeypatch)
    assert engines.made == ["scan"]


def test_an_engine_that_is_slow_to_build_leaves_none_without_a_choice(
    table: EntityTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What building takes is not what answering takes, and one size is timed whatever it took."""
    clock, asked = [0.0], []
    monkeypatch.setattr("momok.model.retrieval.engine.perf_counter", lambda: clock[0])
    build = EntityIndex.build

    def slowly(rows_ND: Float32, spec: IndexSpec) -> EntityIndex:
        clock[0] += 10 * MEASURING_S
        return build(rows_ND, spec)

    monkeypatch.setattr(EntityIndex, "build", slowly)
    engines = Engines(table, "sum")

    def answer(size: int) -> None:
        assert {engines.of(other).name for other in (1, size, 1000)} <= set(engines.made)
        asked.append(size)
        clock[0] += 0.1 * MEASURING_S

    engines.measure(answer)
    assert asked == [1] * 8 + [4] * 8, "two runs of four engines, until the time is over"
    assert list(engines.choices) == [1, 4]
    assert engines.of(1000).name in engines.made


@pytest.mark.parametrize("fails", ["build", "answer"])
def test_an_engine_that_fails_leaves_one_that_answers(
    table: EntityTable, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    engines = Engines(table, "sum")

    def fail(*_: object) -> EntityIndex:
        raise MemoryError

    def answer(size: int) -> None:
        if engines.of(size).name.startswith("faiss"):
            fail()

    if fails == "build":
        monkeypatch.setattr(EntityIndex, "build", fail)
    with pytest.raises(MemoryError):
        engines.measure(answer)
    assert engines.choices == {1: "scan"}
    assert engines.of(1000) is engines.scan
