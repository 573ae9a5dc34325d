"""A bundle answers like the run it came from, or is not written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from momok.model.answer import Query
from momok.model.bundle.bundle import Bundle, BundleError
from momok.model.bundle.manifest import Manifest
from momok.model.bundle.writer import save_bundle
from momok.model.errors import UserError
from momok.model.networks.base import Candidates, LinkPredictor, build_model
from momok.model.scorer import Scorer
from momok.training.data.dataset import Dataset
from momok.training.export import export as export_module
from momok.training.export.export import evaluate_bundle, evaluate_run, export_run
from momok.training.fit.checkpoint import CheckpointError
from momok.training.fit.recipe import Recipe
from momok.training.fit.run import Run
from tests.training.builders import CPU, NUM_ENTITIES, make_dataset, make_recipe, start

WITH_SUM = make_recipe(max_epochs=4)
WITH_MEAN_SIGMOID = WITH_SUM.model_copy(update={"objective": {"loss": "bce"}})


@pytest.fixture(scope="module", params=["sum", "mean_sigmoid"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    trainer = start(tmp_path_factory.mktemp("run"), WITH_SUM if request.param == "sum" else WITH_MEAN_SIGMOID)
    trainer.train()
    assert trainer.model.decision == request.param
    return trainer.run


@pytest.fixture(scope="module")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    path = tmp_path_factory.mktemp("bundle") / "bundle"
    return path, export_run(run, path, dataset=run.dataset(), device=CPU)


@pytest.fixture
def bundle(exported: tuple[Path, Manifest]) -> Iterator[Bundle]:
    bundle = Bundle.open(exported[0])
    yield bundle
    bundle.vocabulary.close()


@torch.inference_mode()
def all_scores(run: Run) -> Tensor:
    """What the run's best model says of every query, float32[2R * N, N], computed from nothing but it."""
    model, _ = run.best_model()
    entity_B = torch.arange(NUM_ENTITIES).repeat(4)
    relation_B = torch.arange(4).repeat_interleave(NUM_ENTITIES)
    return model.score(model.encode(entity_B, relation_B).query, model.entity_table())


