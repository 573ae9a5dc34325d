"""Indexes of a bundle: tuned on some held-out queries, judged on others, shipped, and refused if too poor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from momok.model.bundle.bundle import Bundle, BundleError
from momok.model.bundle.manifest import IndexInfo
from momok.model.networks.base import LinkPredictor
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.index_spec import IndexSpec
from momok.model.scorer import table_of
from momok.model.scores import Decision
from momok.service.answering.answerer import Answerer
from momok.service.contract.schemas import PredictRequest
from momok.training.export.export import export_run
from momok.training.export.indexing import build_index, check_indexable
from momok.training.fit.run import Run
from tests.model.conftest import _make_model
from tests.training.builders import CPU, make_recipe, start

NUM_ENTITIES = 3000


def model_of_sum() -> LinkPredictor:
    return _make_model("momok", 3, num_entities=NUM_ENTITIES, decision="sum")


def asked(number: int = 60) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.integers(0, NUM_ENTITIES, number), random.integers(0, 4, number)


@torch.inference_mode()
def indexing_of(
    model: LinkPredictor, spec: IndexSpec, queries: tuple[np.ndarray, np.ndarray]
) -> tuple[EntityIndex, IndexInfo]:
    encoding = model.encode(*(torch.from_numpy(ids) for ids in queries))
    vectors = {name: rows.numpy() for name, rows in encoding.query.items()}
    return build_index(table_of(model, model.candidates()), spec, vectors, show_progress=False)


def recall_of(model: LinkPredictor, found: list[list[int]], queries: tuple[np.ndarray, np.ndarray]) -> float:
    """By plain scores of all entities."""
    with torch.inference_mode():
        query = model.encode(*(torch.from_numpy(ids) for ids in queries)).query
        score_QN = model.score(query, model.entity_table())
    best = score_QN.topk(10, dim=1).indices.tolist()
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, best, strict=True)]))


def test_effort_is_doubled_until_recall_is_good() -> None:
    index, info = indexing_of(model_of_sum(), IndexSpec(kind="ivf", lists=16), asked())
    assert info.spaces == ["concat"]
    assert info.spec.probes > 1
    assert set(info.recall) == {"1", "10", "100"}
    assert info.num_queries == 30
    assert info.recall["10"] > 0.9
    assert info.build_s > 0
    assert info.spec.probes == index.spec.probes


def test_effort_that_was_asked_for_stays_and_its_recall_is_told_as_it_is() -> None:
    model = model_of_sum()
    spec = IndexSpec(kind="ivf", lists=64, probes=1)
    index, info = indexing_of(model, spec, asked(400))
    assert info.spec.probes == 1
    entity_Q, relation_Q = (ids[1::2] for ids in asked(400))
    with torch.inference_mode():
        query = model.encode(torch.from_numpy(entity_Q), torch.from_numpy(relation_Q)).query
    joined = torch.cat([query[branch.name] for branch in model.branches], dim=1).numpy()
    full = [(row, ids) for row, ids in enumerate(index.search(joined, 10)[1].tolist()) if min(ids) >= 0]
    rows = np.array([row for row, _ in full])
    plain = recall_of(model, [ids for _, ids in full], (entity_Q[rows], relation_Q[rows]))
    # Rescoring 128 finds a little more than the index's own ten; queries that find too few are scanned.
    assert plain - 0.02 <= info.recall["10"] < 0.98


@pytest.mark.parametrize("decision", ["mean_sigmoid", "single"])
def test_scores_that_are_no_inner_product_have_no_approximate_index(decision: Decision) -> None:
    with pytest.raises(ValueError, match=f"ivf finds inner products, and the decision '{decision}' is none"):
        check_indexable(IndexSpec(kind="ivf"), decision)
    check_indexable(IndexSpec(), decision)
    check_indexable(IndexSpec(kind="ivf"), "sum")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    trainer = start(tmp_path_factory.mktemp("run"), make_recipe(max_epochs=2))
    trainer.train()
    return trainer.run


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "ivf"),
        ({"model": "adamf", "network.dim": 8}, "flat"),
        ({"model": "adamf-mat", "network.dim": 8}, "flat"),
        ({"model": "mocme", "network.dim": 8, "network.hidden_width": 8}, "flat"),
    ],
)
def test_what_is_built_of_a_large_graph_goes_with_the_model(
    changes: dict[str, Any], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("momok.model.retrieval.index_spec.MANY_ENTITIES", 10)
    trainer = start(tmp_path, make_recipe(max_epochs=1).changed(changes))
    trainer.train()
    manifest = export_run(trainer.run, tmp_path / "bundle", dataset=trainer.run.dataset(), device=CPU)
    assert manifest.index.kind == kind


Export = Callable[[str], Path]


@pytest.fixture(scope="module")
def export(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Export:
    def write(index: str) -> Path:
        path = tmp_path_factory.mktemp("bundles") / "bundle"
        export_run(run, path, dataset=run.dataset(), device=CPU, index=index)
        return path

    return write


def request_of(answerer: Answerer) -> PredictRequest:
    names = answerer.bundle.vocabulary
    query = {"head": names.entities.keys[0], "relation": names.relations.keys[0]}
    return PredictRequest.model_validate({"queries": [query], "k": 3, "exclude_known": False})


@pytest.mark.parametrize("index", ["ivf,lists=2,codes=flat", "hnsw,links=8"])
def test_a_bundle_ships_its_index_and_answers_from_it(
    export: Export, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So small a graph is scanned otherwise.
    monkeypatch.setattr("momok.model.retrieval.search.SEARCHED_SHARE", 0)
    path = export(index)
    kind = index.split(",")[0]
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["index"]["kind"] == kind
    assert [name for name in manifest["files"] if name.startswith("index/")] == ["index/concat.faiss"]
    answerer = Answerer.open(path, "cpu", "faiss", min_recall=0.5)
    answer = answerer.predict(request_of(answerer)).answers[0]
    assert (answer.engine, answer.exact) == (f"faiss-{kind}", False)
    exact = Answerer.open(path, "cpu", "scan")
    best = exact.predict(request_of(exact)).answers[0]
    assert (best.engine, best.exact) == ("scan", True)
    scores = {offer.entity.key: offer.score for offer in best.candidates}
    shared = [offer for offer in answer.candidates if offer.entity.key in scores]
    assert shared
    assert all(scores[offer.entity.key] == offer.score for offer in shared)


def test_an_index_that_finds_too_little_is_not_served_unless_by_a_scan(export: Export) -> None:
    path = export("ivf,lists=2,probes=1")
    text = (path / "manifest.json").read_text()
    recall = json.loads(text)["index"]["recall"]["10"]
    poor = text.replace(f'"10": {recall}', '"10": 0.25')
    (path / "manifest.json").write_text(poor)
    with pytest.raises(BundleError, match=r"finds 0\.2500 of the best ten, --min-recall asks 0\.9"):
        Answerer.open(path, "cpu", min_recall=0.9)
    assert Answerer.open(path, "cpu", "scan", min_recall=0.9)
    assert Answerer.open(path, "cpu", min_recall=0.2)


def test_an_index_of_another_table_is_refused(export: Export) -> None:
    path, other = export("ivf,lists=2"), export("hnsw,links=8")
    shutil.copy(other / "index/concat.faiss", path / "index/concat.faiss")
    manifest, foreign = (json.loads((p / "manifest.json").read_text()) for p in (path, other))
    with pytest.raises(BundleError, match=r"index/concat\.faiss: .*manifest says"):
        Bundle.open(path)
    manifest["files"]["index/concat.faiss"] = foreign["files"]["index/concat.faiss"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"index/concat\.faiss: does not fit .*IndexHNSW.* export"):
        Answerer.open(path, "cpu", "faiss")
    del manifest["files"]["index/concat.faiss"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"manifest\.json: lists .* expected .*index/concat\.faiss"):
        Bundle.open(path)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("tree", "--index tree: 'tree' is no kind of index"),
        ("ivf,lists=4000", "--index ivf,lists=4000,.*: lists=4000 of only"),
        ("ivf,codes=pq", "--index ivf,.*codes=pq.*: codes=pq learns from 256 entities at least, not from 41"),
    ],
)
def test_an_index_that_cannot_be_built_leaves_no_bundle(
    run: Run, tmp_path: Path, index: str, reason: str
) -> None:
    with pytest.raises(BundleError, match=reason):
        export_run(run, tmp_path / "bundle", dataset=run.dataset(), device=CPU, index=index)
    assert list(tmp_path.iterdir()) == []
