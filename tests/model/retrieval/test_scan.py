"""The scan: kernels within their bounds, tiles of any size, and shortlists that lose none of the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from momok.model.retrieval.int8 import Int8Kernel
from momok.model.retrieval.kernel import Bfloat16Kernel, Float32Kernel, Kernel
from momok.model.retrieval.scan import MOST_LISTED, Scan
from momok.model.retrieval.selection import Proposal, Selection
from momok.model.retrieval.table import RESCORED_AT_ONCE, EntityTable
from momok.model.scores import FUSIONS, Branch, Decision

DECISIONS: list[Decision] = ["mean_sigmoid", "sum"]
WIDTHS = (24, 8, 40)
NONE = np.empty(0, dtype=np.int64)


def table_of(num_entities: int, seed: int = 0) -> EntityTable:
    random = np.random.default_rng(seed)
    branches = [Branch(f"branch{place}", width) for place, width in enumerate(WIDTHS)]
    rows = {b.name: random.standard_normal((num_entities, b.width), dtype=np.float32) for b in branches}
    return EntityTable.of(branches, rows)


def kernel_of(kind: type[Kernel], table: EntityTable, decision: Decision) -> Kernel:
    return kind(table, FUSIONS[decision])


def queries(number: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((number, sum(WIDTHS)), dtype=np.float32)


@pytest.mark.parametrize("kind", [Float32Kernel, Bfloat16Kernel])
@pytest.mark.parametrize("num_queries", [1, 3, 16])
def test_products_are_within_the_stated_errors(kind: type[Kernel], num_queries: int) -> None:
    table, query_BX = table_of(500), queries(num_queries)
    kernel = kernel_of(kind, table, "mean_sigmoid")
    tiles = [scores for _, scores in kernel.tiles(query_BX)]
    errors = kernel.errors(query_BX)
    for space, columns in enumerate(table.columns):
        exact_BN = query_BX[:, columns].astype(np.float64) @ table.joined_NX[:, columns].astype(np.float64).T
        found_BN = torch.cat([scores[space] for scores in tiles]).double().numpy().T
        error_BN = np.abs(found_BN - exact_BN)
        assert (error_BN <= errors.total[:, space, None]).all()
        allowed_BN = errors.absolute[:, space, None] + errors.relative * np.abs(found_BN) * 1.01
        assert (error_BN <= allowed_BN).all()
        # Bounds that forgive everything would prove nothing.
        assert errors.total[:, space].max() < (0.05 if kind is Bfloat16Kernel else 1e-4) * exact_BN.max()


@pytest.mark.parametrize("num_queries", [1, 2, 300])
def test_tiles_cover_every_candidate_once(num_queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("momok.model.retrieval.kernel.CELLS", {"cpu": 1})
    monkeypatch.setattr("momok.model.retrieval.kernel.LEAST_ROWS", 700)
    table, query_BX = table_of(2500), queries(num_queries)
    tiles = list(kernel_of(Float32Kernel, table, "mean_sigmoid").tiles(query_BX))
    starts, sizes = [start for start, _ in tiles], [len(scores[0]) for _, scores in tiles]
    assert starts == np.cumsum([0, *sizes[:-1]]).tolist() == [0, 700, 1400, 2100]
    assert sum(sizes) == 2500
    joined_NB = torch.cat([sum(scores[1:], scores[0]) for _, scores in tiles])
    assert np.allclose(joined_NB.numpy().T, query_BX @ table.joined_NX.T, atol=1e-3)


@pytest.mark.parametrize("decision", DECISIONS)
@pytest.mark.parametrize("kind", [Float32Kernel, Bfloat16Kernel, Int8Kernel])
@pytest.mark.parametrize("k", [1, 10, 900])
def test_tiles_change_nothing(
    decision: Decision, kind: type[Kernel], k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best come from any tile, in any order, also where a tile is smaller than k."""
    table, query_BX = table_of(3001), queries(40)
    order = np.argsort(query_BX[0] @ table.joined_NX.T)
    table.joined_NX[:] = table.joined_NX[order]  # The best of the first query come last.
    selections = [Selection(k, np.arange(row)) for row in range(40)]
    whole = Scan(kernel_of(kind, table, decision)).propose(query_BX, selections)
    monkeypatch.setattr("momok.model.retrieval.kernel.CELLS", {"cpu": 1})
    monkeypatch.setattr("momok.model.retrieval.kernel.LEAST_ROWS", 700)
    apart = Scan(kernel_of(kind, table, decision)).propose(query_BX, selections)
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


