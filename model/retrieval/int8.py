"""Int8Layout: the candidates as whole numbers of small steps, a quarter of the bytes of float32.

Vectors are stretched column by column, so that no column needs larger steps than another, and then rounded to
the nearest of 255 steps of their own. Products of whole numbers are exact; what rounding took off is known
for each query and bounded for all candidates, which is all that a ``Scan`` needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import pad

from momok.model.arrays import Float32, Float64
from momok.model.retrieval.matmul import BATCHES, CELLS, TIMED_ROWS, Errors, Multiply, shortest_s
from momok.model.retrieval.table import OVERFLOW, EntityTable

STEPS = 127
"""On either side of zero."""

WIDEST = 2**31 // STEPS**2
"""More products than this might not fit the 32 bits in which they are added up."""

NARROWEST = 2
"""Of a single column torch 2.13 makes nonsense."""

RELATIVE = 2.0**-22
"""Share by which a sum of products may err on its way to float32, three roundings in all."""

ROWS_AT_ONCE = 2048


@cache
def multiplies(width: int) -> bool:
    """Whether this machine adds up so many products of whole numbers without an error.

    Libraries for processors that have no instruction for it add pairs of products in 16 bits, where the
    largest do not fit.
    """
    if width > WIDEST:
        return False
    random = torch.Generator().manual_seed(0)
    codes_CD = torch.randint(-STEPS, STEPS + 1, (ROWS_AT_ONCE, width), dtype=torch.int8, generator=random)
    codes_CD[0], codes_CD[1], codes_CD[2::7] = STEPS, -STEPS, STEPS
    exact_CC = codes_CD.double() @ codes_CD.double().T
    return all(
        torch.equal(multiply(codes_CD[:number], codes_CD[:size]).double(), exact_CC[:number, :size])
        for multiply in MULTIPLIES
        for size in BATCHES
        for number in (7, ROWS_AT_ONCE)
    )


def _tall(codes_CD: Tensor, codes_BD: Tensor) -> Tensor:
    product_CB: Tensor = torch._int_mm(*_widened(codes_CD, codes_BD.T))
    return product_CB


def _wide(codes_CD: Tensor, codes_BD: Tensor) -> Tensor:
    product_BC: Tensor = torch._int_mm(*_widened(codes_BD, codes_CD.T))
    return product_BC.T.contiguous()


def _widened(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of the same product that are ``NARROWEST`` wide at least."""
    missing = max(NARROWEST - len(right), 0)
    return (pad(left, (0, missing)), pad(right, (0, 0, 0, missing))) if missing else (left, right)


MULTIPLIES: tuple[Multiply, ...] = (_tall, _wide)
"""int32[C, B] of int8; which is quicker depends on the machine."""