def test_bundle_scores_like_the_run(run: Run, bundle: Bundle) -> None:
    score_BN = all_scores(run)
    scorer = Scorer(bundle.model, bundle.candidates, bundle.known)
    queries = [Query(e, r, NUM_ENTITIES, exclude_known=False) for r in range(4) for e in range(NUM_ENTITIES)]
    for row, answer in enumerate(scorer.answer(queries)):
        assert sorted(answer.ranking.entities.tolist()) == list(range(NUM_ENTITIES))
        expected = score_BN[row].numpy()[answer.ranking.entities]
        np.testing.assert_allclose(answer.ranking.scores, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_bundle_and_run_evaluate_alike(run: Run, bundle: Bundle, split: str) -> None:
    of_run = evaluate_run(run, run.dataset(), split, CPU)
    of_bundle = evaluate_bundle(bundle, split)
    assert (of_run.pop("source"), of_bundle.pop("source")) == (str(run.path), str(bundle.path))
    assert of_run.pop("best_epoch") == run.best_model()[1]["epoch"]
    assert of_bundle.pop("version") == bundle.manifest.version
    assert of_run == of_bundle
    assert of_run["split"] == split


def test_manifest_holds_both_reports(exported: tuple[Path, Manifest], bundle: Bundle) -> None:
    assert set(bundle.manifest.metrics) == {"valid", "test"}
    for split, report in bundle.manifest.metrics.items():
        again = evaluate_bundle(bundle, split)
        assert report == {name: again[name] for name in report}
    best = bundle.manifest.provenance["best"]
    assert bundle.manifest.metrics["valid"]["metrics"] == best["valid"]


def test_manifest_says_where_the_bundle_came_from(
    run: Run, exported: tuple[Path, Manifest], bundle: Bundle
) -> None:
    manifest = bundle.manifest
    assert manifest == exported[1]
    assert manifest.name == "clubs"
    assert manifest.fingerprint == run.fingerprint
    facts = {split: len(rows) for split, rows in make_dataset().facts.items()}
    assert manifest.counts == {"entities": NUM_ENTITIES, "relations": 2} | facts
    assert manifest.provenance["recipe"] == run.recipe.model_dump(mode="json")
    assert manifest.provenance["best"]["epoch"] == run.best_model()[1]["epoch"]
    assert manifest.provenance["versions"]["torch"] == torch.__version__
    assert [branch.name for branch in manifest.branches] == ["structure", "text", "numeric", "joint"]
    assert manifest.decision == bundle.model.decision == run.config.decision


def test_bundle_holds_no_weights_that_only_training_reads(run: Run, bundle: Bundle) -> None:
    weights = load_file(bundle.path / "weights.safetensors")
    trained = run.best_model()[0].state_dict()
    left_out = {name for name in trained if name.endswith(".noise")}
    assert left_out
    assert set(weights) == set(trained) - left_out
    assert set(weights) == set(build_model(run.config.for_inference()).state_dict())
    for name, tensor in weights.items():
        assert torch.equal(tensor, trained[name])


def test_bundle_knows_every_fact_and_its_splits(run: Run, bundle: Bundle) -> None:
    for split, facts in run.dataset().facts.items():
        found = {tuple(fact) for fact in bundle.known.facts(split).tolist()}
        assert found == {tuple(fact) for fact in facts.tolist()}


def test_bundle_knows_who_lacks_what(run: Run, bundle: Bundle) -> None:
    for column, modality in enumerate(run.dataset().modalities):
        expected = modality.present(NUM_ENTITIES).tolist()
        assert bundle.model.present[:, column].tolist() == expected


def test_names_and_degrees_are_the_datasets(run: Run, bundle: Bundle) -> None:
    dataset = run.dataset()
    assert bundle.vocabulary.entities.keys == dataset.entities.keys
    assert bundle.vocabulary.entities.labels == dataset.entities.labels
    distinct = {tuple(fact) for facts in dataset.facts.values() for fact in facts.tolist()}
    for entity in range(NUM_ENTITIES):
        degree = sum((fact[0] == entity) + (fact[2] == entity) for fact in distinct)
        assert bundle.vocabulary.details(entity).degree == degree
    counts = [sum(fact[1] == relation for fact in distinct) for relation in (0, 1)]
    assert list(bundle.vocabulary.relation_counts) == counts


def test_golden_queries_are_answered_right_after_opening_again(run: Run, bundle: Bundle) -> None:
    golden = bundle.manifest.golden
    score_BN = all_scores(run)
    assert len(golden) == 8
    assert {query.relation < 2 for query in golden} == {True, False}  # Both directions.
    queries = [Query(query.entity, query.relation, 10, exclude_known=False) for query in golden]
    answers = Scorer(bundle.model, bundle.candidates, bundle.known).answer(queries)
    for query, answer in zip(golden, answers, strict=True):
        assert answer.ranking.entities.tolist() == query.entities
        assert answer.ranking.scores.tolist() == pytest.approx(query.scores, abs=1e-6)
        by_model = score_BN[query.relation * NUM_ENTITIES + query.entity]
        assert by_model.topk(10).values.tolist() == pytest.approx(query.scores, abs=1e-5)


def test_a_name_may_be_given(run: Run, tmp_path: Path) -> None:
    assert export_run(run, tmp_path / "b", dataset=run.dataset(), device=CPU, name="mine").name == "mine"


@pytest.mark.parametrize("splits", [("train", "valid"), ("train",)])
def test_export_without_a_test_or_valid_split(tmp_path: Path, splits: tuple[str, ...]) -> None:
    whole = make_dataset()
    facts = {split: rows if split in splits else rows[:0] for split, rows in whole.facts.items()}
    dataset = Dataset(
        name="fewer",
        entities=whole.entities,
        relations=whole.relations,
        descriptions=whole.descriptions,
        facts=facts,
        modalities=whole.modalities,
        provenance={},
    )
    trainer = start(tmp_path, make_recipe(max_epochs=1), dataset)
    trainer.train()
    manifest = export_run(trainer.run, tmp_path / "bundle", dataset=dataset, device=CPU)
    assert set(manifest.metrics) == set(splits) - {"train"}
    assert manifest.golden


# What is refused


def rolled(_: LinkPredictor, candidates: Candidates) -> None:
    for rows in candidates.vectors.values():
        rows.copy_(rows.roll(1, dims=0))


def stretched(_: LinkPredictor, candidates: Candidates) -> None:
    candidates.vectors["joint"].mul_(1.1)


def shifted(model: LinkPredictor, _: Candidates) -> None:
    dict(model.named_parameters())["scorers.0.output_norm.bias"].add_(1)


@pytest.mark.parametrize("tamper", [rolled, stretched, shifted])
def test_a_bundle_that_fails_its_self_check_leaves_nothing_behind(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tamper: Callable[[LinkPredictor, Candidates], None],
) -> None:
    def save_tampered(path: Path, *, model: LinkPredictor, candidates: Candidates, **rest: Any) -> None:
        with torch.inference_mode():
            tamper(model, candidates)
        save_bundle(path, model=model, candidates=candidates, **rest)

    monkeypatch.setattr(export_module, "save_bundle", save_tampered)
    with pytest.raises(BundleError, match=r"self-check: query \d"):
        export_run(run, tmp_path / "bundle", dataset=run.dataset(), device=CPU)
    assert not list(tmp_path.iterdir())


def test_a_crash_in_the_middle_leaves_nothing_behind(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, "write_vocabulary", full)
    with pytest.raises(BundleError, match=r"bundle: cannot be written \(No space"):
        export_run(run, tmp_path / "bundle", dataset=run.dataset(), device=CPU)
    assert not list(tmp_path.iterdir())


def test_an_existing_target_is_refused_untouched(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "mine").write_text("precious", encoding="utf-8")
    with pytest.raises(BundleError, match="bundle: exists already"):
        export_run(run, target, dataset=run.dataset(), device=CPU)
    assert [path.name for path in target.iterdir()] == ["mine"]
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="link: exists already"):
        export_run(run, link, dataset=run.dataset(), device=CPU)


def test_before_the_first_validation_there_is_nothing_to_export(tmp_path: Path) -> None:
    trainer = start(tmp_path, Recipe.model_validate(WITH_SUM.model_dump()))
    dataset = trainer.run.dataset()
    with pytest.raises(UserError, match=r"best\.safetensors: no such checkpoint; has the run trained"):
        export_run(trainer.run, tmp_path / "bundle", dataset=dataset, device=CPU)
    with pytest.raises(UserError, match="no such checkpoint"):
        evaluate_run(trainer.run, dataset, "test", CPU)
    assert not (tmp_path / "bundle").exists()


def test_weights_that_are_cut_short_or_of_another_shape_are_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(run.path, path)
    best = path / "best.safetensors"
    whole = best.read_bytes()
    best.write_bytes(whole[:-10])
    with pytest.raises(CheckpointError, match=r"best\.safetensors: not a readable checkpoint"):
        evaluate_run(Run.open(path), run.dataset(), "test", CPU)
    best.write_bytes(whole)
    file = path / "run.json"
    file.write_text(file.read_text().replace('"num_experts": 3', '"num_experts": 2'), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"best\.safetensors: does not fit the run\.json"):
        evaluate_run(Run.open(path), run.dataset(), "test", CPU)
