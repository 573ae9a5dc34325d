"""EntityIndex: nearest candidates by inner product. The only file that imports faiss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self, cast

import faiss
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

IndexKind = Literal["flat", "hnsw", "ivf"]

MANY_ENTITIES = 100_000
"""From here on a scan takes so long that an approximate index is built unless another is asked for."""

ADDED_AT_ONCE = 65_536

POINTS_A_LIST = 48
"""Training vectors for each inverted list; k-means gains little from more (FAISS warns below 39)."""


class IndexSpec(BaseModel):
    """What an index is built with; fields of other kinds are ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: IndexKind = Field("flat", description="flat compares with everyone and is exact.")
    lists: int = Field(1, ge=1, description="ivf: inverted lists; more are read quicker and built slower.")
    probes: int = Field(1, ge=1, description="ivf: lists read by a query; more find more.")
    codes: Literal["flat", "sq8", "pq"] = Field(
        "sq8", description="ivf: how vectors are stored: whole, a byte a number, or product-quantised."
    )
    links: int = Field(32, ge=4, description="hnsw: neighbours of a vertex; more find more and take memory.")
    build_depth: int = Field(200, ge=1, description="hnsw: candidates looked at in building.")
    search_depth: int = Field(128, ge=1, description="hnsw: candidates looked at in a search.")

    @classmethod
    def for_size(cls, num_entities: int, kind: IndexKind | None = None) -> Self:
        """Parameters for so many entities; the kind too where none is given."""
        if kind is None:
            kind = "flat" if num_entities < MANY_ENTITIES else "ivf"
        lists = min(1 << max(round(np.log2(2 * num_entities**0.5)), 0), max(num_entities // 39, 1))
        return cls(kind=kind, lists=lists, probes=max(lists // 32, 1))

    @property
    def exact(self) -> bool:
        return self.kind == "flat"

    @property
    def engine(self) -> str:
        """What answers say of it."""
        return f"faiss-{self.kind}"

    def factory(self, width: int) -> str:
        """FAISS's name of such an index over vectors of ``width``. Raises ``ValueError``."""
        if self.kind == "flat":
            return "Flat"
        if self.kind == "hnsw":
            return f"HNSW{self.links}"
        if self.codes == "pq" and width % 4:
            raise ValueError(f"codes = pq needs widths that are multiples of 4, not {width}")
        codes = {"flat": "Flat", "sq8": "SQ8", "pq": f"PQ{width // 4}"}[self.codes]
        return f"IVF{self.lists},{codes}"


class EntityIndex:
    """A FAISS index over vectors float32[N, D] by inner product."""

    def __init__(self, index: Any, spec: IndexSpec) -> None:
        self.spec = spec
        self._index = index

    @classmethod
    def build(
        cls, vectors_ND: Float32, spec: IndexSpec, progress: Callable[[int], object] | None = None
    ) -> Self:
        """Train where the kind needs it, and add; ``progress`` is told how many vectors were added."""
        width = vectors_ND.shape[1]
        index: Any = faiss.index_factory(width, spec.factory(width), faiss.METRIC_INNER_PRODUCT)
        if spec.kind == "hnsw":
            index.hnsw.efConstruction = spec.build_depth
        if not index.is_trained:
            if spec.kind == "ivf":
                index.cp.niter = 10
                index.cp.max_points_per_centroid = POINTS_A_LIST
                # Spherical centroids: the longest vectors would else draw every query to their lists.
                index.cp.spherical = False
            step = max(len(vectors_ND) // max(POINTS_A_LIST * spec.lists, 1024), 1)
            index.train(np.ascontiguousarray(vectors_ND[::step]))
        for start in range(0, len(vectors_ND), ADDED_AT_ONCE):
            index.add(np.ascontiguousarray(vectors_ND[start : start + ADDED_AT_ONCE]))
            if progress is not None:
                progress(min(start + ADDED_AT_ONCE, len(vectors_ND)) - start)
        return cls(index, spec)

    @classmethod
    def read(cls, path: Path, spec: IndexSpec, num_entities: int, width: int) -> Self:
        """Raises ``ValueError`` for a file that is not such an index of so many vectors."""
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise ValueError(f"not an index that FAISS reads ({str(error).splitlines()[0]})") from None
        if (index.ntotal, index.d) != (num_entities, width):
            found = f"{index.ntotal} vectors of {index.d}"
            raise ValueError(f"it holds {found}, the table {num_entities} of {width}")
        return cls(index, spec)

    def write(self, path: Path) -> None:
        faiss.write_index(self._index, str(path))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, query_BD: Float32, depth: int, allowed_N: Bool | None = None) -> tuple[Float32, Int64]:
        """The ``depth`` best inner products of each query, descending, and their entity ids.

        float32[B, depth] and int64[B, depth]; where fewer are found the id is -1. ``allowed_N``: whom to
        find, the same for all queries.
        """
        score_BC, entity_BC = self._index.search(
            np.ascontiguousarray(query_BD), depth, params=self._parameters(depth, allowed_N)
        )
        return score_BC, entity_BC

    def _parameters(self, depth: int, allowed_N: Bool | None) -> Any:
        given, library = {}, cast(Any, faiss)  # Its stubs know neither these parameters nor these classes.
        if allowed_N is not None:
            given["sel"] = library.IDSelectorBitmap(np.packbits(allowed_N, bitorder="little"))
        if self.spec.kind == "ivf":
            return library.SearchParametersIVF(nprobe=self.spec.probes, **given)
        if self.spec.kind == "hnsw":
            return library.SearchParametersHNSW(efSearch=max(self.spec.search_depth, depth), **given)
        return library.SearchParameters(**given)
