"""momok import-checkpoint: the authors' state dicts as runs, whole or refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from momok.cli import main
from momok.model.bundle.bundle import Bundle
from momok.model.networks.base import ModalityShape, build_model
from momok.model.networks.momok import MoMoK, MoMoKConfig
from momok.training.data.dataset import Dataset
from momok.training.data.files import DatasetError
from momok.training.fit.run import Run, RunError
from momok.training.importers.released import _sources, import_checkpoint
from tests.training.builders import CPU, make_dataset, unreadable, write_dataset

State = dict[str, Tensor]

WIDTHS = {"structure": 6, "image": 8, "text": 4}
NUM_EXPERTS = 2


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset()


def model_of(dataset: Dataset) -> MoMoK:
    torch.manual_seed(0)
    model = build_model(
        MoMoKConfig(
            num_entities=dataset.num_entities,
            num_relations=dataset.num_relations,
            num_experts=NUM_EXPERTS,
            num_attentions=2,
            relation_width=5,
            joint_width=7,
            decision="mean_sigmoid",
            modalities=tuple(
                ModalityShape(name=n, input_width=w, width=w, learned=n == "structure")
                for n, w in WIDTHS.items()
            ),
        )
    )
    assert isinstance(model, MoMoK)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    return model.eval()


def their_state(model: MoMoK) -> State:
    """A model of ours as the authors' code would have saved it, with entries that are not read."""
    ours = model.state_dict()
    state: State = {}
    for name, theirs in _sources(model.config).items():
        if isinstance(theirs, list):
            state |= dict(zip(theirs, ours[name].clone(), strict=True))
        else:
            state[theirs] = ours[name].clone()
    for core in ("S", "I", "D", "MM"):
        state[f"TuckER_{core}.bn0.num_batches_tracked"] = torch.tensor(17)
    return state | {"mm_moe.w_gate": torch.zeros(3, 2), "bias": torch.zeros(dataset_size(model))}


def dataset_size(model: MoMoK) -> int:
    return model.config.num_entities