class Int8Layout:
    """On a CPU that ``multiplies``. ``spaces``: the columns of each inner product."""

    dtype = torch.int8
    device = torch.device("cpu")

    def __init__(self, table: EntityTable, spaces: Sequence[slice]) -> None:
        self.entities, self.spaces = table, spaces
        self._spaces = [_Space.of(table, columns) for columns in spaces]
        self._chosen: dict[int, Multiply] = {1: MULTIPLIES[0]}

    @torch.inference_mode()
    def warm(self) -> None:
        """Time the ways to multiply on this machine, for each size of batch."""
        codes_CD = self._spaces[0].codes[:TIMED_ROWS]
        for size in BATCHES:
            query_BD = codes_CD[:1].expand(size, -1).contiguous()
            self._chosen[size] = min(MULTIPLIES, key=lambda way: shortest_s(partial(way, codes_CD, query_BD)))

    def tiles(self, query_BX: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
        """As those of a ``Layout``."""
        asked = [space.rounded(query_BX.numpy()) for space in self._spaces]
        multiply = self._chosen[max(size for size in self._chosen if size <= len(query_BX))]
        at_once = max(CELLS["cpu"] // len(query_BX), ROWS_AT_ONCE)
        for start in range(0, len(self.entities), at_once):
            tile = slice(start, start + at_once)
            pairs = zip(self._spaces, asked, strict=True)
            yield start, [space.products(query, tile, multiply) for space, query in pairs]

    def errors(self, query_BX: Float32) -> Errors:
        """Bounds for ``tiles``: q·c errs by at most ``|q - q'| |c| + |q'| |c - c'|``, all of them stretched;
        infinite where numbers might not fit float32."""
        absolute_BS, whole_BS = np.empty((2, len(query_BX), len(self.spaces)))
        for place, space in enumerate(self._spaces):
            exact_B = 1.02 * self.entities.rounding(query_BX, space.columns)
            absolute_BS[:, place], whole_BS[:, place] = space.errors(query_BX)
            absolute_BS[:, place] += exact_B
        return Errors(absolute_BS, RELATIVE, absolute_BS * (1 + RELATIVE) + RELATIVE * whole_BS)


@dataclass(frozen=True)
class _Rounded:
    """``codes`` int8[B, D] times ``steps`` float32[B, 1]; ``lengths`` float64[B] of that, and of what is
    ``lost``."""

    codes: Tensor
    steps: Tensor
    lengths: Float64
    lost: Float64

    @classmethod
    def of(cls, vector_BD: Tensor) -> _Rounded:
        """The nearest to vectors float64[B, D]."""
        steps_B1 = (vector_BD.abs().amax(dim=1, keepdim=True) / STEPS).float()
        exact_B1 = steps_B1.double()
        codes_BD = (vector_BD / torch.where(exact_B1 > 0, exact_B1, 1)).round_().clamp_(-STEPS, STEPS)
        rounded_BD = codes_BD * exact_B1
        lost_BD = vector_BD - rounded_BD
        return cls(codes_BD.to(torch.int8), steps_B1, _lengths(rounded_BD), _lengths(lost_BD))


@dataclass(frozen=True)
class _Space:
    """All candidates in some columns, ``stretch`` float64[D] being what these are multiplied by.

    ``codes`` int8[N, D], ``steps`` float32[N]; ``longest`` of the stretched vectors, ``lost`` the most that
    rounding took off one.
    """

    columns: slice
    stretch: Tensor
    codes: Tensor
    steps: Tensor
    longest: float
    lost: float

    @classmethod
    def of(cls, table: EntityTable, columns: slice) -> _Space:
        """In float32, as tables are large: norms err by less than 1 % there, differences by 2^-23 of a
        vector, and squares vanish of what is below 2^-63."""
        vector_ND = torch.from_numpy(table.joined_NX)[:, columns]
        stretch_D = _stretch(vector_ND)
        codes_ND, steps_N = torch.empty(vector_ND.shape, dtype=torch.int8), torch.empty(len(vector_ND))
        longest, lost = 0.0, 0.0
        for start in range(0, len(vector_ND), ROWS_AT_ONCE):
            tile = slice(start, start + ROWS_AT_ONCE)
            part_CD = vector_ND[tile] * stretch_D
            steps_C1 = vector_norm(part_CD, torch.inf, dim=1, keepdim=True) / STEPS
            codes_CD = (part_CD / torch.where(steps_C1 > 0, steps_C1, 1)).round_().clamp_(-STEPS, STEPS)
            codes_ND[tile], steps_N[tile] = codes_CD, steps_C1[:, 0]
            longest = max(longest, float(vector_norm(part_CD, dim=1).max()))
            lost = max(lost, float(vector_norm(part_CD.addcmul_(codes_CD, steps_C1, value=-1), dim=1).max()))
        longest = 1.01 * longest + vector_ND.shape[1] * 2.0**-62
        lost = 1.01 * lost + 2.0**-22 * longest + vector_ND.shape[1] * 2.0**-62
        return cls(columns, stretch_D.double(), codes_ND, steps_N, longest, lost)

    def rounded(self, query_BX: Float32) -> _Rounded:
        """Queries, stretched the other way so that products stay what they are."""
        return _Rounded.of(torch.from_numpy(query_BX[:, self.columns]).double() / self.stretch)

    def products(self, query: _Rounded, tile: slice, multiply: Multiply) -> Tensor:
        """float32[C, B]."""
        product_CB = multiply(self.codes[tile], query.codes).float()
        return product_CB.mul_(self.steps[tile, None]).mul_(query.steps[:, 0])

    def errors(self, query_BX: Float32) -> tuple[Float64, Float64]:
        """float64[B]: how far products may lie from the exact ones, and how large they may be."""
        query = self.rounded(query_BX)
        with np.errstate(invalid="ignore", over="ignore"):  # What overflows proves nothing.
            most_B = 1.01 * query.lengths * self.longest
            error_B = 1.01 * (query.lost * self.longest + query.lengths * self.lost)
            error_B += 2.0**-125 * (1 + query.lengths)  # Lost below the smallest numbers of float32.
            fits_B = most_B + query.lengths < OVERFLOW
        return np.where(fits_B, error_B, np.inf), np.where(fits_B, most_B, np.inf)


def _stretch(vector_ND: Tensor) -> Tensor:
    """float32[D]: what brings the largest of each column near 1, as far as float32 can tell."""
    parts = [vector_ND[start : start + ROWS_AT_ONCE] for start in range(0, len(vector_ND), ROWS_AT_ONCE)]
    largest_D = torch.stack([vector_norm(part, torch.inf, dim=0) for part in parts]).amax(dim=0)
    return torch.where(largest_D > 0, 1 / largest_D.clamp(2.0**-126, 2.0**126), 1)


def _lengths(vector_BD: Tensor) -> Float64:
    lengths_B: Float64 = vector_BD.square().sum(dim=1).sqrt().numpy()
    return lengths_B
