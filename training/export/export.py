"""Export: from the best weights of a run to a bundle, checked against the model it came from."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from momok.model.answer import Answer, Query
from momok.model.arrays import Int64
from momok.model.bundle.bundle import Bundle, BundleError
from momok.model.bundle.manifest import BranchShape, GoldenQuery, IndexInfo, Manifest
from momok.model.bundle.vocabulary import write_vocabulary
from momok.model.bundle.writer import save_bundle
from momok.model.filter_index import SPLITS, FilterIndex
from momok.model.networks.base import Candidates, LinkPredictor, build_model
from momok.model.retrieval.index import EntityIndex
from momok.model.retrieval.index_spec import IndexSpec
from momok.model.scorer import Scorer, table_of
from momok.training.data.dataset import Dataset
from momok.training.data.pictures import picture_files
from momok.training.evaluation.ranking import evaluate
from momok.training.export.indexing import NUM_QUERIES, build_index, check_indexable
from momok.training.fit.run import Run

NUM_GOLDEN = 8
GOLDEN_K = 10
TOLERANCE = 1e-4
"""Largest difference between the float32 scores of two ways to the same function, relative to the largest."""


def export_run(
    run: Run,
    path: Path,
    *,
    dataset: Dataset,
    device: torch.device,
    name: str | None = None,
    index: str | None = None,
    show_progress: bool = False,
) -> Manifest:
    """Write the bundle of a run's best model and return its manifest.

    ``index``: kind and parameters of the index (``IndexSpec.parse``); None takes what goes with the model and
    the number of entities. Evaluates valid and test on the way. Raises ``BundleError``, ``RunError`` or
    ``CheckpointError``; nothing half-written stays behind.
    """
    if path.exists():
        raise BundleError(f"{path}: exists already; choose another place or remove it first")
    trained, best = run.best_model()
    spec = _index_spec(index, trained)
    model = _for_inference(trained)
    with torch.inference_mode():
        candidates = model.candidates()
    known = dataset.known()
    answers = Scorer(model, candidates, known).answer(_golden_queries(dataset))
    found, info = _indexing(model, candidates, spec, dataset, show_progress)
    table = {name: rows.to(device) for name, rows in candidates.vectors.items()}
    metrics = {
        split: _report(model.to(device), dataset, known, split, table)
        for split in ("valid", "test")
        if len(dataset.facts[split])
    }
    model.cpu()  # Its candidates are there; both are written below.
    facts = {split: len(dataset.facts[split]) for split in SPLITS}
    manifest = Manifest(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        name=name or dataset.name,
        model=model.config.model_dump(mode="json"),
        branches=[BranchShape.of(branch) for branch in model.branches],
        decision=model.decision,
        counts={"entities": dataset.num_entities, "relations": dataset.num_relations} | facts,
        fingerprint=dataset.fingerprint,
        index=info,
        metrics=metrics,
        golden=list(map(_golden, answers)),
        provenance=run.provenance | {"recipe": run.recipe.model_dump(mode="json"), "best": best},
        files={},
    )
    return save_bundle(
        path,
        model=model,
        candidates=candidates,
        known=known,
        write_names=partial(_write_names, dataset=dataset),
        manifest=manifest,
        check=partial(_check_scores, trained=trained),
        index=found,
        pictures=dict(picture_files(dataset.pictures, dataset.picture_folder, "entities.tsv")),
    )


def evaluate_run(run: Run, dataset: Dataset, split: str, device: torch.device) -> dict[str, Any]:
    """The evaluation report of a run's best model on one split."""
    model, best = run.best_model()
    report = _report(model.to(device), dataset, dataset.known(), split)
    return {"source": str(run.path), "split": split, "best_epoch": best["epoch"], **report}


def evaluate_bundle(bundle: Bundle, split: str) -> dict[str, Any]:
    """The evaluation report of a bundle, from nothing but the bundle."""
    device = bundle.model.present.device
    report = evaluate(
        bundle.model,
        bundle.known.facts(split),
        bundle.known,
        seen=np.unique(bundle.known.facts("train")[:, [0, 2]]),
        relations=bundle.vocabulary.relations,
        table={name: rows.to(device) for name, rows in bundle.candidates.vectors.items()},
    )
    return {"source": str(bundle.path), "split": split, "version": bundle.manifest.version, **report}


def _for_inference(trained: LinkPredictor) -> LinkPredictor:
    """A copy without the parameters that only training reads."""
    model = build_model(trained.config.for_inference())
    state = trained.state_dict()
    model.load_state_dict({name: state[name] for name in model.state_dict()})
    return model.eval()


def _report(
    model: LinkPredictor,
    dataset: Dataset,
    known: FilterIndex,
    split: str,
    table: dict[str, torch.Tensor] | None = None,
) -> dict[str, Any]:
    seen, relations = dataset.seen_entities(), dataset.relations
    return evaluate(model, dataset.facts[split], known, seen=seen, relations=relations, table=table)


