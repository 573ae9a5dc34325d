"""On a GPU: what FAISS can do there and what it cannot; and, where there is one, the same lists as anywhere.

The limit is FAISS's own (1.15): 2,048 fetched at most. Where there is no GPU a stand-in has the same limit.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest
import torch

from momok.model.retrieval.engine import EngineName, Engines
from momok.model.retrieval.index import GPU_FETCHED, EntityIndex
from momok.model.retrieval.index_spec import IndexSpec
from momok.model.retrieval.ranking import Rankings
from momok.model.retrieval.retriever import Retriever
from momok.model.retrieval.selection import Selection
from momok.model.retrieval.table import EntityTable
from momok.model.scores import FUSIONS, Branch, Decision

NUM_ENTITIES = 40_000
CUDA = torch.device("cuda", 0)
FLAT = IndexSpec()
IVF = IndexSpec(kind="ivf", lists=16, probes=8)


class OnGpu:
    """A CPU index that takes what FAISS takes on a GPU."""

    def __init__(self, index: Any) -> None:
        self._index = index
        self.depths: list[int] = []

    def search(self, query_BD: np.ndarray, depth: int, params: Any = None) -> Any:
        assert depth <= 2048, "GPU index only supports min/max-K selection up to 2048"
        self.depths.append(depth)
        return self._index.search(query_BD, depth, params=params)


class Resources:
    def setTempMemory(self, num_bytes: int) -> None:  # noqa: N802
        assert 0 < num_bytes < 1 << 30, "each index has its own"


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[OnGpu]:
    """What was copied to the GPU that FAISS believes to see."""
    made: list[OnGpu] = []

    def copy(_resources: Resources, device: int, index: Any) -> OnGpu:
        assert device == 0
        made.append(OnGpu(index))
        return made[-1]

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", Resources, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", copy, raising=False)
    return made


@pytest.fixture(scope="module")
def table() -> EntityTable:
    random = np.random.default_rng(0)
    rows = {name: random.standard_normal((NUM_ENTITIES, 8), dtype=np.float32) for name in ("one", "other")}
    return EntityTable.of([Branch(name, 8) for name in rows], rows)


@pytest.fixture(scope="module")
def query() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {name: random.standard_normal((4, 8), dtype=np.float32) for name in ("one", "other")}


SELECTIONS = [
    Selection(10, np.arange(5)),
    Selection(10, np.arange(0, 1800)),  # Fetched besides.
    Selection(10, np.arange(0, 30_000, 2)),  # More than may be fetched.
    Selection(10, np.arange(3), np.arange(0, NUM_ENTITIES, 2)),  # Named: scanned.
]


def scanned(
    table: EntityTable, decision: Decision, query: dict[str, np.ndarray], selections: list[Selection]
) -> Rankings:
    fusion = FUSIONS[decision]
    return Retriever(table, fusion, Engines(table, fusion, engine="scan")).top_k(query, selections)


def test_what_a_gpu_cannot_do_is_scanned(
    table: EntityTable, query: dict[str, np.ndarray], copied: list[OnGpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engines, "_on_gpu", True)
    engines = Engines(table, FUSIONS["sum"], engine="faiss", device=torch.device("cpu"))
    found = Retriever(table, FUSIONS["sum"], engines).top_k(query, SELECTIONS)
    expected = scanned(table, "sum", query, SELECTIONS)
    for ranking, right in zip(found, expected, strict=True):
        assert ranking.exact
        assert ranking.entities.tolist() == right.entities.tolist()
        assert ranking.scores.tolist() == right.scores.tolist()
    assert [ranking.engine for ranking in found] == ["faiss-flat", "faiss-flat", "scan", "scan"]
    assert len(copied) == 1
    assert max(copied[0].depths) <= GPU_FETCHED


def test_an_approximate_index_keeps_its_probes_on_a_gpu(
    table: EntityTable, query: dict[str, np.ndarray], copied: list[OnGpu]
) -> None:
    index = EntityIndex.build(table.joined_NX, IVF)
    on_gpu = index.on_gpu(0)
    assert on_gpu is not index
    asked = table.join(query)
    (scores, entities), (gpu_scores, gpu_entities) = index.search(asked, 200), on_gpu.search(asked, 200)
    assert entities.tolist() == gpu_entities.tolist()
    assert scores.tolist() == gpu_scores.tolist()
    assert on_gpu.with_spec(IVF.model_copy(update={"probes": 1})).most_fetched == on_gpu.most_fetched


@pytest.mark.parametrize(
    "spec",
    [
        IndexSpec(kind="hnsw", links=8),
        IndexSpec(kind="ivf", lists=16, fetched=1500),  # A byte a number: no more than 1,023 there.
        IndexSpec(kind="ivf", lists=16, codes="flat", fetched=3000),
        IndexSpec(kind="ivf", lists=16, codes="flat", probes=2049),
    ],
)
def test_what_a_gpu_cannot_hold_or_search_stays(
    table: EntityTable, spec: IndexSpec, copied: list[OnGpu]
) -> None:
    index = EntityIndex.build(table.joined_NX[:5000], spec)
    assert index.on_gpu(0) is index
    assert not copied, "nothing is copied that would not be used"


def test_without_a_gpu_or_without_memory_on_it_an_index_stays(
    table: EntityTable, monkeypatch: pytest.MonkeyPatch, copied: list[OnGpu]
) -> None:
    index = EntityIndex.build(table.joined_NX[:100], FLAT)
    assert index.on_gpu(1) is index, "there is only one"

    def too_little(*_: object) -> None:
        raise RuntimeError("Error: 'err == cudaSuccess' failed: out of memory")

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", too_little)
    assert index.on_gpu(0) is index


def test_a_search_that_runs_short_of_memory_says_so(
    table: EntityTable, query: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, copied: list[OnGpu]
) -> None:
    on_gpu = EntityIndex.build(table.joined_NX[:100], FLAT).on_gpu(0)

    def too_little(*_: object, **__: object) -> None:
        raise RuntimeError("Error: 'err == cudaSuccess' failed: cudaMalloc error out of memory")

    monkeypatch.setattr(copied[0], "search", too_little)
    with pytest.raises(MemoryError):
        on_gpu.search(table.join(query), 10)


CASES: list[tuple[Decision, EngineName]] = [("sum", "scan"), ("mean_sigmoid", "scan"), ("sum", "faiss")]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize(("decision", "engine"), CASES)
def test_a_real_gpu_gives_the_lists_of_a_cpu(
    table: EntityTable, query: dict[str, np.ndarray], decision: Decision, engine: EngineName
) -> None:
    """FAISS's on the CPU where its build knows no GPUs."""
    fusion = FUSIONS[decision]
    retriever = Retriever(table, fusion, Engines(table, fusion, device=CUDA, engine=engine))
    for selections in (SELECTIONS, [Selection(10, np.empty(0, dtype=np.int64))] * 4):
        expected = scanned(table, decision, query, selections)
        for ranking, right in zip(retriever.top_k(query, selections), expected, strict=True):
            assert ranking.exact
            assert ranking.entities.tolist() == right.entities.tolist()
            assert ranking.scores.tolist() == right.scores.tolist()
