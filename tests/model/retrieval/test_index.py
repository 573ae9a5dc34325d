"""Approximate indexes: what they are built with, what is read back, and what answers from them claim."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from momok.model.retrieval.engine import EngineName, Engines
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.index_spec import MANY_ENTITIES, PARAMETERS, IndexSpec
from momok.model.retrieval.retriever import Retriever
from momok.model.retrieval.selection import Selection
from momok.model.retrieval.table import EntityTable
from momok.model.scores import FUSIONS, Branch

WIDTHS = (16, 8)
NONE = np.empty(0, dtype=np.int64)
IVF = IndexSpec(kind="ivf", lists=16, probes=4)
SPECS = [IVF, IVF.model_copy(update={"codes": "flat"}), IndexSpec(kind="hnsw", links=16, search_depth=200)]


def table_of(num_entities: int) -> EntityTable:
    """Entities about some centres, as graphs have them."""
    random = np.random.default_rng(0)
    centres = random.integers(0, 12, num_entities)
    rows = {}
    for place, width in enumerate(WIDTHS):
        spread = 0.5 * random.standard_normal((num_entities, width))
        rows[f"b{place}"] = random.standard_normal((12, width))[centres] + spread
    branches = [Branch(name, width) for name, width in zip(rows, WIDTHS, strict=True)]
    return EntityTable.of(branches, {name: vectors.astype(np.float32) for name, vectors in rows.items()})


def queries(table: EntityTable, number: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    near = table.joined_NX[random.integers(0, len(table), number)]
    near = (near + 0.3 * random.standard_normal(near.shape)).astype(np.float32)
    return {b.name: near[:, columns] for b, columns in zip(table.branches, table.columns, strict=True)}


def retriever_of(table: EntityTable, engine: EngineName, spec: IndexSpec | None = None) -> Retriever:
    index = None if spec is None else EntityIndex.build(table.joined_NX, spec)
    return Retriever(table, FUSIONS["sum"], Engines(table, FUSIONS["sum"], engine=engine, index=index))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.codes}")
def test_an_approximate_list_holds_exact_scores_and_claims_no_proof(
    spec: IndexSpec,
) -> None:
    table = table_of(3000)
    query = queries(table, 40)
    chosen = [Selection(10, np.arange(row)) for row in range(40)]
    scan = retriever_of(table, "scan")
    scanned, found = scan.top_k(query, chosen), retriever_of(table, "faiss", spec).top_k(query, chosen)
    shared = 0
    for row, (ranking, best) in enumerate(zip(found, scanned, strict=True)):
        assert (ranking.engine, ranking.exact) == (f"faiss-{spec.kind}", False)
        assert len(ranking.entities) == 10 == len(set(ranking.entities.tolist()))
        assert ranking.entities.min() >= row
        order = list(zip((-ranking.scores).tolist(), ranking.entities.tolist(), strict=True))
        assert order == sorted(order)
        everyone = scan.top_k(
            {name: vectors[row : row + 1] for name, vectors in query.items()},
            [Selection(10, NONE, np.sort(ranking.entities))],
        )[0]
        assert everyone.scores.tobytes() == ranking.scores.tobytes()
        shared += len(set(ranking.entities.tolist()) & set(best.entities.tolist()))
    assert shared / 400 > 0.9


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.codes}")
def test_hubs_and_candidate_sets_do_not_shorten_a_list(spec: IndexSpec) -> None:
    """A scan, which is exact, finds what the index cannot."""
    table = table_of(3000)
    offered = np.arange(0, 3000, 2)
    hub, few_left = np.arange(1000), np.arange(2995)
    chosen = [Selection(10, hub), Selection(10, hub[::3], offered), Selection(10, few_left)]
    rankings = retriever_of(table, "faiss", spec).top_k(queries(table, 3), chosen)
    assert [len(ranking.entities) for ranking in rankings] == [10, 10, 5]
    assert rankings[0].entities.min() >= 1000
    assert set((rankings[1].entities % 2).tolist()) == {0}
    assert set(rankings[2].entities.tolist()) == set(range(2995, 3000))
    assert rankings[2].exact


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.codes}")
def test_what_was_written_is_read_back_and_answers_alike(spec: IndexSpec, tmp_path: Path) -> None:
    table = table_of(1000)
    index = EntityIndex.build(table.joined_NX, spec)
    index.write(tmp_path / "index")
    again = EntityIndex.read(tmp_path / "index", spec, 1000, sum(WIDTHS))
    asked = table.joined_NX[:20]
    first, second = index.search(asked, 15), again.search(asked, 15)
    assert (first[0] == second[0]).all() and (first[1] == second[1]).all()
    assert again.size_bytes == (tmp_path / "index").stat().st_size


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path, vectors = tmp_path / "index", np.eye(64, dtype=np.float32)
    path.write_bytes(b"not an index at all")
    with pytest.raises(ValueError, match="not an index that FAISS reads"):
        EntityIndex.read(path, IVF, 64, 64)
    EntityIndex.build(vectors, IndexSpec(kind="ivf", lists=1)).write(path)
    with pytest.raises(ValueError, match="it holds 64 vectors of 64, the table 65 of 64"):
        EntityIndex.read(path, IVF, 65, 64)
    with pytest.raises(ValueError, match="not an IndexHNSW of inner products"):
        EntityIndex.read(path, IndexSpec(kind="hnsw"), 64, 64)
    faiss.write_index(faiss.index_factory(64, "IVF1,Flat"), str(path))
    with pytest.raises(ValueError, match="of inner products"):
        EntityIndex.read(path, IVF, 64, 64)


def test_more_probes_find_more() -> None:
    table = table_of(3000)
    index = EntityIndex.build(table.joined_NX, IndexSpec(kind="ivf", lists=32, codes="flat"))
    asked = np.concatenate([*queries(table, 50).values()], axis=1)
    exact = np.argsort(-(asked @ table.joined_NX.T), axis=1)[:, :10]
    shares = []
    for probes in (1, 4, 32):
        _, found = index.with_spec(index.spec.model_copy(update={"probes": probes})).search(asked, 10)
        shares.append(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)]))
    assert shares[0] < shares[1] <= shares[2] == 1


def test_a_spec_is_chosen_by_size() -> None:
    assert IndexSpec.for_size(MANY_ENTITIES - 1).kind == "flat"
    large = IndexSpec.for_size(1_000_000)
    assert (large.kind, large.lists, large.codes) == ("ivf", 2048, "sq8")
    assert IndexSpec.for_size(100, "ivf").lists == 2
    assert IndexSpec.for_size(1, "ivf").lists == 1
    assert not IndexSpec.for_size(1, "hnsw").exact


def test_a_spec_is_read_from_words() -> None:
    spec = IndexSpec.parse("ivf,probes=7,codes=pq", 5000)
    assert (spec.kind, spec.probes, spec.codes, spec.lists) == ("ivf", 7, "pq", 128)
    assert IndexSpec.parse("flat", 5000) == IndexSpec()
    assert IndexSpec.parse("hnsw", 5000).parameters.keys() == set(PARAMETERS["hnsw"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tree", "'tree' is no kind of index; take one of flat, hnsw, ivf"),
        ("flat,lists=3", "'lists=3' is no parameter of flat; there are: none"),
        ("ivf,links=3", "'links=3' is no parameter of ivf; there are: lists, probes, codes"),
        ("ivf,lists=0", "lists=0: .*greater than or equal to 1"),
        ("ivf,lists", "lists=: .*valid integer"),
        ("hnsw,links=many", "links=many: .*valid integer"),
        ("ivf,codes=zip", "codes=zip: .*'flat', 'sq8' or 'pq'"),
    ],
)
def test_words_that_say_nothing_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        IndexSpec.parse(text, 5000)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match="lists=16 of only 3 entities"):
        EntityIndex.build(np.eye(3, dtype=np.float32), IVF)
    few = IndexSpec(kind="ivf", codes="pq")
    with pytest.raises(ValueError, match="codes=pq learns from 256 entities at least, not from 255"):
        EntityIndex.build(np.ones((255, 8), dtype=np.float32), few)
    with pytest.raises(ValueError, match="multiples of 4, not 6"):
        EntityIndex.build(np.eye(6, dtype=np.float32), IndexSpec(kind="ivf", codes="pq"))
