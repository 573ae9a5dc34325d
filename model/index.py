"""EntityIndex: nearest candidates by inner product. The only file that imports faiss."""

from __future__ import annotations

from typing import Any, cast

import faiss
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


class EntityIndex:
    """A FAISS index over vectors float32[N, D]; ``kind`` ``"flat"`` compares with every one of them."""

    def __init__(self, vectors_ND: Float32) -> None:
        self.kind = "flat"
        self._index = faiss.IndexFlatIP(vectors_ND.shape[1])
        self._index.add(np.ascontiguousarray(vectors_ND))

    def search(self, query_BD: Float32, depth: int, allowed_N: Bool | None = None) -> tuple[Float32, Int64]:
        """The ``depth`` best inner products of each query, descending, and their entity ids.

        float32[B, depth] and int64[B, depth]; where fewer are found the id is -1. ``allowed_N``: whom to
        find, the same for all queries.
        """
        library = cast(Any, faiss)  # Its stubs know no selectors.
        parameters = library.SearchParameters()
        if allowed_N is not None:
            parameters.sel = library.IDSelectorBitmap(np.packbits(allowed_N, bitorder="little"))
        score_BC, entity_BC = self._index.search(np.ascontiguousarray(query_BD), depth, params=parameters)
        return score_BC, entity_BC
