"""EntityIndex: nearest candidates by inner product. The only file that imports faiss."""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class EntityIndex:
    """A FAISS index over N vectors; ``kind`` ``"flat"`` compares with every one of them."""

    def __init__(self, vectors_ND: Float32) -> None:
        self.kind = "flat"
        self._index = faiss.IndexFlatIP(vectors_ND.shape[1])
        self._index.add(np.ascontiguousarray(vectors_ND))

    def search(self, query_BD: Float32, depth: int) -> tuple[Float32, Int64]:
        """The ``depth`` best inner products of each query, descending, and their entity ids.

        float32[B, depth] and int64[B, depth]; where fewer exist the id is -1.
        """
        score_BC, entity_BC = self._index.search(np.ascontiguousarray(query_BD), depth)
        return score_BC, entity_BC
