"""Int8Kernel: candidates as whole numbers of small steps, a quarter of the bytes of float32, on a CPU.

Vectors are stretched column by column, so that no column needs larger steps than another, and then rounded to
the nearest of 255 steps of their own. Products of whole numbers are exact; the loss by rounding is known for
each query and bounded for all candidates.

Axes: B queries, C candidates of a tile, N entities, D width of a space, X widths of all spaces, S spaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import pad

from momok.model.arrays import Float32, Float64
from momok.model.retrieval.kernel import Kernel
from momok.model.retrieval.table import ROWS_AT_ONCE, EntityTable
from momok.model.scores import OVERFLOW, Fusion, ScoreErrors

STEPS = 127
"""On either side of zero."""

WIDEST = 2**31 // STEPS**2
"""More products than this might not fit the 32 bits of their sum."""

NARROWEST = 2
"""A product with a single column is wrong in torch 2.13."""

RELATIVE = 2.0**-22
"""Share by which a sum of products may err on its way to float32, three roundings in all."""


def multiply(codes_CD: Tensor, codes_BD: Tensor) -> Tensor:
    """int32[C, B]: inner products of int8. The operation is torch's only one, and has no public name."""
    missing = NARROWEST - codes_CD.shape[1]
    if missing > 0:  # Only then: ``pad`` copies even where nothing is missing.
        codes_CD, codes_BD = pad(codes_CD, (0, missing)), pad(codes_BD, (0, missing))
    product_CB: Tensor = torch._int_mm(codes_CD, codes_BD.T)
    return product_CB


@cache
def multiplies(width: int) -> bool:
    """Whether this machine adds up so many products of whole numbers without an error.

    Libraries for processors without an instruction for it add pairs of products in 16 bits, where the largest
    do not fit.
    """
    if width > WIDEST:
        return False
    random = torch.Generator().manual_seed(0)
    codes_CD = torch.randint(-STEPS, STEPS + 1, (ROWS_AT_ONCE, width), dtype=torch.int8, generator=random)
    codes_CD[0], codes_CD[1], codes_CD[2::7] = STEPS, -STEPS, STEPS
    exact_CC = codes_CD.double() @ codes_CD[:64].double().T
    return all(
        torch.equal(multiply(codes_CD[:rows], codes_CD[:size]).double(), exact_CC[:rows, :size])
        for size in (1, 4, 64)
        for rows in (7, ROWS_AT_ONCE)
    )


class Int8Kernel(Kernel):
    """For spaces of inner products whose width this machine ``multiplies``."""

    name = "scan-int8"

    def __init__(self, table: EntityTable, fusion: Fusion) -> None:
        super().__init__(table, fusion)
        self._stretched = [_Stretched(table, columns) for columns in self.columns]

    def tiles(self, query_BX: Float32) -> Iterator[tuple[int, list[Tensor]]]:
        queries = [space.rounded(query_BX) for space in self._stretched]
        step = self._rows_at_once(len(query_BX))
        for start in range(0, len(self.table), step):
            tile, pairs = slice(start, start + step), zip(self._stretched, queries, strict=True)
            yield start, [space.products(query, tile) for space, query in pairs]

    def errors(self, query_BX: Float32) -> ScoreErrors:
        """q·c errs by at most ``|q - q'| |c| + |q'| |c - c'|``, all of them stretched; the bound is infinite
        where numbers might not fit float32."""
        absolute_BS, whole_BS = (
            1.02 * self._float32_errors(query_BX),
            np.empty((len(query_BX), len(self.spaces))),
        )
        for place, space in enumerate(self._stretched):
            error_B, whole_BS[:, place] = space.errors(query_BX)
            absolute_BS[:, place] += error_B
        return ScoreErrors(absolute_BS, RELATIVE, absolute_BS * (1 + RELATIVE) + RELATIVE * whole_BS)


@dataclass(frozen=True, eq=False)
class _Rounded:
    """``codes`` int8[B, D] times ``steps`` float32[B, 1]; ``lengths`` float64[B] of that, and of what is
    ``lost``."""

    codes: Tensor
    steps: Tensor
    lengths: Float64
    lost: Float64


