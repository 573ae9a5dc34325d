"""Retrieval by rotation distances: the table, the scan and the search of a single branch that rotates.

Scores are ``margin - Σ_i |q_i - c_i|`` over complex coordinates (``model/rotation.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor

from momok.model.arrays import Float32, Float64, Int64
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.matmul import Layout
from momok.model.retrieval.search import Search
from momok.model.retrieval.table import RESCORED_AT_ONCE, EntityTable
from momok.model.rotation import CELLS, distance
from momok.model.scores import Branch, Decision

LARGEST = 2.0**60
"""Differences below this square and sum without overflow in float32."""

SCORED_AT_ONCE = 1 << 18
"""Scores that the scan looks through at a time."""


class RotationTable(EntityTable):
    """One branch of complex coordinates; ``margin`` is what a distance is subtracted from."""

    def __init__(self, branches: Sequence[Branch], table: Mapping[str, Float32]) -> None:
        super().__init__(branches, table)
        (branch,) = branches
        self.margin = branch.margin
        moduli_N = (
            _moduli(self.joined_NX[start : start + RESCORED_AT_ONCE]).sum(axis=1)
            for start in range(0, len(self), RESCORED_AT_ONCE)
        )
        self._farthest = max(float(part.max()) for part in moduli_N)

    def rescore(self, query_BX: Float32, row_P: Int64, entity_P: Int64) -> Float64:
        """As for inner products: pair by pair, so that equal vectors get equal scores."""
        score_P1 = np.empty((len(entity_P), 1))
        for start in range(0, len(entity_P), RESCORED_AT_ONCE):
            part = slice(start, start + RESCORED_AT_ONCE)
            query_pX = query_BX[row_P[part]].astype(np.float64)
            moduli_pD = _moduli(query_pX - self.joined_NX[entity_P[part]])
            score_P1[part, 0] = self.margin - moduli_pD.sum(axis=1)
        return score_P1

    def rounding(self, query_BX: Float32, columns: slice) -> Float64:
        """How far a float32 score may lie from the exact one, float64[B].

        A modulus of a difference errs by four units in the last place at the most, a sum of d of them in any
        order by d - 1 more (Higham 2002, chapter 4), and subtracting it from the margin by one of the two. No
        distance is longer than the way over the origin. Differences below 2^-63 square to 0.
        """
        num_coordinates = query_BX.shape[1] // 2
        longest_B = _moduli(query_BX).sum(axis=1) + self._farthest
        unit = 1.01 * 2.0**-24
        rounding_B = unit * ((num_coordinates + 6) * longest_B + abs(self.margin))
        certain_B = longest_B < LARGEST
        return np.where(certain_B, rounding_B + num_coordinates * 2.0**-62, np.inf)

    def product_rounding(self, vector_BX: Float32) -> Float64:
        """How far float32 inner products with candidates may lie from the exact ones, float64[B]."""
        return super().rounding(vector_BX, self.whole)


class RotationLayout(Layout):
    """Scores by distance in place of inner products. There is one way to a distance only."""

    def warm(self) -> None:
        """There is nothing to time."""

    def tiles(self, query_BX: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
        assert isinstance(self.entities, RotationTable)
        query_BX = query_BX.to(self.device)
        cells = max(SCORED_AT_ONCE, CELLS[self.device.type] // query_BX.shape[1])
        at_once = max(cells // len(query_BX), 1024)
        for start in range(0, len(self.table_NX), at_once):
            tile_CX = self.table_NX[start : start + at_once]
            yield start, [self.entities.margin - distance(query_BX, tile_CX).T.contiguous()]


class RotationSearch(Search):
    """Searches along the direction in which a query lies, by an index of inner products, and certifies.

    ``|z_i| ≥ Re(ū_i z_i)`` for every ``|u_i| ≤ 1``, so a distance is at least ``Re⟨u, q - c⟩``: who has no
    large inner product with u is far from q. Here u are the phases of q seen from the middle of the table.
    The Euclidean distance is a lower bound as well, but one that is too small by about √d.
    """

    def __init__(
        self,
        table: EntityTable,
        decision: Decision,
        indexes: Mapping[str, EntityIndex] | None = None,
        gpu: int | None = None,
    ) -> None:
        super().__init__(table, decision, indexes, gpu)
        self._middle_X = table.joined_NX.mean(axis=0, dtype=np.float64)

    def _asked(self, query_BX: Float32) -> Float32:
        offset_BX = query_BX - self._middle_X
        length_BX = np.tile(_moduli(offset_BX), 2)
        # A little less than unit vectors, so that none is longer once it is rounded.
        scale_BX = np.divide(1 - 2.0**-22, length_BX, out=np.zeros_like(length_BX), where=length_BX > 0)
        phase_BX: Float32 = (offset_BX * scale_BX).astype(np.float32)
        return phase_BX

    def _ceiling(self, query_BX: Float32, last: Sequence[Float32]) -> Float64:
        assert isinstance(self._table, RotationTable)
        asked_BX = self._asked(query_BX)
        error_B = self._table.product_rounding(asked_BX)
        certain_B = np.isfinite(error_B)
        own_B = (asked_BX.astype(np.float64) * query_BX).sum(axis=1)
        nearest_B = own_B - last[0] - np.where(certain_B, error_B, 0)
        ceiling_B = self._table.margin - np.maximum(nearest_B - 2.0**-40 * np.abs(own_B), 0)
        return np.where(certain_B, ceiling_B + 4 * np.spacing(np.abs(ceiling_B)), np.inf)


def table_of(branches: Sequence[Branch], vectors: Mapping[str, Float32]) -> EntityTable:
    """The table of candidates that goes with the geometry of the branches."""
    rotates = any(branch.geometry == "rotate" for branch in branches)
    return (RotationTable if rotates else EntityTable)(branches, vectors)


def _moduli(packed_PX: np.ndarray) -> Float64:
    """The moduli float64[P, d] of packed complex coordinates."""
    real_PD, imaginary_PD = np.split(packed_PX.astype(np.float64), 2, axis=1)
    moduli_PD: Float64 = np.sqrt(real_PD**2 + imaginary_PD**2)
    return moduli_PD
