"""Training learns, stops when it should, and goes on bit for bit wherever it was cut off."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from momok.cli import main
from momok.model.errors import UserError
from momok.model.networks.base import LinkPredictor
from momok.training.data.dataset import Dataset
from momok.training.evaluation.ranking import Ranks, rank_facts, summarise
from momok.training.fit import checkpoint as checkpoint_module
from momok.training.fit import trainer as trainer_module
from momok.training.fit.checkpoint import Checkpoint, CheckpointError
from momok.training.fit.recipe import Recipe, RecipeError
from momok.training.fit.run import Run, RunError
from momok.training.fit.start import resume_training, start_training
from momok.training.fit.trainer import Trainer, TrainingError
from momok.training.objectives.base import Loss
from tests.training.builders import (
    CPU,
    FIELDS,
    after,
    events,
    make_dataset,
    make_recipe,
    start,
    write_dataset,
)

NUM_BATCHES = 7
TIMES = {"seconds", "evaluation_seconds"}


def untimed(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in TIMES}


def told(run: Path) -> list[dict[str, Any]]:
    """What the event log says of the learning, without the clock."""
    return [untimed(line) for line in events(run, "epoch", "valid")]


def assert_same_file(found: Path, expected: Path) -> None:
    one, other = Checkpoint.read(found), Checkpoint.read(expected)
    assert one.tensors.keys() == other.tensors.keys()
    for name, tensor in other.tensors.items():
        assert torch.equal(one.tensors[name], tensor), name
    for facts in (one.facts, other.facts):
        if "progress" in facts:
            facts["progress"] = untimed(facts["progress"])
    assert one.facts == other.facts


def assert_same_run(found: Path, expected: Path) -> None:
    assert_same_file(found / "last.safetensors", expected / "last.safetensors")
    assert_same_file(found / "best.safetensors", expected / "best.safetensors")
    assert told(found) == told(expected)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert start(folder).train().finished == "max_epochs"
    return folder / "run"


# Learning


def test_loss_falls_and_valid_mrr_rises(tmp_path: Path) -> None:
    start(tmp_path, make_recipe(max_epochs=24, patience=24)).train()
    losses = [line["loss"] for line in events(tmp_path / "run", "epoch")]
    assert len(losses) == 24
    assert np.mean(losses[-3:]) < 0.75 * np.mean(losses[:3])
    valid = [line["mrr"] for line in events(tmp_path / "run", "valid")]
    assert max(valid) > 1.8 * np.mean(valid[:3])


@pytest.mark.parametrize("objective", [{"loss": "bce"}, {"club_weight": 0.0}])
def test_other_objectives_train(tmp_path: Path, objective: dict[str, Any]) -> None:
    recipe = make_recipe(max_epochs=8, patience=8).model_copy(update={"objective": objective})
    trainer = start(tmp_path, recipe)
    trainer.train()
    losses = [line["loss"] for line in events(tmp_path / "run", "epoch")]
    assert losses[-1] < losses[0]


def test_one_expert_trains_and_resumes(tmp_path: Path) -> None:
    recipe = make_recipe().model_copy(update={"network": FIELDS["network"] | {"num_experts": 1}})
    start(tmp_path, recipe).train(stop=after(3))
    assert resume_training(tmp_path / "run", CPU).train().finished == "max_epochs"


def test_events_hold_the_mean_loss_and_its_parts(whole: Path) -> None:
    for epoch, line in enumerate(events(whole, "epoch"), start=1):
        assert (line["epoch"], line["step"]) == (epoch, epoch * NUM_BATCHES)
        branches = sum(line[name] for name in ("structure", "text", "numeric", "joint"))
        assert line["loss"] == pytest.approx(branches + 1e-4 * line["club"], rel=1e-6)
    (finished,) = events(whole, "finished")
    assert finished["reason"] == "max_epochs"
    assert finished["best_mrr"] == max(line["mrr"] for line in events(whole, "valid"))


def test_absent_rows_are_absent_in_the_model(tmp_path: Path) -> None:
    dataset = make_dataset()
    present = start(tmp_path, dataset=dataset).model.present
    for column, modality in enumerate(dataset.modalities):
        rows = range(dataset.num_entities) if modality.rows is None else modality.rows.tolist()
        assert present[:, column].nonzero().squeeze(1).tolist() == sorted(rows)


# Seeds


def test_same_seed_same_run_whatever_was_drawn_before(tmp_path: Path, whole: Path) -> None:
    torch.manual_seed(12345)
    start(tmp_path).train()
    assert_same_run(tmp_path / "run", whole)


def test_another_seed_is_another_run(tmp_path: Path, whole: Path) -> None:
    trainer = start(tmp_path, make_recipe(seed=2, max_epochs=1))
    trainer.train()
    assert told(tmp_path / "run")[0]["loss"] != told(whole)[0]["loss"]
    one, other = (list(batches.epoch(seed, 0)) for batches, seed in ((trainer.batches, s) for s in (1, 2)))
    assert not torch.equal(one[0].entity, other[0].entity)


# Interruption


@pytest.mark.parametrize("steps", [(1,), (4,), (5, 8), (NUM_BATCHES + 2, 3, 4)])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(
    tmp_path: Path, whole: Path, steps: tuple[int, ...]
) -> None:
    trainer = start(tmp_path)
    for num_steps in steps:
        progress = trainer.train(stop=after(num_steps))
        assert progress.finished is None
        assert progress.batch > 0  # In the middle of an epoch.
        trainer = resume_training(tmp_path / "run", CPU)
    assert trainer.train().finished == "max_epochs"
    assert_same_run(tmp_path / "run", whole)
    assert len(events(tmp_path / "run", "interrupted")) == len(events(tmp_path / "run", "resumed"))


def test_a_stop_at_the_end_of_an_epoch_resumes_too(tmp_path: Path, whole: Path) -> None:
    trainer = start(tmp_path)
    progress = trainer.train(stop=lambda: trainer.progress.epoch == 1)
    assert (progress.epoch, progress.batch, progress.finished) == (1, 0, None)
    resume_training(tmp_path / "run", CPU).train()
    assert_same_run(tmp_path / "run", whole)


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, nothing is saved."""


