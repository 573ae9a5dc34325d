"""AdaMF alone and against generators: the authors' numbers, turns, and runs from start to answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from momok.cli import main
from momok.model.bundle.bundle import Bundle
from momok.model.filter_index import FilterIndex
from momok.model.networks.adamf import AdaMF, AdaMFConfig
from momok.model.networks.base import ModalityShape, build_model
from momok.training.fit.checkpoint import Checkpoint
from momok.training.fit.recipe import Recipe, RecipeError
from momok.training.fit.start import resume_training
from momok.training.importers.released import renamed
from momok.training.objectives.losses import negative_sampling, self_adversarial_weights
from momok.training.objectives.negatives import Corrupted
from tests.model.networks.test_parity import theirs
from tests.training.builders import CPU, Learner, after, events, make_dataset, start, write_dataset
from tests.training.fit.test_trainer import assert_same_run

FIELDS: dict[str, Any] = {
    "model": "adamf",
    "modalities": {name: {"width": 8, "lift_to": 8} for name in ("structure", "text", "numeric")},
    "network": {"dim": 8, "margin": 4.0},
    "objective": {"num_negatives": 8, "shared_by": 4},
    "training": {"batch_size": 16, "learning_rate": 1e-2, "max_epochs": 3, "precision": "float32", "seed": 1},
}
MAT = {"adversarial_weight": 0.1, "noise_width": 3, "hidden_width": 6, "generator_learning_rate": 1e-2}


def recipe_of(model: str = "adamf", **training: Any) -> Recipe:
    objective = FIELDS["objective"] | (MAT if model == "adamf-mat" else {})
    changed = {"model": model, "objective": objective, "training": FIELDS["training"] | training}
    return Recipe.model_validate(FIELDS | changed)


# The numbers of the authors' code


def corrupted(stored: dict[str, Tensor]) -> Corrupted:
    """Their tail queries and negatives, each row with its own."""
    head, relation, tail = (stored[f"input.{part}"] for part in ("head", "relation", "tail"))
    negative = stored["input.negative_tail"]
    return Corrupted(head, relation, tail, negative, torch.zeros_like(negative).bool(), (1,) * len(head))


NOTHING = FilterIndex.from_facts({}, num_entities=40, num_relations=5)


def test_loss_and_gradients_are_those_of_the_authors_code(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, stored = theirs(shared / "parity" / "adamf_a.safetensors")
    assert isinstance(model, AdaMF)
    objective = Learner(model, NOTHING)
    monkeypatch.setattr(objective.sampler, "corrupt", lambda *_: corrupted(stored))
    head, relation, tail = (stored[f"input.{part}"] for part in ("head", "relation", "tail"))
    from momok.training.objectives.batches import Batch

    loss = objective.loss(Batch(head, relation, torch.arange(len(head)), tail))
    torch.testing.assert_close(loss.total.detach(), stored["output.loss"][0], rtol=1e-5, atol=0)
    loss.total.backward()  # type: ignore[no-untyped-call]
    gradients = {n.removeprefix("grad."): tensor for n, tensor in stored.items() if n.startswith("grad.")}
    expected = renamed(gradients, model.config)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected.pop(name), rtol=1e-4, atol=1e-5)
    assert not expected


def test_fake_scores_are_those_of_the_authors_code(shared: Path) -> None:
    model, stored = theirs(shared / "parity" / "adamf_a.safetensors")
    assert isinstance(model, AdaMF)
    noise_width = stored["noise.head_text"].shape[1]
    objective = Learner(model, NOTHING, kind="adversarial", noise_width=noise_width)
    for generator, name in zip(objective.generators, ("img", "text"), strict=True):
        layers = {"hidden": 0, "output": 2}
        state = {
            f"{ours}.{part}": stored[f"generator.{name}_generator.generator_model.{theirs}.{part}"]
            for ours, theirs in layers.items()
            for part in ("weight", "bias")
        }
        generator.load_state_dict(state)
    noise = [[stored[f"noise.{end}_{name}"] for name in ("image", "text")] for end in ("head", "tail")]
    fakes = objective.fake_scores(model, corrupted(stored), noise)
    for fake, name in zip(fakes, ("head", "tail", "both"), strict=True):
        torch.testing.assert_close(fake.detach(), stored[f"output.fake_{name}"], rtol=0, atol=1e-5)


# Turns of the model and of the generators


def small_objective(num_modalities: int = 3, learned: int | None = 0) -> Learner:
    torch.manual_seed(0)
    model = build_model(
        AdaMFConfig(
            num_entities=20,
            num_relations=2,
            modalities=tuple(
                ModalityShape(name=f"m{m}", input_width=5, width=5, learned=m == learned)
                for m in range(num_modalities)
            ),
            dim=4,
            margin=4,
        )
    )
    assert isinstance(model, AdaMF)
    facts = np.array([[e, e % 2, (e + 5) % 20] for e in range(20)])
    known = FilterIndex.from_facts({"train": facts}, num_entities=20, num_relations=2)
    return Learner(model, known, kind="adversarial", **MAT, **FIELDS["objective"])


def one_batch(objective: Learner) -> Any:
    facts = np.array([[e, e % 2, (e + 5) % 20] for e in range(20)])
    known = FilterIndex.from_facts({"train": facts}, num_entities=20, num_relations=2)
    return next(iter(objective.batches(known, 20).epoch(0, 0)))


def test_the_models_step_leaves_the_generators_alone_and_theirs_the_model() -> None:
    objective = small_objective()
    model = objective.model
    loss = objective.loss(one_batch(objective))
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in objective.generators.parameters())
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    made = {name: tensor.clone() for name, tensor in objective.generators.state_dict().items()}
    assert objective.after_step().keys() == {"generators"}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.equal(parameter.grad, gradients[name]), name
    assert all(
        not torch.equal(tensor, made[name]) for name, tensor in objective.generators.state_dict().items()
    )


def test_adversarial_loss_is_mu_times_what_the_formula_says() -> None:
    objective = small_objective()
    loss = objective.loss(one_batch(objective))
    total, parts = loss.read()
    assert total == pytest.approx(parts["negatives"] + 0.1 * parts["adversarial"], rel=1e-6)
    positive, fakes = torch.tensor([1.0, -0.5]), [torch.tensor([0.3, 2.0]), torch.tensor([-1.0, 0.0])]
    found = objective._of_fakes(fakes, positive, generated_wins=False)
    expected = sum(
        -0.5 * np.mean(np.log(1 / (1 + np.exp(-positive.numpy()))) + np.log(1 / (1 + np.exp(fake.numpy()))))
        for fake in fakes
    )
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_the_model_learns_to_tell_fakes_and_generators_to_be_taken_for_true() -> None:
    objective = small_objective()
    model = objective.model
    batch = one_batch(objective)
    losses = []
    for _ in range(200):  # The generators alone, against a model that stands still.
        with torch.no_grad():
            objective.loss(batch)
        losses.append(objective.after_step()["generators"])
    assert np.mean(losses[-20:]) < np.mean(losses[:20]) - 0.05  # What true facts cost stays.
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    adversarial = []
    for _ in range(60):  # The model alone, against generators that stand still.
        loss = objective.loss(batch)
        optimizer.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        adversarial.append(loss.read()[1]["adversarial"])
    assert np.mean(adversarial[-10:]) < 0.9 * np.mean(adversarial[:10])


@pytest.mark.parametrize("num_modalities", [1, 2, 3, 5])
def test_there_is_a_generator_for_every_modality_that_is_not_learned(num_modalities: int) -> None:
    objective = small_objective(num_modalities, learned=num_modalities - 1)
    assert len(objective.generators) == num_modalities - 1
    loss = objective.loss(one_batch(objective))
    assert ("adversarial" in loss.parts) == (num_modalities > 1)
    assert ("generators" in objective.after_step()) == (num_modalities > 1)


def test_without_a_learned_modality_generators_have_nothing_to_start_from() -> None:
    with pytest.raises(ValueError, match="generators start from the learned modality"):
        small_objective(2, learned=None)


def test_true_facts_among_the_negatives_count_for_nothing() -> None:
    objective = small_objective()
    batch = one_batch(objective)
    asked = objective.sampler.corrupt(batch, 50, 20)
    assert asked.is_true.any()
    found, positive_B = objective.against_negatives(objective.model, asked)
    model = objective.model
    with torch.no_grad():
        scores_BN = model.score(model.encode(asked.entity, asked.relation).query, model.entity_table())
    total = 0.0
    for row in range(20):
        drawn = asked.negative[0][~asked.is_true[row]]
        own = scores_BN[row, asked.answer[row]]
        others = scores_BN[row, drawn][None]
        weights = self_adversarial_weights(others, objective.config.beta)
        total += negative_sampling(own[None], others, weights).item() / 20
        assert positive_B[row].item() == pytest.approx(own.item(), abs=1e-5)
    assert found.item() == pytest.approx(total, rel=1e-5)


# Runs


@pytest.mark.parametrize("model", ["adamf", "adamf-mat"])
def test_loss_falls_and_valid_mrr_rises(model: str, tmp_path: Path) -> None:
    start(tmp_path, recipe_of(model, max_epochs=60, patience=60)).train()
    losses = [line["loss"] for line in events(tmp_path / "run", "epoch")]
    assert np.mean(losses[-3:]) < 0.75 * np.mean(losses[:3])
    valid = [line["mrr"] for line in events(tmp_path / "run", "valid")]
    assert max(valid) > 1.5 * np.mean(valid[:3])
    assert ("generators" in events(tmp_path / "run", "epoch")[0]) == (model == "adamf-mat")


@pytest.mark.parametrize("stopped_after", [1, 5, 6])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(stopped_after: int, tmp_path: Path) -> None:
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    start(tmp_path / "whole", recipe_of("adamf-mat")).train()
    start(tmp_path / "parts", recipe_of("adamf-mat")).train(stop=after(stopped_after))
    assert resume_training(tmp_path / "parts" / "run", CPU).train().finished == "max_epochs"
    assert_same_run(tmp_path / "parts" / "run", tmp_path / "whole" / "run")
    names = Checkpoint.read(tmp_path / "whole" / "run" / "last.safetensors").tensors
    assert "objective.generators.1.hidden.weight" in names
    assert "optimizer.generators.0.exp_avg" in names
    assert not any(name.startswith("objective.sampler") for name in names)


def test_generators_without_structure_are_a_recipe_error_and_leave_no_run(tmp_path: Path) -> None:
    dataset = make_dataset()
    entity_N = np.arange(dataset.num_entities)
    from dataclasses import replace

    from momok.model.networks.modality import Modality

    text = Modality("text", np.eye(dataset.num_entities, dtype=np.float32), entity_N)
    dataset = replace(dataset, modalities=(dataset.modalities[0], text))
    recipe = recipe_of("adamf-mat").model_copy(update={"use": ("text",), "modalities": {}})
    with pytest.raises(RecipeError, match="adamf: generators start from the learned modality"):
        start(tmp_path, recipe, dataset)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.adversarial_weight=0.1", "objective: adversarial_weight: Extra inputs"),
        ("network.decision=sum", "the decision is 'single', not 'sum'"),
        ("network.dim=0", "network: dim"),
    ],
)
def test_what_does_not_go_with_adamf_is_named(override: str, message: str, tmp_path: Path) -> None:
    recipe = Recipe.load(None, [override], base=recipe_of())
    with pytest.raises(RecipeError, match=message):
        start(tmp_path, recipe)


@pytest.mark.parametrize("model", ["adamf", "adamf-mat"])
def test_one_word_makes_another_model_from_training_to_answers(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run, bundle = write_dataset(tmp_path), tmp_path / "run", tmp_path / "bundle"
    sets = ["network.dim=8", "training.max_epochs=2", "training.batch_size=16"]
    chosen = [part for override in sets for part in ("--set", override)]
    assert main(["train", str(data), "--model", model, "--out", str(run), *chosen]) == 0
    assert main(["export", str(run), str(bundle)]) == 0
    capsys.readouterr()
    reports = []
    for source in (run, bundle):
        assert main(["evaluate", str(source), "--split", "test", "--json"]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    assert reports[0]["metrics"] == pytest.approx(reports[1]["metrics"])
    assert reports[0]["gates"] == {} and set(reports[0]["modality_weights"]) == {
        "structure",
        "text",
        "numeric",
    }
    assert main(["evaluate", str(run), "--split", "test"]) == 0
    assert "text: mean weight 0." in capsys.readouterr().out
    assert main(["predict", str(bundle), "--head", "e3", "--relation", "club", "--json", "-k", "3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["score_kind"] == "margin_minus_distance"
    (answer,) = told["answers"]
    assert answer["exact"] and answer["expert_gates"] is None and answer["relation_temperature"] is None
    assert answer["modality_weights"]["text"] == 0, "entity 3 has no text"
    assert all(offer["expert_gates"] is None for offer in answer["candidates"])
    assert all(offer["branch_scores"] == {"joint": offer["score"]} for offer in answer["candidates"])
    assert main(["predict", str(bundle), "--head", "e3", "--relation", "club"]) == 0
    assert "margin_minus_distance; provably the best" in capsys.readouterr().out
    for suffix in ("jsonl", "tsv", "parquet"):
        assert main(["discover", str(bundle), "--out", str(tmp_path / f"facts.{suffix}"), "-k", "2"]) == 0
    first = json.loads((tmp_path / "facts.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert (
        first["expert_gates"] is None
        and first["modality_weights"].keys() == answer["modality_weights"].keys()
    )
    opened = Bundle.open(bundle)
    assert opened.model.config.model == "adamf"
    assert not any("generator" in name for name in opened.model.state_dict())


def test_the_authors_tensors_become_a_run(shared: Path, tmp_path: Path) -> None:
    from momok.model.bundle.names import Names
    from momok.training.data.dataset import STRUCTURE, Dataset
    from momok.training.data.files import DatasetError
    from momok.training.importers.released import import_checkpoint

    stored = load_file(shared / "parity" / "adamf_a.safetensors")
    weights = {n.removeprefix("weights."): t for n, t in stored.items() if n.startswith("weights.")}
    facts = np.array([[0, 0, 1]], dtype=np.int64)
    graph = Dataset(
        name="parity",
        entities=Names("entity", [f"e{i}" for i in range(40)], ["E"] * 40),
        relations=Names("relation", [f"r{i}" for i in range(5)], ["R"] * 5),
        descriptions=("",) * 40,
        facts={"train": facts, "valid": facts[:0], "test": facts},
        modalities=(STRUCTURE,),
        provenance={},
    )
    torch.save(weights, tmp_path / "theirs.pth")
    run = import_checkpoint(tmp_path / "theirs.pth", graph, tmp_path, tmp_path / "run")
    assert run.recipe.model == "adamf" and run.recipe.network == {"dim": 10, "margin": 12.0}
    model, _ = run.best_model()
    with torch.inference_mode():
        query = model.encode(stored["input.head"], stored["input.relation"]).query
        scores = model.score(query, model.entity_table())
    torch.testing.assert_close(scores, stored["output.score_all.tail"], rtol=0, atol=1e-5)

    for change, message in (
        ({"rel_embedding_range": torch.tensor([3.0])}, "phases would mean something else"),
        ({"surprise": torch.ones(1)}, "holds surprise, which AdaMF as released does not have"),
        ({"text_proj.bias": torch.ones(3)}, r"text_proj\.bias is \[3\]; \[20\] goes with"),
        ({"img_proj.weight": None}, r"lacks img_proj\.weight"),
        ({"img_embeddings.weight": None}, r"lacks img_embeddings\.weight"),
    ):
        damaged = {name: tensor for name, tensor in (weights | change).items() if tensor is not None}
        torch.save(damaged, tmp_path / "damaged.pth")
        with pytest.raises(DatasetError, match=message):
            import_checkpoint(tmp_path / "damaged.pth", graph, tmp_path, tmp_path / "again")
