"""Products of whole numbers: within the stated errors, whatever the vectors are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from momok.model.arrays import Float64
from momok.model.errors import UserError
from momok.model.retrieval.engine import Engines
from momok.model.retrieval.int8 import Int8Kernel, multiplies
from momok.model.retrieval.table import ROWS_AT_ONCE, EntityTable
from momok.model.scores import FUSIONS, Branch, Decision, ScoreErrors

WIDTHS = (5, 1, 40)
DECISIONS: list[Decision] = ["sum", "mean_sigmoid"]
Change = Callable[[np.random.Generator, Float64], Float64]


def table_of(rows_NX: np.ndarray) -> EntityTable:
    branches = [Branch(f"branch{place}", width) for place, width in enumerate(WIDTHS)]
    return EntityTable(branches, rows_NX)


def products(kernel: Int8Kernel, query_BX: np.ndarray) -> list[Float64]:
    """float64[B, N] of each space."""
    tiles = [scores for _, scores in kernel.tiles(query_BX)]
    return [torch.cat(parts).double().numpy().T for parts in zip(*tiles, strict=True)]


def off(table: EntityTable, query_BX: np.ndarray, space: slice, found_BN: Float64) -> Float64:
    exact_BN = query_BX[:, space].astype(np.float64) @ table.joined_NX[:, space].astype(np.float64).T
    off_BN: Float64 = np.abs(found_BN - exact_BN)
    return off_BN


def assert_within(errors: ScoreErrors, space: int, off_BN: Float64, found_BN: Float64) -> None:
    certain_B = np.isfinite(errors.total[:, space])
    off_BN, found_BN = off_BN[certain_B], found_BN[certain_B]
    assert (off_BN <= errors.total[certain_B, space, None]).all()
    allowed_BN = errors.absolute[certain_B, space, None] + 1.01 * errors.relative * np.abs(found_BN)
    assert (off_BN <= allowed_BN).all()


def uneven_columns(random: np.random.Generator, rows: Float64) -> Float64:
    changed: Float64 = rows * (10.0 ** random.uniform(-6, 6, rows.shape[1]))
    return changed


def uneven_rows(random: np.random.Generator, rows: Float64) -> Float64:
    changed: Float64 = rows * (10.0 ** random.uniform(-6, 6, (len(rows), 1)))
    return changed


def with_nothing(random: np.random.Generator, rows: Float64) -> Float64:
    changed: Float64 = rows * (random.random(rows.shape[1]) < 0.5) * (random.random((len(rows), 1)) < 0.8)
    return changed


def tiny(random: np.random.Generator, rows: Float64) -> Float64:
    changed: Float64 = rows * 2.0 ** random.integers(-149, -100, rows.shape)
    return changed


def huge(random: np.random.Generator, rows: Float64) -> Float64:
    changed: Float64 = np.clip(rows, -3, 3) * 2.0 ** random.integers(50, 120, rows.shape)
    return changed


CHANGES: list[Change] = [lambda _, rows: rows, uneven_columns, uneven_rows, with_nothing, tiny, huge]


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    of_table=st.sampled_from(CHANGES),
    of_queries=st.sampled_from(CHANGES),
    decision=st.sampled_from(DECISIONS),
)
def test_products_are_within_the_stated_errors(
    seed: int, of_table: Change, of_queries: Change, decision: Decision
) -> None:
    random = np.random.default_rng(seed)
    width = sum(WIDTHS)
    table = table_of(of_table(random, random.standard_normal((70, width))).astype(np.float32))
    query_BX = of_queries(random, random.standard_normal((3, width))).astype(np.float32)
    kernel = Int8Kernel(table, FUSIONS[decision])
    errors = kernel.errors(query_BX)
    for space, found_BN in enumerate(products(kernel, query_BX)):
        assert_within(errors, space, off(table, query_BX, kernel.columns[space], found_BN), found_BN)


@pytest.mark.parametrize("decision", DECISIONS)
def test_the_stated_errors_are_small(decision: Decision) -> None:
    """Also where one branch is a thousand times as large as another, which it need not drown."""
    random = np.random.default_rng(0)
    rows_NX = random.standard_normal((3 * ROWS_AT_ONCE + 7, sum(WIDTHS))).astype(np.float32)
    rows_NX[:, :5] *= 1000
    query_BX = random.standard_normal((4, sum(WIDTHS))).astype(np.float32)
    query_BX[:, :5] /= 1000
    table = table_of(rows_NX)
    kernel = Int8Kernel(table, FUSIONS[decision])
    errors = kernel.errors(query_BX)
    for space, found_BN in enumerate(products(kernel, query_BX)):
        assert_within(errors, space, off(table, query_BX, kernel.columns[space], found_BN), found_BN)
        assert errors.total[:, space].max() < 0.15 * np.abs(found_BN).max()


def test_what_might_not_fit_is_not_certain() -> None:
    table = table_of(np.full((3, sum(WIDTHS)), 1e30, dtype=np.float32))
    errors = Int8Kernel(table, FUSIONS["sum"]).errors(np.full((1, sum(WIDTHS)), 1e30, dtype=np.float32))
    assert errors.total.tolist() == [[np.inf]]


@pytest.mark.parametrize("num_queries", [1, 2, 300])
def test_tiles_cover_every_candidate_once(num_queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("momok.model.retrieval.kernel.CELLS", {"cpu": 1})
    random = np.random.default_rng(0)
    table = table_of(random.standard_normal((2 * ROWS_AT_ONCE + 9, sum(WIDTHS))).astype(np.float32))
    kernel = Int8Kernel(table, FUSIONS["mean_sigmoid"])
    tiles = list(kernel.tiles(np.ones((num_queries, sum(WIDTHS)), dtype=np.float32)))
    assert [start for start, _ in tiles] == list(range(0, len(table), 1024))
    assert [[part.shape for part in scores] for _, scores in tiles][-1] == [(9, num_queries)] * 3


def test_a_machine_that_adds_up_in_fewer_bits_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As processors without an instruction for it do: one side is made positive, and sums of two products
    that do not fit 16 bits are cut off."""

    def saturated(left_BD: torch.Tensor, right_DC: torch.Tensor) -> torch.Tensor:
        left_BD, right_DC = left_BD.int() + 128, right_DC.int()
        total_BC = -128 * right_DC.sum(dim=0)
        for start in range(0, len(right_DC), 2):
            pair = slice(start, start + 2)
            pair_BC = (left_BD[:, pair, None] * right_DC[None, pair]).sum(dim=1)
            total_BC = total_BC + pair_BC.clamp(-(2**15), 2**15 - 1)
        return total_BC.int()

    assert multiplies.__wrapped__(40) and multiplies.__wrapped__(1)
    monkeypatch.setattr(torch, "_int_mm", saturated)
    assert not multiplies.__wrapped__(40)


def test_where_it_cannot_be_it_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(np.random.default_rng(0).standard_normal((300, sum(WIDTHS))).astype(np.float32))
    monkeypatch.setattr("momok.model.retrieval.engine.multiplies", lambda width: False)
    reason = "no engine scan-int8 on this machine, which does not add up whole numbers"
    with pytest.raises(UserError, match=reason):
        Engines(table, FUSIONS["sum"], engine="scan-int8")
    assert not multiplies(2**20)