COARSE = [(Bfloat16Kernel, "scan-bfloat16"), (Int8Kernel, "scan-int8")]


@pytest.mark.parametrize(("kind", "name"), COARSE)
def test_coarse_scans_settle_ordinary_rows_with_a_short_list(kind: type[Kernel], name: str) -> None:
    table, query_BX = table_of(20_000), queries(32)
    fallback = Watched(kernel_of(Float32Kernel, table, "sum"))
    coarse = Scan(kernel_of(kind, table, "sum"), fallback)
    assert coarse.name == name
    proposal = coarse.propose(query_BX, [Selection(10, NONE)] * 32)
    assert fallback.asked == 0
    assert np.bincount(proposal.rows).max() < 200


@pytest.mark.parametrize(("kind", "name"), COARSE)
def test_rows_with_too_long_a_list_are_scanned_by_the_fallback(kind: type[Kernel], name: str) -> None:
    """3,000 candidates differ only beyond bfloat16 and int8; two of 32 rows see anything else."""
    branches = [Branch("only", 16)]
    random = np.random.default_rng(3)
    rows_NX = np.zeros((3000, 16), dtype=np.float32)
    rows_NX[:, 0] = 1 + random.permutation(3000) * 2.0**-23
    rows_NX[:, 1] = random.standard_normal(3000)
    table = EntityTable(branches, rows_NX)
    query_BX = np.zeros((32, 16), dtype=np.float32)
    query_BX[:, 0] = 1
    query_BX[5] = query_BX[9] = np.eye(16, dtype=np.float32)[1]
    fallback = Watched(kernel_of(Float32Kernel, table, "sum"))
    proposal = Scan(kernel_of(kind, table, "sum"), fallback).propose(query_BX, [Selection(3, NONE)] * 32)
    assert fallback.asked == 30
    best = np.argsort(-rows_NX[:, 0], kind="stable")[:3]
    for row in (0, 4, 6, 31):
        assert set(best.tolist()) <= set(proposal.entities[proposal.rows == row].tolist())


def test_of_many_equals_the_first_are_proposed() -> None:
    branches = [Branch("only", 4)]
    table = EntityTable(branches, np.ones((MOST_LISTED + 500, 4), dtype=np.float32))
    selections = [Selection(2, NONE), Selection(2, np.arange(100))]
    proposal = Scan(kernel_of(Float32Kernel, table, "sum")).propose(
        np.ones((2, 4), dtype=np.float32), selections
    )
    assert proposal.rows.tolist() == [0, 0, 1, 1]
    assert proposal.entities.tolist() == [0, 1, 100, 101]


@pytest.mark.parametrize("width", [7, 256, 9000])
def test_equal_vectors_score_alike_in_any_company(width: int) -> None:
    """Also one that is left over alone, and wider than what numpy takes at a time in some of its loops."""
    random = np.random.default_rng(0)
    vector_1D = random.standard_normal((1, width), dtype=np.float32)
    number = 2 * RESCORED_AT_ONCE + 1
    table = EntityTable([Branch("only", width)], vector_1D.repeat(number, axis=0))
    query_1D = random.standard_normal((1, width), dtype=np.float32)
    found = [
        table.rescore(query_1D, np.zeros(size, dtype=np.int64), np.arange(size)) for size in (1, 2, number)
    ]
    assert len(set(np.concatenate(found)[:, 0].tolist())) == 1
