"""EntityIndex: nearest candidates by inner product. The only file that imports faiss."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any, Self, cast

import faiss
import numpy as np

from momok.model.arrays import Float32, Int64
from momok.model.retrieval.index_spec import IndexSpec

ADDED_AT_ONCE = 65_536

POINTS_A_LIST, ITERATIONS = 200, 6
"""Training vectors for each inverted list, and passes over them. k-means converges in a few; but where
entities lie in small clusters, a sample must hold several of each, or clusters fall apart into many lists."""

PQ_CODES = 256
"""The values of a byte of ``codes=pq``, each learned from at least one vector."""

GPU_FETCHED, GPU_SQ8_FETCHED = 2048, 1023
"""The most that one search on a GPU fetches, and the most lists that it probes; with a byte a number it
fetches less, as shared memory runs short (FAISS 1.15, its issue 3207)."""

GPU_SCRATCH = 64 << 20
"""Bytes that an index on a GPU works in; FAISS would take 1.5 GB for each."""


class EntityIndex:
    """A FAISS index over vectors float32[N, D] by inner product.

    ``most_fetched`` is the deepest search that it can do; it works in ``resources`` as long as it lives.
    """

    def __init__(
        self, index: Any, spec: IndexSpec, most_fetched: int = sys.maxsize, resources: Any = None
    ) -> None:
        self.spec, self.most_fetched = spec, most_fetched
        self._index, self._resources = index, resources

    @classmethod
    def build(
        cls, vectors_ND: Float32, spec: IndexSpec, progress: Callable[[int], object] | None = None
    ) -> Self:
        """Train where the kind needs it, and add; ``progress`` gets the number of vectors added.

        Raises ``ValueError`` where the vectors are too few, or of another width than the kind takes.
        """
        num_entities, width = vectors_ND.shape
        if spec.kind == "ivf" and spec.lists > num_entities:
            raise ValueError(f"lists={spec.lists} of only {num_entities} entities")
        index: Any = faiss.index_factory(width, spec.factory(width), faiss.METRIC_INNER_PRODUCT)
        if spec.kind == "hnsw":
            index.hnsw.efConstruction = spec.build_depth
        if not index.is_trained:
            index.cp.niter = ITERATIONS
            index.cp.min_points_per_centroid = 1  # The measured recall says more than FAISS's warnings.
            index.cp.max_points_per_centroid = POINTS_A_LIST
            step = max(num_entities // max(POINTS_A_LIST * spec.lists, 16_384), 1)
            learned_CD = np.ascontiguousarray(vectors_ND[::step])
            if spec.codes == "pq" and len(learned_CD) < PQ_CODES:
                raise ValueError(
                    f"codes=pq learns from {PQ_CODES} entities at least, not from {len(learned_CD)}"
                )
            index.train(learned_CD)
        for start in range(0, num_entities, ADDED_AT_ONCE):
            part_CD = np.ascontiguousarray(vectors_ND[start : start + ADDED_AT_ONCE])
            index.add(part_CD)
            if progress is not None:
                progress(len(part_CD))
        return cls(index, spec)

    @classmethod
    def read(cls, path: Path, spec: IndexSpec, num_entities: int, width: int) -> Self:
        """Raises ``ValueError`` for a file that is not such an index of this many vectors."""
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise ValueError(f"not an index that FAISS reads ({str(error).splitlines()[0]})") from None
        found, expected = type(index).__name__, {"hnsw": "IndexHNSW", "ivf": "IndexIVF"}[spec.kind]
        if not found.startswith(expected) or index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise ValueError(f"it holds a {found}, not an {expected} of inner products")
        if (index.ntotal, index.d) != (num_entities, width):
            raise ValueError(
                f"it holds {index.ntotal} vectors of {index.d}, the table {num_entities} of {width}"
            )
        return cls(index, spec)

    def write(self, path: Path) -> None:
        faiss.write_index(self._index, str(path))

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return int(faiss.serialize_index(self._index).nbytes)

    def with_spec(self, spec: IndexSpec) -> EntityIndex:
        """The same index, searched with other parameters."""
        made = copy(self)
        made.spec = spec
        return made

    def on_gpu(self, device: int) -> EntityIndex:
        """A copy on a GPU; this one where FAISS has none there.

        FAISS may be built without GPUs or see none, not support the kind or effort, or lack the memory.
        """
        library, spec = cast(Any, faiss), self.spec
        most = GPU_SQ8_FETCHED if spec.kind == "ivf" and spec.codes == "sq8" else GPU_FETCHED
        suits = spec.exact or (spec.kind == "ivf" and spec.fetched <= most and spec.probes <= GPU_FETCHED)
        if not suits or device >= library.get_num_gpus():
            return self
        # One for each index: two threads must not share it, as they would in a reload.
        resources = library.StandardGpuResources()
        resources.setTempMemory(GPU_SCRATCH)
        try:
            copied = library.index_cpu_to_gpu(resources, device, self._index)
        except RuntimeError:
            return self
        return EntityIndex(copied, spec, most, resources)

    def search(self, query_BD: Float32, depth: int) -> tuple[Float32, Int64]:
        """The ``depth`` best inner products of each query, descending, and their entity ids.

        float32[B, depth] and int64[B, depth]; where fewer are found the id is -1. Raises ``MemoryError``
        where a GPU has too little.
        """
        assert depth <= self.most_fetched, "Search asks for what the index can do"
        try:
            score_BC, entity_BC = self._index.search(
                np.ascontiguousarray(query_BD), depth, params=self._parameters(depth)
            )
        except RuntimeError as error:
            if "out of memory" in str(error):
                raise MemoryError(str(error)) from None
            raise
        return score_BC, entity_BC

    def _parameters(self, depth: int) -> Any:
        library = cast(Any, faiss)  # Its stubs know neither these parameters nor these classes.
        if self.spec.kind == "ivf":
            return library.SearchParametersIVF(nprobe=self.spec.probes)
        if self.spec.kind == "hnsw":
            return library.SearchParametersHNSW(efSearch=max(self.spec.search_depth, depth))
        return None
