"""Layout: the candidates as a scan reads them, in one precision and on one device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from momok.model.arrays import Float32, Float64, Int64
from momok.model.retrieval.table import EntityTable
from momok.model.scores import Decision

CELLS = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Scores held at once; on a CPU they stay within reach of its caches."""

ROWS_OF_ONE = 2048
"""Candidates at a time where one query takes a product for each branch: so that their rows come from memory
once, not once a branch."""

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Batch sizes for which the ways to multiply are timed."""

TIMED_ROWS = 16_384
"""Candidates for timing; four times as many for one query, where it is memory that takes the time."""

TIMED_RUNS = 3

FEW = 16
"""More queries than this are not tried one by one, nor together."""

LEAST_TOGETHER = 4
"""Libraries take longer for a product of fewer rows than for one of four."""

COPIED_ROWS = 4096
"""Candidates of which columns are copied at a time for oneDNN: few enough to stay in caches."""

BFLOAT16_UNIT = 1.01 * 2.0**-8
"""Largest relative error of rounding to bfloat16, and a little room."""

Multiply = Callable[[Tensor, Tensor], Tensor]
"""Of candidates ``table_CD`` with queries ``query_BD``: [C, B], in their own precision or float32.

Candidates come first, so that what is done with their scores goes through a row of memory for each.
"""


def _tall(table_CD: Tensor, query_BD: Tensor) -> Tensor:
    return table_CD @ query_BD.T


def _wide(table_CD: Tensor, query_BD: Tensor) -> Tensor:
    return (query_BD @ table_CD.T).T.contiguous()


def _one_by_one(table_CD: Tensor, query_BD: Tensor) -> Tensor:
    return torch.stack([torch.mv(table_CD, query_D) for query_D in query_BD], dim=1)


def _onednn(table_CD: Tensor, query_BD: Tensor) -> Tensor:
    """By oneDNN, which torch asks for products in half precision and leaves those in float32 to MKL.

    On AMD's processors MKL takes two to three times as long. The operation is the one that torch's compiler
    calls. Of columns that do not lie together it would take a hundred times as long, so they are copied.
    """
    if not table_CD.is_contiguous():
        return torch.cat(
            [_onednn(part.contiguous(), query_BD) for part in torch.split(table_CD, COPIED_ROWS)]
        )
    score_CB: Tensor = torch.ops.mkldnn._linear_pointwise(table_CD, query_BD, None, "none", [], "")
    return score_CB


def _widened(table_CD: Tensor, query_BD: Tensor) -> Tensor:
    """In float32 all through; a GPU would else add up parts of a long product in bfloat16."""
    return torch.mm(table_CD, query_BD.T, out_dtype=torch.float32)


@dataclass(frozen=True)
class Way:
    """A way to inner products in each space.

    A product for each, or ``together`` one in which a query has a row a space, zero in the others' columns.
    """

    multiply: Multiply
    together: bool = False

    def suits(self, num_queries: int) -> bool:
        return num_queries <= FEW or not (self.together or self.multiply is _one_by_one)

    def prepare(self, query_BX: Tensor, spaces: Sequence[slice]) -> list[Tensor]:
        """What ``scores`` multiplies with candidates."""
        if not self.together:
            return [query_BX[:, columns].contiguous() for columns in spaces]
        rows_SBX = query_BX.new_zeros(len(spaces), *query_BX.shape)
        for space, columns in enumerate(spaces):
            rows_SBX[space, :, columns] = query_BX[:, columns]
        rows_RX = rows_SBX.flatten(0, 1)
        return [pad(rows_RX, (0, 0, 0, max(LEAST_TOGETHER - len(rows_RX), 0)))]

    def scores(
        self, prepared: Sequence[Tensor], num_queries: int, table_CX: Tensor, spaces: Sequence[slice]
    ) -> list[Tensor]:
        """The inner products in each space, [C, B]."""
        if not self.together:
            pairs = zip(prepared, spaces, strict=True)
            return [self.multiply(table_CX[:, columns], query_BD) for query_BD, columns in pairs]
        score_CR = self.multiply(table_CX, prepared[0])[:, : num_queries * len(spaces)]
        return [part_CB.contiguous() for part_CB in torch.split(score_CR, num_queries, dim=1)]


WAYS = (Way(_tall), Way(_wide), Way(_one_by_one), Way(_tall, together=True), Way(_wide, together=True))
"""Libraries are slow at one or the other, depending on the size of the batch."""

FLOAT32_WAYS: tuple[Way, ...] = WAYS
"""The same for float32 on a CPU; the operation by oneDNN has no public name, and may not be there."""
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    FLOAT32_WAYS = (*WAYS, Way(_onednn), Way(_onednn, together=True))


def spaces_of(table: EntityTable, decision: Decision) -> list[slice]:
    """The columns of each inner product that a decision is made of."""
    return table.columns if decision == "mean_sigmoid" else [table.whole]


@dataclass(frozen=True)
class Errors:
    """How far an inner product may lie from the exact one.

    By ``absolute`` float64[B, spaces], and besides by the share ``relative`` of itself; ``together`` is both,
    for the longest candidate.
    """

    absolute: Float64
    relative: float
    together: Float64

    def of(self, rows: Int64) -> Errors:
        """Those of some queries."""
        return Errors(self.absolute[rows], self.relative, self.together[rows])


class AnyLayout(Protocol):
    """What a ``Scan`` asks of one."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def warm(self) -> None: ...

    def tiles(self, query_BX: Tensor) -> Iterator[tuple[int, list[Tensor]]]: ...

    def errors(self, query_BX: Float32) -> Errors: ...


