"""Kernel: fast scores of all candidates, tile by tile, and how far they may lie from the exact ones.

Axes: B queries, C candidates of a tile, N entities, D width of a space, X widths of all spaces, S spaces.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from momok.model.arrays import Float32, Float64
from momok.model.retrieval.table import ROWS_AT_ONCE, EntityTable, columns_of
from momok.model.scores import Fusion, ScoreErrors

CELLS = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Scores held at once; on a CPU they stay within reach of its caches."""

LEAST_ROWS = 1024
"""Candidates of a tile at least, however many the queries."""

BFLOAT16_UNIT = 1.01 * 2.0**-8
"""Largest relative error of rounding to bfloat16, and a little room."""


class Kernel(ABC):
    """Scores every candidate in each of ``spaces``; a fusion of these is the score that ranks."""

    name: str
    """Of the engine that scans with it."""

    device = torch.device("cpu")

    def __init__(self, table: EntityTable, fusion: Fusion) -> None:
        self.table, self.fusion = table, fusion
        self.spaces = fusion.spaces(table.branches)
        self.columns = columns_of(self.spaces)
        pairs = zip(self.spaces, self.columns, strict=True)
        self.longest = [table.longest(space, columns) for space, columns in pairs]

    @abstractmethod
    def tiles(self, query_BX: Float32) -> Iterator[tuple[int, list[Tensor]]]:
        """The first candidate of each tile, and its scores in each space, float[C, B].

        Candidates come first, so that later steps go through a row of memory for each.
        """

    @abstractmethod
    def errors(self, query_BX: Float32) -> ScoreErrors:
        """Bounds of the errors of ``tiles``, a column a space."""

    def fused(self, query_BX: Float32) -> Iterator[tuple[int, Tensor]]:
        """The same, the scores of a tile fused to the one that ranks, float[C, B]."""
        return ((start, self.fusion.combine(scores)) for start, scores in self.tiles(query_BX))

    def _float32_errors(self, query_BX: Float32) -> Float64:
        """float64[B, S]: what float32 arithmetic on vectors of float32 may get wrong."""
        bounds = [
            space.rounding(space.lengths(query_BX[:, columns].astype(np.float64)), longest)
            for space, columns, longest in zip(self.spaces, self.columns, self.longest, strict=True)
        ]
        return np.stack(bounds, axis=1)

    def _rows_at_once(self, num_queries: int) -> int:
        return max(CELLS[self.device.type] // num_queries, LEAST_ROWS)


class Float32Kernel(Kernel):
    """Scores in float32, on a CPU or resident on a GPU."""

    name = "scan"
    dtype = torch.float32

    def __init__(self, table: EntityTable, fusion: Fusion, device: torch.device | None = None) -> None:
        super().__init__(table, fusion)
        self._table_NX = torch.from_numpy(table.joined_NX).to(device, self.dtype)
        self.device = self._table_NX.device

    def tiles(self, query_BX: Float32) -> Iterator[tuple[int, list[Tensor]]]:
        queries = torch.from_numpy(query_BX).to(self.device, self.dtype)
        pairs = [
            (space, columns, queries[:, columns].contiguous())
            for space, columns in zip(self.spaces, self.columns, strict=True)
        ]
        step = self._rows_at_once(len(query_BX))
        for start in range(0, len(self._table_NX), step):
            tile_CX = self._table_NX[start : start + step]
            yield start, [space.scores(tile_CX[:, columns], query) for space, columns, query in pairs]

    def errors(self, query_BX: Float32) -> ScoreErrors:
        absolute_BS = self._float32_errors(query_BX)
        return ScoreErrors(absolute_BS, 0.0, absolute_BS)


class Bfloat16Kernel(Float32Kernel):
    """Inner products in bfloat16, half the bytes of float32, on a CPU."""

    name = "scan-bfloat16"
    dtype = torch.bfloat16

    def __init__(self, table: EntityTable, fusion: Fusion) -> None:
        super().__init__(table, fusion)
        self._lost = [self._longest_loss(columns) for columns in self.columns]

    def errors(self, query_BX: Float32) -> ScoreErrors:
        """Rounding a query and a candidate changes q·c by at most ``|q - q'| |c| + |q'| |c - c'|``; the
        product, stored in bfloat16, is rounded once more."""
        rounded_BX = torch.from_numpy(query_BX).to(self.dtype).double().numpy()
        absolute_BS = 1.02 * self._float32_errors(query_BX)
        whole_BS = np.empty_like(absolute_BS)
        with np.errstate(invalid="ignore", over="ignore"):  # An overflow makes the bound infinite.
            for place, (space, columns) in enumerate(zip(self.spaces, self.columns, strict=True)):
                lost_B = space.lengths(query_BX[:, columns] - rounded_BX[:, columns])
                length_B = space.lengths(rounded_BX[:, columns])
                absolute_BS[:, place] += 1.01 * lost_B * self.longest[place]
                absolute_BS[:, place] += 1.01 * length_B * self._lost[place]
                whole_BS[:, place] = 1.01 * BFLOAT16_UNIT * length_B * self.longest[place]
        return ScoreErrors(absolute_BS, BFLOAT16_UNIT, absolute_BS * (1 + BFLOAT16_UNIT) + whole_BS)

    def _longest_loss(self, columns: slice) -> float:
        """The length of the longest difference between a candidate and its rounding, measured."""
        exact_ND = torch.split(torch.from_numpy(self.table.joined_NX)[:, columns], ROWS_AT_ONCE)
        rounded_ND = torch.split(self._table_NX[:, columns], ROWS_AT_ONCE)
        pairs = zip(exact_ND, rounded_ND, strict=True)
        return max(float(vector_norm(exact.double() - r.double(), dim=1).max()) for exact, r in pairs)