def kill_at(trainer: Trainer, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    take_step = trainer._step

    def step_or_die(batch: Any) -> None:
        if trainer.progress.step == step:
            raise Killed
        take_step(batch)

    monkeypatch.setattr(trainer, "_step", step_or_die)


def test_a_killed_run_goes_back_to_its_last_epoch_and_forgets_what_came_after(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = start(tmp_path)
    kill_at(trainer, 2 * NUM_BATCHES + 3, monkeypatch)
    with pytest.raises(Killed):
        trainer.train()
    assert Checkpoint.read(trainer.run.last).facts["progress"]["step"] == 2 * NUM_BATCHES
    resumed = resume_training(tmp_path / "run", CPU)
    assert resumed.progress.step == 2 * NUM_BATCHES
    resumed.train()
    assert_same_run(tmp_path / "run", whole)


def test_killed_between_validation_and_checkpoint_logs_the_epoch_once(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = start(tmp_path)
    save = trainer.save

    def save_or_die() -> None:
        if trainer.progress.epoch == 2:
            raise Killed
        save()

    monkeypatch.setattr(trainer, "save", save_or_die)
    with pytest.raises(Killed):
        trainer.train()
    assert [line["epoch"] for line in events(tmp_path / "run", "valid")] == [1, 2]
    resume_training(tmp_path / "run", CPU).train()
    assert_same_run(tmp_path / "run", whole)


def test_a_run_finished_by_max_epochs_can_be_lengthened(tmp_path: Path, whole: Path) -> None:
    assert start(tmp_path, make_recipe(max_epochs=1)).train().finished == "max_epochs"
    resumed = resume_training(tmp_path / "run", CPU, ["training.max_epochs=3"])
    assert resumed.train(stop=after(2)).finished is None
    # The run remembers its new length, so that going on once more needs no second word.
    assert Run.open(tmp_path / "run").recipe.training.max_epochs == 3
    assert resume_training(tmp_path / "run", CPU).train().epoch == 3
    assert_same_run(tmp_path / "run", whole)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    assert resume_training(tmp_path / "run", CPU).train().finished == "max_epochs"
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize("torn", ['{"event": "epo', "garbage}\n[1]\n", "", None])
def test_a_torn_or_missing_event_log_does_not_stop_a_run(
    tmp_path: Path, whole: Path, torn: str | None
) -> None:
    trainer = start(tmp_path)
    trainer.train(stop=after(NUM_BATCHES + 2))
    if torn is None:
        trainer.run.events.unlink()
    else:
        with trainer.run.events.open("a", encoding="utf-8") as file:
            file.write(torn)
    resume_training(tmp_path / "run", CPU).train()
    assert_same_file(tmp_path / "run" / "last.safetensors", whole / "last.safetensors")
    assert told(tmp_path / "run") == (told(whole) if torn is not None else told(whole)[2:])


# When to stop, and what is best


def script(monkeypatch: pytest.MonkeyPatch, mrr: list[float]) -> None:
    """Have the validations find these MRRs, one after the other."""
    coming = iter(mrr)

    def found(*_: Any, **__: Any) -> Ranks:
        rank = np.array([1 / next(coming)])
        return Ranks(rank, rank)

    monkeypatch.setattr(trainer_module, "rank_facts", found)


def test_patience_counts_validations_without_a_better_mrr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, [0.2, 0.1, 0.5, 0.5, 0.4, 0.3])
    progress = start(tmp_path, make_recipe(max_epochs=20, patience=3)).train()
    assert (progress.finished, progress.epoch) == ("patience", 6)  # As good is not better.
    assert progress.best_epoch == 3
    assert progress.best_mrr == pytest.approx(0.5)
    best = Checkpoint.read(tmp_path / "run" / "best.safetensors")
    assert (best.facts["epoch"], best.facts["step"]) == (3, 3 * NUM_BATCHES)

    script(monkeypatch, [0.2, 0.1, 0.5])
    (tmp_path / "short").mkdir()
    start(tmp_path / "short", make_recipe(max_epochs=3)).train()
    last = Checkpoint.read(tmp_path / "short" / "run" / "last.safetensors")
    assert best.under("model").keys() == last.under("model").keys()
    for name, tensor in best.under("model").items():
        assert torch.equal(tensor, last.under("model")[name])


def test_patience_survives_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, [0.5, 0.4, 0.3, 0.2])
    recipe = make_recipe(max_epochs=20, patience=3)
    start(tmp_path, recipe).train(stop=after(2 * NUM_BATCHES + 1))
    progress = resume_training(tmp_path / "run", CPU).train()
    assert (progress.finished, progress.epoch, progress.best_epoch) == ("patience", 4, 1)


def test_more_patience_lengthens_a_run_that_lost_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, [0.5, 0.4, 0.3, 0.6, 0.2, 0.2, 0.2])
    assert start(tmp_path, make_recipe(max_epochs=20, patience=2)).train().epoch == 3
    progress = resume_training(tmp_path / "run", CPU, ["training.patience=3"]).train()
    assert (progress.finished, progress.epoch, progress.best_epoch) == ("patience", 7, 4)