class Layout:
    """``spaces``: the columns of each inner product; ``dtype`` float32 or bfloat16; ``table_NX`` so cast."""

    def __init__(
        self,
        table: EntityTable,
        spaces: Sequence[slice],
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        self.dtype, self.spaces = dtype, spaces
        self.entities = table
        self.table_NX = torch.from_numpy(table.joined_NX).to(device, dtype)
        self._lost = [0.0] * len(spaces)
        if dtype != torch.float32:
            self._lost = [table.longest_difference(self._rounded, columns) for columns in spaces]
        self._ways: tuple[Way, ...] = WAYS
        if dtype == torch.float32 and not self.table_NX.is_cuda:
            self._ways = FLOAT32_WAYS
        elif self.table_NX.is_cuda and dtype != torch.float32:
            self._ways = (Way(_widened), Way(_widened, together=True))
        self._chosen: dict[int, Way] = {1: self._ways[0]}

    @property
    def device(self) -> torch.device:
        return self.table_NX.device

    @torch.inference_mode()
    def warm(self) -> None:
        """Time the ways to multiply on this machine, for each size of batch."""
        query_BX = self.table_NX[:1].expand(max(BATCHES), -1).contiguous()
        for size in BATCHES:
            ways = [way for way in self._ways if way.suits(size)]
            self._chosen[size] = min(ways, key=lambda way: self._seconds(way, query_BX[:size]))

    def tiles(self, query_BX: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
        """Inner products in each space, [C, B], of so many candidates at a time, from ``start`` on."""
        way = self._chosen[max(size for size in self._chosen if size <= len(query_BX))]
        yield from self._tiles(way, query_BX.to(self.device, self.dtype), len(self.table_NX))

    def errors(self, query_BX: Float32) -> Errors:
        """Bounds for ``tiles``. Rounded vectors err by what rounding took off them, q·c by at most
        ``|q - q'| |c| + |q'| |c - c'|``; and a product that is stored in bfloat16 is rounded once more."""
        rounding = [self.entities.rounding(query_BX, columns) for columns in self.spaces]
        absolute_BS = np.stack(rounding, axis=1)
        if self.dtype == torch.float32:
            return Errors(absolute_BS, 0.0, absolute_BS)
        rounded_BX = torch.from_numpy(query_BX).to(self.dtype).float().numpy()
        absolute_BS, whole_BS = 1.02 * absolute_BS, np.empty_like(absolute_BS)
        with np.errstate(invalid="ignore", over="ignore"):  # What overflows proves nothing.
            for space, columns in enumerate(self.spaces):
                lost_B = _lengths(query_BX[:, columns] - rounded_BX[:, columns])
                length_B, longest = _lengths(rounded_BX[:, columns]), self.entities.longest(columns)
                absolute_BS[:, space] += 1.01 * (lost_B * longest + length_B * self._lost[space])
                whole_BS[:, space] = 1.01 * BFLOAT16_UNIT * length_B * longest
        return Errors(absolute_BS, BFLOAT16_UNIT, absolute_BS * (1 + BFLOAT16_UNIT) + whole_BS)

    def _tiles(self, way: Way, query_BX: Tensor, rows: int) -> Iterator[tuple[int, list[Tensor]]]:
        prepared, step = way.prepare(query_BX, self.spaces), self._step(way, len(query_BX))
        for start in range(0, rows, step):
            tile_CX = self.table_NX[start : min(start + step, rows)]
            yield start, way.scores(prepared, len(query_BX), tile_CX, self.spaces)

    def _step(self, way: Way, num_queries: int) -> int:
        if num_queries == 1:
            return len(self.table_NX) if way.together or len(self.spaces) == 1 else ROWS_OF_ONE
        return max(CELLS[self.device.type] // num_queries, 1024)

    def _seconds(self, way: Way, query_BX: Tensor) -> float:
        rows = min(max(TIMED_ROWS, 4 * TIMED_ROWS // len(query_BX)), len(self.table_NX))

        def multiply() -> None:
            for _ in self._tiles(way, query_BX, rows):
                pass
            if query_BX.is_cuda:
                torch.cuda.synchronize(query_BX.device)

        return shortest_s(multiply)

    def _rounded(self, start: int, stop: int) -> Float64:
        rounded: Float64 = self.table_NX[start:stop].double().cpu().numpy()
        return rounded


def shortest_s(work: Callable[[], object]) -> float:
    """The seconds of the shortest of a few runs."""
    times = []
    for _ in range(TIMED_RUNS):
        started = perf_counter()
        work()
        times.append(perf_counter() - started)
    return min(times)


def _lengths(rows_BD: Float32) -> Float64:
    lengths_B: Float64 = np.sqrt((rows_BD.astype(np.float64) ** 2).sum(axis=1))
    return lengths_B
