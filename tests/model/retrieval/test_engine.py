"""Engines: the quickest for each size of batch, or the one asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from momok.model.arrays import Float32
from momok.model.errors import UserError
from momok.model.retrieval.engine import MEASURED_SIZES, MEASURING_S, Engine, EngineName, Engines
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.index_spec import IndexSpec
from momok.model.retrieval.table import EntityTable
from momok.model.scores import FUSIONS, Branch

Cost = Callable[[str, int], float]
SUM = FUSIONS["sum"]


@pytest.fixture
def table() -> EntityTable:
    rows = np.random.default_rng(0).standard_normal((200, 8), dtype=np.float32)
    return EntityTable([Branch("only", 8)], rows)


def measured(
    table: EntityTable, cost: Cost, monkeypatch: pytest.MonkeyPatch
) -> tuple[Engines, list[tuple[str, int]]]:
    """Engines timed by a clock of the test: an answer takes the seconds of ``cost``."""
    clock, asked = [0.0], []
    monkeypatch.setattr("momok.model.retrieval.engine.perf_counter", lambda: clock[0])
    engines = Engines(table, SUM)

    def answer(engine: Engine, size: int) -> None:
        asked.append((engine.name, size))
        clock[0] += cost(engine.name, size)

    engines.measure(answer)
    return engines, asked


def test_before_anything_is_measured_all_batches_are_scanned(table: EntityTable) -> None:
    engines = Engines(table, SUM)
    assert [engines.of(size).name for size in (1, 5, 1000)] == ["scan"] * 3


@pytest.mark.parametrize("engine", ["faiss", "scan", "scan-bfloat16", "scan-int8"])
def test_the_engine_asked_for_stays_whatever_it_takes(table: EntityTable, engine: EngineName) -> None:
    engines = Engines(table, SUM, engine=engine)
    named = {1: engines.of(1).name}
    assert named[1].startswith(engine)
    engines.measure(lambda engine, size: pytest.fail("nothing is timed"))
    assert engines.choices == named


def test_each_size_takes_the_quickest_for_it(table: EntityTable, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"scan": 3e-3, "scan-bfloat16": 2e-3, "scan-int8": 5e-3, "faiss-flat": 1e-3}

    def cost(name: str, size: int) -> float:
        return 2e-3 if name == "faiss-flat" and size > 16 else costs[name] / (4 if size > 16 else 1)

    engines, asked = measured(table, cost, monkeypatch)
    assert engines.choices == {1: "faiss-flat", 16: "faiss-flat", 128: "scan-bfloat16"}
    chosen = [engines.of(size).name for size in (3, 127, 128, 1000)]
    assert chosen == ["faiss-flat", "faiss-flat", "scan-bfloat16", "scan-bfloat16"]
    assert {size for _, size in asked} == set(MEASURED_SIZES)


def test_measuring_ends_in_time(table: EntityTable, monkeypatch: pytest.MonkeyPatch) -> None:
    engines, asked = measured(table, lambda *_: 1.0, monkeypatch)
    assert {size for _, size in asked} == {1}
    assert list(engines.choices) == [1]


def test_copies_that_no_engine_reads_are_given_back(
    table: EntityTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines, _ = measured(table, lambda name, _: 1e-3 if name == "scan" else 1.0, monkeypatch)
    assert set(engines.choices.values()) == {"scan"}
    assert list(engines._made) == ["scan"]


def test_building_an_index_slowly_leaves_a_choice(
    table: EntityTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Building is not answering, and one size is timed however long it took."""
    clock = [0.0]
    monkeypatch.setattr("momok.model.retrieval.engine.perf_counter", lambda: clock[0])
    build = EntityIndex.build

    def slowly(rows_ND: Float32, spec: IndexSpec) -> EntityIndex:
        clock[0] += 10 * MEASURING_S
        return build(rows_ND, spec)

    monkeypatch.setattr(EntityIndex, "build", slowly)
    engines = Engines(table, SUM)

    def answer(engine: Engine, size: int) -> None:
        clock[0] += 0.1 * MEASURING_S

    engines.measure(answer)
    assert list(engines.choices) == [1, 16]


@pytest.mark.parametrize("fails", ["build", "answer"])
def test_an_engine_that_fails_leaves_one_that_answers(
    table: EntityTable, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    engines = Engines(table, SUM)

    def fail(*_: object) -> EntityIndex:
        raise MemoryError

    def answer(engine: Engine, size: int) -> None:
        if engine.name.startswith("faiss"):
            fail()

    if fails == "build":
        monkeypatch.setattr(EntityIndex, "build", fail)
    with pytest.raises(MemoryError):
        engines.measure(answer)
    assert engines.choices == {1: "scan"}
    assert engines.of(1000) is engines.scan


@pytest.mark.parametrize("widths", [[4, 4], [8]], ids=["two branches", "one branch"])
def test_a_score_that_is_no_inner_product_is_scanned(table: EntityTable, widths: list[int]) -> None:
    """One branch too: an index bounds its logits, and a sigmoid compared with those proves any list."""
    branches = [Branch(f"branch {place}", width) for place, width in enumerate(widths)]
    table, mean = EntityTable(branches, table.joined_NX), FUSIONS["mean_sigmoid"]
    with pytest.raises(UserError, match="no engine faiss for a score that is not one inner product; take"):
        Engines(table, mean, engine="faiss")
    engines, seen = Engines(table, mean), set()
    engines.measure(lambda engine, size: seen.add(engine.name))
    assert {"scan", "scan-bfloat16"} <= seen <= {"scan", "scan-bfloat16", "scan-int8"}
