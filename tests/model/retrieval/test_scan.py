"""The scan: every way to multiply, tiles of any size, and contention that nobody falls out of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from momok.model.retrieval.int8 import Int8Layout
from momok.model.retrieval.matmul import BATCHES, FLOAT32_WAYS, WAYS, AnyLayout, Layout, Way, spaces_of
from momok.model.retrieval.scan import CROWD, Scan
from momok.model.retrieval.selection import Proposal, Selection
from momok.model.retrieval.table import RESCORED_AT_ONCE, EntityTable
from momok.model.scores import Branch, Decision
from tests.missing import missing

DECISIONS: list[Decision] = ["mean_sigmoid", "sum"]
WIDTHS = (24, 8, 40)
NOBODY = np.empty(0, dtype=np.int64)


def table_of(num_entities: int, seed: int = 0) -> EntityTable:
    random = np.random.default_rng(seed)
    branches = [Branch(f"branch{place}", width) for place, width in enumerate(WIDTHS)]
    rows = {b.name: random.standard_normal((num_entities, b.width), dtype=np.float32) for b in branches}
    return EntityTable(branches, rows)


def layout_of(table: EntityTable, decision: Decision, dtype: torch.dtype) -> AnyLayout:
    spaces = spaces_of(table, decision)
    return Int8Layout(table, spaces) if dtype == torch.int8 else Layout(table, spaces, dtype)


def queries(number: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((number, sum(WIDTHS)), dtype=np.float32)


@pytest.mark.parametrize("way", FLOAT32_WAYS, ids=lambda way: f"{way.multiply.__name__}-{way.together}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_queries", [1, 3, 16])
def test_every_way_gives_the_products_within_the_stated_errors(
    way: Way, dtype: torch.dtype, num_queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("momok.model.retrieval.matmul.COPIED_ROWS", 200)
    table, query_BX = table_of(500), queries(num_queries)
    layout = Layout(table, table.columns, dtype)
    prepared = way.prepare(torch.from_numpy(query_BX).to(dtype), table.columns)
    scores = way.scores(prepared, num_queries, torch.from_numpy(table.joined_NX).to(dtype), table.columns)
    errors = layout.errors(query_BX)
    for space, columns in enumerate(table.columns):
        exact_BN = query_BX[:, columns].astype(np.float64) @ table.joined_NX[:, columns].astype(np.float64).T
        found_BN = scores[space].double().numpy().T
        error_BN = np.abs(found_BN - exact_BN)
        assert (error_BN <= errors.together[:, space, None]).all()
        allowed_BN = errors.absolute[:, space, None] + errors.relative * np.abs(found_BN) * 1.01
        assert (error_BN <= allowed_BN).all()
        # Bounds that forgive everything would prove nothing.
        assert errors.together[:, space].max() < (0.05 if dtype == torch.bfloat16 else 1e-4) * exact_BN.max()


@pytest.mark.parametrize("num_queries", [1, 2, 300])
def test_tiles_cover_every_candidate_once_after_warming(
    num_queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("momok.model.retrieval.matmul.CELLS", {"cpu": 1})
    monkeypatch.setattr("momok.model.retrieval.matmul.ROWS_OF_ONE", 700)
    table, query_BX = table_of(2500), queries(num_queries)
    layout = Layout(table, table.columns)
    layout.warm()
    tiles = list(layout.tiles(torch.from_numpy(query_BX)))
    starts = [start for start, _ in tiles]
    sizes = [len(scores[0]) for _, scores in tiles]
    assert starts == np.cumsum([0, *sizes[:-1]]).tolist() and sum(sizes) == 2500
    joined_NB = torch.cat([sum(scores[1:], scores[0]) for _, scores in tiles])
    assert np.allclose(joined_NB.numpy().T, query_BX @ table.joined_NX.T, atol=1e-3)


def test_every_size_of_batch_has_a_way_that_suits_it() -> None:
    for size in BATCHES:
        assert any(way.suits(size) for way in WAYS)
        assert FLOAT32_WAYS is WAYS or any(way.suits(size) and way not in WAYS for way in FLOAT32_WAYS)
    assert not Way(WAYS[0].multiply, together=True).suits(256)


def test_float32_is_multiplied_by_onednn_where_that_is_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine or another: who is slow here is made slow."""
    if FLOAT32_WAYS is WAYS:
        missing("this build of torch has no oneDNN")
    table, query_BX = table_of(300), queries(40)
    slow = {way for way in FLOAT32_WAYS if way in WAYS}
    seconds = Layout._seconds
    monkeypatch.setattr(Layout, "_seconds", lambda self, way, rows: (way in slow) + seconds(self, way, rows))
    layout = Layout(table, spaces_of(table, "mean_sigmoid"))
    layout.warm()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        tiles = list(layout.tiles(torch.from_numpy(query_BX)))
    names = {event.name for event in profiled.events()}
    assert "mkldnn::_linear_pointwise" in names and "aten::mm" not in names
    exact_BN = exact_scores(table, query_BX, "sum")
    found_NB = torch.cat([sum(scores[1:], scores[0]) for _, scores in tiles])
    assert np.allclose(found_NB.numpy().T, exact_BN, atol=1e-3)


