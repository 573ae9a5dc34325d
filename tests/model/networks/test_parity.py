"""MoMoK and AdaMF compute the functions of the authors' released code, and goes on doing so.

The first half compares with numbers that their code produced. The second half needs no shared folder: a
golden files hold small models of ours, with what the first half lacks (a learned reduction, absent
modalities), and its answers. Where a change of function is meant and parity holds, write it anew:
``.venv/bin/python -m tests.model.networks.test_parity momok``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from momok.model.networks.base import LinkPredictor, build_model, parse_config
from momok.model.scores import Decision
from momok.training.importers.released import build_released

GOLDEN = Path(__file__).parent / "golden"
MODELS: dict[str, Decision | None] = {"momok": "mean_sigmoid", "adamf": None}
"""Models that have a golden file, with the decision it was made with."""
TOLERANCE = 1e-5


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return load_file(path), file.metadata()


def theirs(path: Path) -> tuple[LinkPredictor, dict[str, Tensor]]:
    """Our model with the authors' weights, and everything in the parity file."""
    tensors, _ = read(path)
    weights = {
        name.removeprefix("weights."): tensor
        for name, tensor in tensors.items()
        if name.startswith("weights.")
    }
    return build_released(weights, path), tensors


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


@pytest.fixture(params=["momok_a", "momok_b"])
def parity_file(request: pytest.FixtureRequest, shared: Path) -> Path:
    path: Path = shared / "parity" / f"{request.param}.safetensors"
    return path


@torch.inference_mode()
def test_scores_are_those_of_the_authors_code(parity_file: Path) -> None:
    model, expected = theirs(parity_file)
    query = model.encode(expected["input.entity"], expected["input.relation"]).query
    table = model.entity_table()
    for branch in query:
        score = query[branch] @ table[branch].T
        assert_close(score.sigmoid(), expected[f"output.score.{branch}"])
    assert_close(model.score(query, table), expected["output.decision"])


@torch.inference_mode()
def test_gates_and_modality_weights_are_those_of_the_authors_code(parity_file: Path) -> None:
    model, expected = theirs(parity_file)
    last_attention: list[Tensor] = []
    fusion = model.get_submodule("entity_fusion")
    # An encoding reports the mean over the attentions; theirs kept the last one only.
    fusion.register_forward_hook(lambda _, __, result: last_attention.append(result[1][-1]))
    encoding = model.encode(expected["input.entity"], expected["input.relation"])
    assert_close(last_attention[0], expected["output.modality_weights_last_fusion_head"])
    for modality in model.modality_names:
        assert_close(encoding.expert_gates[modality], expected[f"output.expert_gates.{modality}"])


@torch.inference_mode()
def test_adamf_computes_the_function_of_the_authors_code(shared: Path) -> None:
    model, expected = theirs(shared / "parity" / "adamf_a.safetensors")
    head, relation, tail = (expected[f"input.{part}"] for part in ("head", "relation", "tail"))
    candidates = model.candidates()
    assert_close(candidates.vectors["joint"], expected["output.joint"])
    assert_close(candidates.modality_weights, expected["output.modality_weights"])
    for asked, entity, inverse in (("tail", head, 0), ("head", tail, model.config.num_relations)):
        encoding = model.encode(entity, relation + inverse)
        assert_close(model.score(encoding.query, candidates.vectors), expected[f"output.score_all.{asked}"])
        assert_close(encoding.modality_weights, expected["output.modality_weights"][entity])


@torch.inference_mode()
def outputs(model: LinkPredictor) -> dict[str, Tensor]:
    """Everything that a model says about all of its queries and candidates."""
    entities, relations = model.config.num_entities, 2 * model.config.num_relations
    encoding = model.encode(
        torch.arange(entities).repeat(relations), torch.arange(relations).repeat_interleave(entities)
    )
    candidates = model.candidates()
    said = {
        "modality_weights": encoding.modality_weights,
        "candidate.modality_weights": candidates.modality_weights,
    }
    if encoding.relation_temperature is not None:
        said["relation_temperature"] = encoding.relation_temperature
    for modality in model.gated_modalities:
        said[f"expert_gates.{modality}"] = encoding.expert_gates[modality]
        said[f"candidate.expert_gates.{modality}"] = candidates.expert_gates[modality]
    for branch in model.branches:
        query_BD, table_ND = encoding.query[branch.name], candidates.vectors[branch.name]
        said[f"score.{branch.name}"] = branch.scores(query_BD, table_ND)
    return said | {"decision": model.score(encoding.query, candidates.vectors)}


def write_golden(name: str, make_model: Callable[..., LinkPredictor]) -> None:
    """Write a golden file: weights, outputs, and in the metadata the configuration."""
    model = make_model(name, 3, decision=MODELS[name]).eval()
    tensors = {f"weights.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"output.{name}": tensor for name, tensor in outputs(model).items()}
    GOLDEN.mkdir(exist_ok=True)
    save_file(
        tensors, GOLDEN / f"{name}.safetensors", {"config": json.dumps(model.config.model_dump(mode="json"))}
    )


@pytest.mark.parametrize("name", sorted(MODELS))
def test_outputs_are_those_of_the_golden_file(name: str) -> None:
    tensors, metadata = read(GOLDEN / f"{name}.safetensors")
    model = build_model(parse_config(json.loads(metadata["config"])))
    model.load_state_dict(
        {
            name.removeprefix("weights."): tensor
            for name, tensor in tensors.items()
            if name.startswith("weights.")
        }
    )
    found = outputs(model.eval())
    expected = {name.removeprefix("output."): t for name, t in tensors.items() if name.startswith("output.")}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert_close(found[name], tensor)


if __name__ == "__main__":
    from tests.model.conftest import _make_model

    for name in sys.argv[1:] or sorted(MODELS):
        write_golden(name, _make_model)
