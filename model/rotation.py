"""RotatE: a relation turns each complex coordinate of an entity; the score is minus the distance left.

Axes: B queries, C candidates, P pairs, R relations, D complex coordinates; X packs these as 2 D numbers, the
real parts and then the imaginary ones; small letters are parts of an axis.

A rotation keeps distances, ``|h e^{iφ} - t| = |t e^{-iφ} - h|``: the inverse of a relation is its negated
phase, and asking for a head is asking for the tail of the inverse.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from momok.model.arrays import Float64

CELLS = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Coordinate differences held at once; on a CPU they stay within reach of its caches."""

_TINY = torch.finfo(torch.float32).tiny


def rotate(entity_BX: Tensor, phase_BD: Tensor) -> Tensor:
    """The queries float[B, 2d]: every coordinate turned by its phase (radians, float[B, d])."""
    real_BD, imaginary_BD = entity_BX.chunk(2, dim=-1)
    cos_BD, sin_BD = phase_BD.cos(), phase_BD.sin()
    return torch.cat(
        [real_BD * cos_BD - imaginary_BD * sin_BD, real_BD * sin_BD + imaginary_BD * cos_BD], dim=-1
    )


def moduli(packed_PX: Float64) -> Float64:
    """The moduli float64[P, d] of packed complex coordinates."""
    real_PD, imaginary_PD = np.split(packed_PX, 2, axis=1)
    result: Float64 = np.sqrt(real_PD**2 + imaginary_PD**2)
    return result


def signed_phase(phase_RD: Tensor, relation_B: Tensor) -> Tensor:
    """The phases float[B, d] of relations in [0, 2R): relation ``r + R`` undoes the turn of ``r``."""
    num_relations = len(phase_RD)
    # Not by an index: threads would add its gradients in any order.
    phase_BD = F.embedding(relation_B % num_relations, phase_RD)
    return torch.where((relation_B < num_relations)[:, None], phase_BD, -phase_BD)


def paired_distance(query_BX: Tensor, target_BX: Tensor) -> Tensor:
    """``Σ_i |q_i - t_i|`` of each query and its target, float[B]; differentiable as ``distance``."""
    real_BD, imaginary_BD = (query_BX - target_BX).chunk(2, dim=-1)
    return (real_BD.square() + imaginary_BD.square()).clamp_min(_TINY).sqrt().sum(dim=-1)


def distance(query_BX: Tensor, table_CX: Tensor) -> Tensor:
    """``Σ_i |q_i - c_i|``, the sum of complex moduli, of every query to every candidate: float[B, C].

    Differences are computed tile by tile, forward and backward: memory does not grow with B x C x d.
    Differentiable once, in both; where two coordinates coincide the gradient is 0.
    """
    if torch.is_grad_enabled() and (query_BX.requires_grad or table_CX.requires_grad):
        result_BC: Tensor = _Distance.apply(query_BX, table_CX)  # type: ignore[no-untyped-call]
        return result_BC
    return _distances(query_BX, table_CX)


def _distances(query_BX: Tensor, table_CX: Tensor) -> Tensor:
    result_BC = query_BX.new_empty(len(query_BX), len(table_CX))
    for rows, columns in _tiles(query_BX, table_CX):
        real_bcD, imaginary_bcD = _differences(query_BX[rows], table_CX[columns])
        moduli_bcD = real_bcD.mul_(real_bcD).addcmul_(imaginary_bcD, imaginary_bcD).sqrt_()
        result_BC[rows, columns] = moduli_bcD.sum(dim=-1)
    return result_BC


class _Distance(torch.autograd.Function):
    """The gradient of a modulus is the unit vector of its difference, computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, query_BX: Tensor, table_CX: Tensor) -> Tensor:
        ctx.save_for_backward(query_BX, table_CX)
        return _distances(query_BX, table_CX)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BC: Tensor) -> tuple[Tensor, Tensor]:
        query_BX, table_CX = ctx.saved_tensors
        query_gradient_BX, table_gradient_CX = torch.zeros_like(query_BX), torch.zeros_like(table_CX)
        for rows, columns in _tiles(query_BX, table_CX):
            real_bcD, imaginary_bcD = _differences(query_BX[rows], table_CX[columns])
            weight_bcD = (real_bcD * real_bcD).addcmul_(imaginary_bcD, imaginary_bcD)
            weight_bcD.clamp_min_(_TINY).rsqrt_().mul_(gradient_BC[rows, columns, None])
            parts = [part_bcD.mul_(weight_bcD) for part_bcD in (real_bcD, imaginary_bcD)]
            query_gradient_BX[rows] += torch.cat([part_bcD.sum(dim=1) for part_bcD in parts], dim=1)
            table_gradient_CX[columns] -= torch.cat([part_bcD.sum(dim=0) for part_bcD in parts], dim=1)
        return query_gradient_BX, table_gradient_CX


def _differences(query_bX: Tensor, table_cX: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts of all differences, float[b, c, d] each, in memory of their own."""
    query, table = query_bX.chunk(2, dim=1), table_cX.chunk(2, dim=1)
    return query[0][:, None] - table[0][None], query[1][:, None] - table[1][None]


def _tiles(query_BX: Tensor, table_CX: Tensor) -> Iterator[tuple[slice, slice]]:
    """Tiles of the pairs: rows and columns."""
    (num_rows, width), num_columns = query_BX.shape, len(table_CX)
    pairs = max(CELLS.get(query_BX.device.type, CELLS["cuda"]) // max(width // 2, 1), 1)
    columns_at_once = max(min(pairs, num_columns), 1)
    rows_at_once = max(pairs // columns_at_once, 1)
    for row in range(0, num_rows, rows_at_once):
        for column in range(0, num_columns, columns_at_once):
            yield slice(row, row + rows_at_once), slice(column, column + columns_at_once)