def save(path: Path, state: State) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["theirs.pth", "theirs.pt", "theirs.safetensors"])
def test_an_imported_run_holds_the_model(name: str, tmp_path: Path, dataset: Dataset) -> None:
    model = model_of(dataset)
    file = save(tmp_path / name, their_state(model))
    import_checkpoint(file, dataset, write_dataset(tmp_path, dataset), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    found, facts = run.best_model()
    assert run.config == model.config
    assert found.decision == "mean_sigmoid"
    assert facts["epoch"] is None
    assert run.provenance["imported_from"] == str(file)
    expected = model.state_dict()
    for key, tensor in found.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(tensor, expected[key]), key
    assert bool(found.present.all()), "their code fills in what is absent, so nothing is masked"


def test_it_evaluates_exports_answers_and_refuses_to_resume(
    tmp_path: Path, dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_of(dataset)
    file, data = save(tmp_path / "theirs.pth", their_state(model)), write_dataset(tmp_path, dataset)
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    assert main(["import-checkpoint", str(file), str(data), "--out", str(run)]) == 0
    assert main(["evaluate", str(run), "--split", "test", "--json"]) == 0
    assert main(["export", str(run), str(bundle)]) == 0
    assert main(["predict", str(bundle), "--head", "e3", "--relation", "club", "--json"]) == 0
    assert '"score_kind": "mean_probability"' in capsys.readouterr().out
    opened = Bundle.open(bundle, CPU)
    with torch.inference_mode():
        query, other = (m.encode(torch.tensor([3]), torch.tensor([0])).query for m in (model, opened.model))
        expected = model.score(query, model.entity_table())
        torch.testing.assert_close(opened.model.score(other, opened.candidates.vectors), expected)
    assert main(["train", "--resume", "--out", str(run)]) == 2
    assert "cannot go on" in capsys.readouterr().err


def damage(change: Callable[[State], object]) -> Callable[[State], State]:
    def apply(state: State) -> State:
        change(state)
        return state

    return apply


DAMAGES = [
    (
        damage(lambda s: s.pop("rel_gate.weight")),
        r"lacks rel_gate\.weight, which a state dict of the authors'",
    ),
    (damage(lambda s: s.pop("TuckER_MM.W")), r"lacks TuckER_MM\.W"),
    (damage(lambda s: s.update(head=torch.ones(1))), r"holds head, which MoMoK as released does not have"),
    (
        damage(lambda s: s.update({"visual_moe.w_gate": torch.ones(8, 5)})),
        r"visual_moe\.w_gate is \[8, 5\]; \[8, 2\] goes with the tensors beside it",
    ),
    (damage(lambda s: s["fuse_e.ent_attn.weight"].fill_(float("nan"))), r"ent_attn\.weight is not finite"),
    (
        damage(lambda s: s.pop("text_moe.experts.1.bias")),
        r"lacks text_moe\.experts\.1\.bias",
    ),
]


@pytest.mark.parametrize(("change", "message"), DAMAGES, ids=[m for _, m in DAMAGES])
def test_what_does_not_belong_is_named(
    change: Callable[[State], State], message: str, tmp_path: Path, dataset: Dataset
) -> None:
    file = save(tmp_path / "theirs.pth", change(their_state(model_of(dataset))))
    with pytest.raises(DatasetError, match=message) as caught:
        import_checkpoint(file, dataset, tmp_path, tmp_path / "run")
    assert str(file) in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_graph_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    state = their_state(model_of(dataset))
    for table in ("entity_embeddings", "img_entity_embeddings", "txt_entity_embeddings"):
        state[f"{table}.weight"] = state[f"{table}.weight"][1:].clone()
    file = save(tmp_path / "theirs.pth", state)
    with pytest.raises(DatasetError, match=r"has 40 entities, the dataset 41; name the dataset"):
        import_checkpoint(file, dataset, tmp_path, tmp_path / "run")


def test_files_that_are_no_checkpoints_are_explained(tmp_path: Path, dataset: Dataset) -> None:
    (tmp_path / "junk.pth").write_bytes(b"junk")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "dict.pth")
    (tmp_path / "table.csv").write_text("1,2")
    for suffix in (".pth", ".safetensors"):
        unreadable(tmp_path / f"closed{suffix}")
    for name, message in (
        ("gone.pth", "no such file; name the checkpoint"),
        ("gone.safetensors", "no such file; name the checkpoint"),
        ("closed.pth", r"closed\.pth: cannot be read \(.*\); a readable file is needed"),
        ("closed.safetensors", r"closed\.safetensors: cannot be read"),
        ("junk.pth", "not a plain file of tensors"),
        ("list.pth", r"not a state dict; save model\.state_dict\(\)"),
        ("dict.pth", "not a state dict"),
        ("table.csv", r"is a \.pth, \.pt or \.safetensors file"),
    ):
        with pytest.raises(DatasetError, match=message):
            import_checkpoint(tmp_path / name, dataset, tmp_path, tmp_path / "run")
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match="exists; choose another --out"):
        import_checkpoint(tmp_path / "junk.pth", dataset, tmp_path, tmp_path / "run")


@pytest.mark.parametrize("name", ["momok_a", "momok_b"])
def test_the_authors_own_tensors_become_a_run(name: str, shared: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from momok.model.bundle.names import Names
    from momok.training.data.dataset import STRUCTURE

    stored = load_file(shared / "parity" / f"{name}.safetensors")
    weights = {n.removeprefix("weights."): t for n, t in stored.items() if n.startswith("weights.")}
    num_entities = len(weights["entity_embeddings.weight"])
    num_relations = len(weights["relation_embeddings.weight"]) // 2
    import numpy as np

    facts = np.array([[0, 0, 1]], dtype=np.int64)
    graph = Dataset(
        name="parity",
        entities=Names("entity", [f"e{i}" for i in range(num_entities)], ["E"] * num_entities),
        relations=Names("relation", [f"r{i}" for i in range(num_relations)], ["R"] * num_relations),
        descriptions=("",) * num_entities,
        facts={"train": facts, "valid": facts[:0], "test": facts},
        modalities=(STRUCTURE,),
        provenance={},
    )
    file = save(tmp_path / "theirs.pth", weights)
    run = import_checkpoint(file, graph, tmp_path, tmp_path / "run")
    model, _ = run.best_model()
    with torch.inference_mode():
        query = model.encode(stored["input.entity"], stored["input.relation"]).query
        decision = model.score(query, model.entity_table())
    torch.testing.assert_close(decision, stored["output.decision"], rtol=0, atol=1e-5)