def _golden_queries(dataset: Dataset) -> list[Query]:
    """A few queries, evenly spread over the facts of the last split that has any, ends in turn."""
    facts = next(dataset.facts[split] for split in reversed(SPLITS) if len(dataset.facts[split]))
    chosen = facts[np.linspace(0, len(facts) - 1, num=min(NUM_GOLDEN, len(facts))).astype(int)]
    return [
        Query(head, relation, GOLDEN_K, exclude_known=False)
        if position % 2 == 0
        else Query(tail, relation + dataset.num_relations, GOLDEN_K, exclude_known=False)
        for position, (head, relation, tail) in enumerate(chosen.tolist())
    ]


@torch.inference_mode()
def _indexing(
    model: LinkPredictor, candidates: Candidates, spec: IndexSpec, dataset: Dataset, show_progress: bool
) -> tuple[EntityIndex | None, IndexInfo]:
    """The index of the candidates, tuned on queries that training has not seen; none where it is exact."""
    if spec.exact:
        return None, IndexInfo()
    encoding = model.encode(*(torch.from_numpy(ids) for ids in _held_out(dataset)))
    asked = {name: rows.numpy() for name, rows in encoding.query.items()}
    try:
        check_indexable(spec, model.decision)
        return build_index(table_of(model, candidates), spec, asked, show_progress=show_progress)
    except ValueError as error:
        raise BundleError(f"--index {spec}: {error}") from None


def _held_out(dataset: Dataset) -> tuple[Int64, Int64]:
    """Queries of valid and test, both ends, evenly spread: entities and relations in [0, 2R)."""
    held = [dataset.facts[split] for split in SPLITS[1:] if len(dataset.facts[split])]
    facts = np.concatenate(held) if held else dataset.facts[SPLITS[0]]
    asked = [facts[:, [0, 1]], np.stack([facts[:, 2], facts[:, 1] + dataset.num_relations], axis=1)]
    distinct = np.unique(np.concatenate(asked), axis=0)
    chosen = distinct[np.linspace(0, len(distinct) - 1, min(NUM_QUERIES, len(distinct))).astype(int)]
    return np.ascontiguousarray(chosen[:, 0]), np.ascontiguousarray(chosen[:, 1])


def _index_spec(text: str | None, model: LinkPredictor) -> IndexSpec:
    """The index asked for; by default the one that goes with the decision and the number of entities."""
    num_entities = model.config.num_entities
    if text is None:
        return IndexSpec.for_size(num_entities, None if model.decision == "sum" else "flat")
    try:
        return IndexSpec.parse(text, num_entities)
    except ValueError as error:
        raise BundleError(f"--index {text}: {error}") from None


def _golden(answer: Answer) -> GoldenQuery:
    return GoldenQuery(
        entity=answer.query.entity,
        relation=answer.query.relation,
        entities=answer.ranking.entities.tolist(),
        scores=answer.ranking.scores.tolist(),
    )


@torch.inference_mode()
def _check_scores(bundle: Bundle, *, trained: LinkPredictor) -> None:
    """The written bundle must answer its golden queries with the scores of the model that was trained."""
    golden = bundle.manifest.golden
    entity_B = torch.tensor([query.entity for query in golden])
    relation_B = torch.tensor([query.relation for query in golden])
    score_BN = trained.score(trained.encode(entity_B, relation_B).query, trained.entity_table())
    queries = [Query(query.entity, query.relation, GOLDEN_K, exclude_known=False) for query in golden]
    for row, answer in enumerate(Scorer(bundle.model, bundle.candidates, bundle.known).answer(queries)):
        found = answer.ranking
        best = score_BN[row].topk(len(found.scores)).values.numpy()
        allowed = TOLERANCE * max(1.0, float(np.abs(best).max()))
        # The best scores, and of these very entities: a table in another order would have the scores alone.
        for expected in (best, score_BN[row].numpy()[found.entities]):
            if not np.allclose(found.scores, expected, rtol=0, atol=allowed):
                raise BundleError(
                    f"self-check: query {row} scores {found.scores[0]:.6g} in the bundle and "
                    f"{expected[0]:.6g} in the model; the bundle was not written. Please report this"
                )


def _write_names(path: Path, *, dataset: Dataset) -> None:
    facts = np.unique(np.concatenate([dataset.facts[split] for split in SPLITS]), axis=0)
    degrees = np.bincount(facts[:, [0, 2]].ravel(), minlength=dataset.num_entities)
    counts = np.bincount(facts[:, 1], minlength=dataset.num_relations)
    write_vocabulary(
        path,
        entities=dataset.entities,
        relations=dataset.relations,
        descriptions=dataset.descriptions,
        degrees=degrees.tolist(),
        relation_counts=counts.tolist(),
    )