def test_validates_every_so_many_epochs_and_at_the_end(tmp_path: Path) -> None:
    start(tmp_path, make_recipe(max_epochs=5, validate_every=2)).train()
    assert [line["epoch"] for line in events(tmp_path / "run", "valid")] == [2, 4, 5]


def test_max_minutes_ends_the_epoch_first(tmp_path: Path) -> None:
    progress = start(tmp_path, make_recipe(max_minutes=1e-6)).train()
    assert (progress.finished, progress.epoch, progress.batch) == ("max_minutes", 1, 0)
    assert len(events(tmp_path / "run", "valid")) == 1


def test_best_weights_have_the_best_valid_mrr(tmp_path: Path) -> None:
    trainer = start(tmp_path, make_recipe(max_epochs=10, patience=10, seed=3))
    trainer.train()
    found = {line["epoch"]: line["mrr"] for line in events(tmp_path / "run", "valid")}
    model, facts = trainer.run.best_model()
    assert facts["epoch"] == max(found, key=lambda epoch: found[epoch]) < 10
    assert facts["valid"]["mrr"] == found[facts["epoch"]]
    again = summarise(rank_facts(model, trainer.valid, trainer.known).both())
    assert again == facts["valid"]
    assert not model.training


def test_without_a_valid_split_the_last_epoch_is_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = start(tmp_path, dataset=make_dataset(valid=False))
    progress = trainer.train()
    assert (progress.finished, progress.best_epoch) == ("max_epochs", 3)
    assert not events(tmp_path / "run", "valid")
    model, facts = trainer.run.best_model()
    assert facts["valid"] == {}
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert main(["train", "--resume", "--out", str(tmp_path / "run"), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "no valid facts to choose by, so the weights are those of epoch 3" in said
    assert "MRR" not in said


# Divergence


def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = start(tmp_path)
    loss_of = trainer.objective.loss

    def loss(model: LinkPredictor, batch: Any) -> Loss:
        result = loss_of(model, batch)
        if trainer.progress.step == 2 * NUM_BATCHES + 3:
            return Loss(result.total * float("nan"), result.parts | {"text": result.total * float("nan")})
        return result

    monkeypatch.setattr(trainer.objective, "loss", loss)
    with pytest.raises(
        TrainingError, match=r"loss became nan.*text nan.* epoch 3, step 17; .*learning_rate than 0\.01"
    ) as caught:
        trainer.train()
    assert str(trainer.run.last) in str(caught.value)
    resumed = resume_training(tmp_path / "run", CPU)
    assert resumed.progress.step == 2 * NUM_BATCHES
    assert all(bool(tensor.isfinite().all()) for tensor in resumed.model.state_dict().values())


def test_weights_ruined_by_the_last_step_of_an_epoch_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = start(tmp_path, dataset=make_dataset(valid=False))  # No validation would notice.
    take_step = trainer._step

    def step(batch: Any) -> None:
        take_step(batch)
        if trainer.progress.step == 2 * NUM_BATCHES:
            with torch.no_grad():
                next(trainer.model.parameters())[0, 0] = float("inf")

    monkeypatch.setattr(trainer, "_step", step)
    with pytest.raises(TrainingError, match=r"inputs\.0\.weight is not finite at epoch 2, step 14"):
        trainer.train()
    for file in (trainer.run.last, trainer.run.best):
        assert all(bool(tensor.isfinite().all()) for tensor in Checkpoint.read(file).tensors.values())
    assert trainer.run.best_model()[1]["epoch"] == 1


def test_scores_that_overflow_in_validation_say_so(tmp_path: Path) -> None:
    recipe = make_recipe(learning_rate=1e20, batch_size=1000)  # One step an epoch, and it goes too far.
    trainer = start(tmp_path, recipe)
    with pytest.raises(
        TrainingError,
        match=r"not finite.* epoch 1, step 1; .*rate than 1e\+20; .*last\.safetensors is from before$",
    ):
        trainer.train()
    assert Checkpoint.read(trainer.run.last).facts["progress"]["step"] == 0


# What is refused


@pytest.mark.parametrize(
    "override",
    [
        "training.seed=2",
        "training.batch_size=9",
        "training.learning_rate=0.5",
        "training.validate_every=2",
        "network.num_experts=2",
        "objective.loss=bce",
        "modalities.text.width=9",
        'use=["structure"]',
        "model=other",
    ],
)
def test_resume_changes_nothing_but_how_long(whole: Path, override: str) -> None:
    with pytest.raises(RunError, match=r"may only change training.*max_epochs.*another run"):
        resume_training(whole, CPU, [override])


def test_resume_names_a_bad_override(whole: Path) -> None:
    with pytest.raises(RecipeError, match=r"training\.max_epochs"):
        resume_training(whole, CPU, ["training.max_epochs=0"])


def interrupted(folder: Path) -> Path:
    start(folder).train(stop=after(2))
    return folder / "run"


def test_resume_refuses_a_dataset_that_changed(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    shutil.rmtree(tmp_path / "dataset")
    write_dataset(tmp_path, make_dataset(valid=False))
    with pytest.raises(RunError, match=r"dataset is not the dataset .*run was trained on.*fingerprints"):
        resume_training(run, CPU)


def test_resume_refuses_a_dataset_that_is_gone_or_damaged(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    (tmp_path / "dataset" / "train.tsv").write_text("1 2\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"train\.tsv:1"):
        resume_training(run, CPU)
    shutil.rmtree(tmp_path / "dataset")
    with pytest.raises(RunError, match=r"dataset.*gone"):
        resume_training(run, CPU)


def test_a_dataset_that_moved_can_be_named(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    (tmp_path / "dataset").rename(tmp_path / "elsewhere")
    assert Run.open(run).dataset(tmp_path / "elsewhere").name == "clubs"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def overwrite(path: Path) -> None:
    path.write_bytes(b"\xff" * 1000)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, overwrite, empty, Path.unlink])
def test_resume_refuses_a_damaged_checkpoint(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    run = interrupted(tmp_path)
    damage(run / "last.safetensors")
    with pytest.raises(CheckpointError, match=r"last\.safetensors: "):
        resume_training(run, CPU)


def test_resume_refuses_a_checkpoint_without_its_progress(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    checkpoint = Checkpoint.read(run / "last.safetensors")
    for facts in ({}, {"progress": {"nonsense": 1}}):
        Checkpoint(checkpoint.tensors, facts).write(run / "last.safetensors")
        with pytest.raises(CheckpointError, match="does not fit"):
            resume_training(run, CPU)


def test_resume_refuses_the_checkpoint_of_another_run(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    (tmp_path / "other").mkdir()
    other = make_recipe().model_copy(update={"network": FIELDS["network"] | {"num_experts": 2}})
    start(tmp_path / "other", other).train(stop=after(2))
    shutil.copy(tmp_path / "other" / "run" / "last.safetensors", run)
    with pytest.raises(CheckpointError, match="does not fit"):
        resume_training(run, CPU)


def test_a_run_can_be_resumed_before_its_first_step(tmp_path: Path, whole: Path) -> None:
    start(tmp_path)
    resume_training(tmp_path / "run", CPU).train()
    assert_same_run(tmp_path / "run", whole)


def test_a_run_without_its_checkpoint_says_so(tmp_path: Path) -> None:
    start(tmp_path).run.last.unlink()
    with pytest.raises(CheckpointError, match=r"last\.safetensors: no such checkpoint"):
        resume_training(tmp_path / "run", CPU)


@pytest.mark.parametrize(("field", "value"), [("joint_width", 10**7), ("relation_width", 10**12)])
def test_a_network_beyond_memory_is_a_recipe_error_and_leaves_no_run(
    tmp_path: Path, field: str, value: int
) -> None:
    recipe = make_recipe().model_copy(update={"network": FIELDS["network"] | {field: value}})
    with pytest.raises(RecipeError, match="smaller widths"):
        start(tmp_path, recipe)
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match=r"is .*file a run directory"):
        Run.open(tmp_path / "file")


def test_an_existing_out_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("precious", encoding="utf-8")
    with pytest.raises(RunError, match="run exists; choose another --out"):
        start(tmp_path)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine"]


def test_an_out_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    dataset = make_dataset()
    path = write_dataset(tmp_path, dataset)
    with pytest.raises(RunError, match=r"file/run: cannot be written"):
        start_training(tmp_path / "file" / "run", dataset, path, make_recipe(), CPU)


def test_a_recipe_that_does_not_fit_leaves_no_run_behind(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"network": {"relation_widht": 3}})
    with pytest.raises(RecipeError, match="relation_widht"):
        start(tmp_path, recipe)
    assert not (tmp_path / "run").exists()


def test_ce_with_mean_sigmoid_is_warned_of(tmp_path: Path) -> None:
    recipe = make_recipe().model_copy(update={"network": FIELDS["network"] | {"decision": "mean_sigmoid"}})
    with pytest.warns(UserWarning, match="ce with sum"):
        start(tmp_path, recipe)


# Checkpoint files


TENSORS = {"model.weight": torch.arange(6.0).reshape(2, 3), "random.cpu": torch.get_rng_state()}


@pytest.mark.parametrize(
    ("failure", "raised"), [(OSError(28, "No space left on device"), CheckpointError), (Killed(), Killed)]
)
def test_a_write_that_fails_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, raised: type[BaseException]
) -> None:
    def save_half(_: dict[str, Tensor], file: Path, **__: Any) -> None:
        file.write_bytes(b"half of it")
        raise failure

    path = tmp_path / "last.safetensors"
    Checkpoint(TENSORS, {"epoch": 1}).write(path)
    monkeypatch.setattr(checkpoint_module, "save_file", save_half)
    with pytest.raises(raised):
        Checkpoint({name: tensor + 1 for name, tensor in TENSORS.items()}, {"epoch": 2}).write(path)
    read = Checkpoint.read(path)
    assert read.facts == {"epoch": 1}
    assert torch.equal(read.tensors["model.weight"], TENSORS["model.weight"])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_half_a_file_left_by_kill_9_is_in_nobodys_way(tmp_path: Path, whole: Path) -> None:
    run = interrupted(tmp_path)
    (run / "last.safetensors.partial").write_bytes(b"half of it")
    resume_training(run, CPU).train()
    assert_same_run(run, whole)
    assert not (run / "last.safetensors.partial").exists()


def test_checkpoint_holds_optimisers_estimators_and_random_state(whole: Path) -> None:
    checkpoint = Checkpoint.read(whole / "last.safetensors")
    prefixes = {name.split(".")[0] for name in checkpoint.tensors}
    assert prefixes == {"model", "objective", "optimizer", "random"}
    assert {name.split(".")[1] for name in checkpoint.under("optimizer.")} <= {"model", "club"}
    assert checkpoint.under("optimizer.club")
    assert checkpoint.under("objective.estimators")
    best = Checkpoint.read(whole / "best.safetensors")
    assert {name.split(".")[0] for name in best.tensors} == {"model"}


# The run directory explains itself


def test_run_opens_as_it_was_created(tmp_path: Path) -> None:
    trainer = start(tmp_path)
    opened = Run.open(tmp_path / "run")
    assert opened == trainer.run
    assert opened.recipe == make_recipe()
    assert opened.fingerprint == Dataset.open(tmp_path / "dataset").fingerprint
    assert {"created_at", "command", "versions", "git"} == set(opened.provenance)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"recipe": 3}', "{cut"])
def test_a_damaged_run_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"run\.json: damaged"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("recipe", "model", 3),
        ("recipe", "surprise", 1),
        ("config", "model", "unheard of"),
        ("config", "num_experts", 0),
        ("dataset", "path", None),
    ],
)
def test_a_field_damaged_in_run_json_is_named(
    tmp_path: Path, whole: Path, table: str, field: str, value: Any
) -> None:
    facts = json.loads((whole / "run.json").read_text(encoding="utf-8"))
    facts[table][field] = value
    (tmp_path / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(RunError, match=r"run\.json: damaged"):
        Run.open(tmp_path)


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match="is not a run"):
            Run.open(path)


def test_every_error_is_a_users() -> None:
    for error in (TrainingError, RunError, CheckpointError, RecipeError):
        assert issubclass(error, UserError)