class _Stretched:
    """All candidates in some columns, multiplied by ``stretch`` float64[D].

    ``codes`` int8[N, D] and ``steps`` float32[N] of the stretched vectors, ``longest`` of these, ``lost`` the
    most that rounding took off one. Computed in float32, as tables are large: norms err by less than 1 %
    there, differences by 2^-23 of a vector, and squares vanish of what is below 2^-63.
    """

    def __init__(self, table: EntityTable, columns: slice) -> None:
        vector_ND = torch.from_numpy(table.joined_NX)[:, columns]
        stretch_D = _stretch(vector_ND)
        self.columns, self.stretch = columns, stretch_D.double()
        self.codes = torch.empty(vector_ND.shape, dtype=torch.int8)
        self.steps = torch.empty(len(vector_ND))
        longest, lost = 0.0, 0.0
        for start in range(0, len(vector_ND), ROWS_AT_ONCE):
            tile = slice(start, start + ROWS_AT_ONCE)
            part_CD = vector_ND[tile] * stretch_D
            steps_C1 = vector_norm(part_CD, torch.inf, dim=1, keepdim=True) / STEPS
            codes_CD = _codes(part_CD, steps_C1)
            self.codes[tile], self.steps[tile] = codes_CD, steps_C1[:, 0]
            longest = max(longest, float(vector_norm(part_CD, dim=1).max()))
            lost = max(lost, float(vector_norm(part_CD.addcmul_(codes_CD, steps_C1, value=-1), dim=1).max()))
        vanished = vector_ND.shape[1] * 2.0**-62
        self.longest = 1.01 * longest + vanished
        self.lost = 1.01 * lost + 2.0**-22 * self.longest + vanished

    def rounded(self, query_BX: Float32) -> _Rounded:
        """Queries, stretched the other way so that products stay the same."""
        vector_BD = torch.from_numpy(query_BX[:, self.columns]).double() / self.stretch
        steps_B1 = (vector_BD.abs().amax(dim=1, keepdim=True) / STEPS).float()
        codes_BD = _codes(vector_BD, steps_B1.double())
        rounded_BD = codes_BD * steps_B1.double()
        lost_B = vector_norm(vector_BD - rounded_BD, dim=1).numpy()
        return _Rounded(codes_BD.to(torch.int8), steps_B1, vector_norm(rounded_BD, dim=1).numpy(), lost_B)

    def products(self, query: _Rounded, tile: slice) -> Tensor:
        """float32[C, B]."""
        product_CB = multiply(self.codes[tile], query.codes).float()
        return product_CB.mul_(self.steps[tile, None]).mul_(query.steps[:, 0])

    def errors(self, query_BX: Float32) -> tuple[Float64, Float64]:
        """float64[B]: how far products may lie from the exact ones, and how large they may be."""
        query = self.rounded(query_BX)
        with np.errstate(invalid="ignore", over="ignore"):  # An overflow makes the bound infinite.
            most_B = 1.01 * query.lengths * self.longest
            error_B = 1.01 * (query.lost * self.longest + query.lengths * self.lost)
            error_B += 2.0**-125 * (1 + query.lengths)  # Lost below the smallest numbers of float32.
            fits_B = most_B + query.lengths < OVERFLOW
        return np.where(fits_B, error_B, np.inf), np.where(fits_B, most_B, np.inf)


def _codes(vector_CD: Tensor, steps_C1: Tensor) -> Tensor:
    """The nearest whole numbers of steps, as floats."""
    return (vector_CD / torch.where(steps_C1 > 0, steps_C1, 1)).round_().clamp_(-STEPS, STEPS)


def _stretch(vector_ND: Tensor) -> Tensor:
    """float32[D]: factors that bring the largest number of each column near 1, as far as float32 can."""
    parts = [vector_norm(part_CD, torch.inf, dim=0) for part_CD in torch.split(vector_ND, ROWS_AT_ONCE)]
    largest_D = torch.stack(parts).amax(dim=0)
    return torch.where(largest_D > 0, 1 / largest_D.clamp(2.0**-126, 2.0**126), 1)