@pytest.mark.parametrize("decision", DECISIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("k", [1, 10, 900])
def test_tiles_change_nothing(
    decision: Decision, dtype: torch.dtype, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best come from any tile, in any order, also where a tile is smaller than k."""
    table, query_BX = table_of(3001), queries(40)
    order = np.argsort(query_BX[0] @ table.joined_NX.T)
    table.joined_NX[:] = table.joined_NX[order]  # The best of the first query come last.
    selections = [Selection(k, np.arange(row)) for row in range(40)]
    whole = Scan(table, decision, layout_of(table, decision, dtype)).propose(query_BX, selections)
    for module in ("momok.model.retrieval.matmul", "momok.model.retrieval.int8"):
        monkeypatch.setattr(f"{module}.CELLS", {"cpu": 1})
    apart = Scan(table, decision, layout_of(table, decision, dtype)).propose(query_BX, selections)
    exact_BN = exact_scores(table, query_BX, decision)
    for proposal in (whole, apart):
        for row in range(40):
            proposed = proposal.entities[proposal.rows == row]
            assert len(set(proposed.tolist())) == len(proposed)
            best = np.argsort(-exact_BN[row, row:], kind="stable")[:k] + row
            assert set(best.tolist()) <= set(proposed.tolist())


def exact_scores(table: EntityTable, query_BX: np.ndarray, decision: Decision) -> np.ndarray:
    products = [
        query_BX[:, columns].astype(np.float64) @ table.joined_NX[:, columns].astype(np.float64).T
        for columns in table.columns
    ]
    values = products if decision == "sum" else [1 / (1 + np.exp(-product)) for product in products]
    return np.asarray(np.sum(values, axis=0) if decision == "sum" else np.mean(values, axis=0))


class Watched(Scan):
    """Remembers for how many rows it was asked."""

    asked: int = 0

    def propose(self, query_BX: np.ndarray, selections: Sequence[Selection]) -> Proposal:
        self.asked += len(query_BX)
        return super().propose(query_BX, selections)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8])
def test_coarse_scans_settle_ordinary_rows_themselves_with_few_in_contention(dtype: torch.dtype) -> None:
    table, query_BX = table_of(20_000), queries(32)
    finer = Watched(table, "sum")
    coarse = Scan(table, "sum", layout_of(table, "sum", dtype), finer)
    assert coarse.name == f"scan-{str(dtype).removeprefix('torch.')}"
    proposal = coarse.propose(query_BX, [Selection(10, NOBODY)] * 32)
    assert finer.asked == 0
    assert np.bincount(proposal.rows).max() < 200


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8])
def test_where_a_crowd_ties_for_a_coarse_scan_the_finer_one_tells_them_apart(dtype: torch.dtype) -> None:
    """3,000 candidates differ only beyond bfloat16 and int8; two of 32 rows see anything else."""
    branches = [Branch("only", 16)]
    random = np.random.default_rng(3)
    rows_NX = np.zeros((3000, 16), dtype=np.float32)
    rows_NX[:, 0] = 1 + random.permutation(3000) * 2.0**-23
    rows_NX[:, 1] = random.standard_normal(3000)
    table = EntityTable(branches, {"only": rows_NX})
    query_BX = np.zeros((32, 16), dtype=np.float32)
    query_BX[:, 0] = 1
    query_BX[5] = query_BX[9] = np.eye(16, dtype=np.float32)[1]
    finer = Watched(table, "sum")
    coarse = Scan(table, "sum", layout_of(table, "sum", dtype), finer)
    proposal = coarse.propose(query_BX, [Selection(3, NOBODY)] * 32)
    assert finer.asked == 30
    best = np.argsort(-rows_NX[:, 0], kind="stable")[:3]
    for row in (0, 4, 6, 31):
        assert set(best.tolist()) <= set(proposal.entities[proposal.rows == row].tolist())


def test_of_a_crowd_of_equals_the_first_are_proposed() -> None:
    branches = [Branch("only", 4)]
    table = EntityTable(branches, {"only": np.ones((CROWD + 500, 4), dtype=np.float32)})
    selections = [Selection(2, NOBODY), Selection(2, np.arange(100))]
    proposal = Scan(table, "sum").propose(np.ones((2, 4), dtype=np.float32), selections)
    assert proposal.rows.tolist() == [0, 0, 1, 1]
    assert proposal.entities.tolist() == [0, 1, 100, 101]


@pytest.mark.parametrize("width", [7, 256, 9000])
def test_equal_vectors_score_alike_whoever_is_scored_beside_them(width: int) -> None:
    """Also one that is left over alone, and wider than what numpy takes at a time in some of its loops."""
    random = np.random.default_rng(0)
    vector_1D = random.standard_normal((1, width), dtype=np.float32)
    number = 2 * RESCORED_AT_ONCE + 1
    table = EntityTable([Branch("only", width)], {"only": vector_1D.repeat(number, axis=0)})
    query_1D = random.standard_normal((1, width), dtype=np.float32)
    found = [
        table.rescore(query_1D, np.zeros(size, dtype=np.int64), np.arange(size)) for size in (1, 2, number)
    ]
    assert len(set(np.concatenate(found)[:, 0].tolist())) == 1
