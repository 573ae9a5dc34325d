"""Checkpoints written by the authors' MoMoK or AdaMF code -> a run that evaluates and exports like ours."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from momok.model.networks.adamf import AdaMFConfig
from momok.model.networks.base import LinkPredictor, ModalityShape, ModelConfig, build_model
from momok.model.networks.momok import MoMoKConfig
from momok.model.networks.rotate import EPSILON
from momok.model.runtime.directory import new_directory
from momok.training.data.dataset import STRUCTURE, Dataset
from momok.training.data.files import DatasetError, reading
from momok.training.fit.recipe import Recipe
from momok.training.fit.run import Run, RunError
from momok.training.importers.tensors import read_safetensors, read_torch

MODALITIES = (
    ("structure", "entity_embeddings", "relation_embeddings", "structure_moe", "TuckER_S"),
    ("image", "img_entity_embeddings", "img_relation_embeddings", "visual_moe", "TuckER_I"),
    ("text", "txt_entity_embeddings", "txt_relation_embeddings", "text_moe", "TuckER_D"),
)
"""Our modality; their entity table, relation table, experts and Tucker core of it."""

JOINT_CORE = "TuckER_MM"
_FUSIONS = (("entity_fusion", "fuse_e"), ("relation_fusion", "fuse_r"))
_UNUSED = re.compile(r"mm_moe\..*|bias|.*\.num_batches_tracked")
"""What their code stores and never reads when it scores."""

_ADAMF_SIGN = "ent_embeddings.weight"
"""A tensor that AdaMF's state dicts have and MoMoK's have not."""

_ADAMF_UNUSED = re.compile(r"margin|ent_embedding_range|rel_embedding_range|pi_const|zero_const|epsilon")
"""Constants beside the weights; margin and ranges are in the configuration."""

_ADAMF_FEATURES = (("image", "img"), ("text", "text"))
"""Our modality; how the names of its tensors begin."""


def import_checkpoint(file: Path, dataset: Dataset, dataset_path: Path, out: Path) -> Run:
    """Write the run directory ``out`` with the model of ``file`` (``.pth``, ``.pt`` or ``.safetensors``).

    Numbers of experts and attentions and all widths are read off the tensors; the numbers of entities and
    relations must be the dataset's, in id order. MoMoK's scores are decided as released, ``mean_sigmoid``,
    and no entity lacks a modality, as their code filled in what was absent. Raises ``DatasetError`` for a
    file that is something else, ``RunError`` where ``out`` exists.
    """
    if out.exists():
        raise RunError(f"{out} exists; choose another --out")
    state = read_state(file)
    model = build_released(state, file)
    config = model.config
    _check_sizes(config, dataset, file)
    recipe = Recipe.model_validate({"model": config.model} | _recipe_of(config))
    run = Run.describe(out, dataset, dataset_path, recipe, config, imported_from=str(file.resolve()))
    with new_directory(out, RunError) as directory:
        written = replace(run, path=directory)
        written.write()
        written.save_best(model, {"epoch": None, "step": None, "valid": {}})
    return run


def read_state(file: Path) -> dict[str, Tensor]:
    """The tensors of a state dict by their names. Raises ``DatasetError``."""
    if file.suffix not in (".pth", ".pt", ".safetensors"):
        raise DatasetError("a checkpoint is a .pth, .pt or .safetensors file", file=file)
    with reading(file, "name the checkpoint that the authors' code wrote"):
        if file.suffix == ".safetensors":
            return read_safetensors(file)
        found = read_torch(file)
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise DatasetError("not a state dict; save model.state_dict() with torch.save", file=file)
    return {str(name): tensor for name, tensor in found.items()}


def build_released(state: Mapping[str, Tensor], file: Path) -> LinkPredictor:
    """Our model with their weights, in evaluation mode. Raises ``DatasetError`` for what does not belong."""
    try:
        adamf = _ADAMF_SIGN in state
        config: ModelConfig = _adamf_config(state, file) if adamf else _config_of(state)
    except KeyError as error:
        raise _lacking([str(error.args[0])], file) from None
    sources = _sources(config)
    title, unused = ("AdaMF", _ADAMF_UNUSED) if isinstance(config, AdaMFConfig) else ("MoMoK", _UNUSED)
    wanted = {name for theirs in sources.values() for name in _names(theirs)}
    if lacking := sorted(wanted - set(state)):
        raise _lacking(lacking, file)
    if unknown := sorted(name for name in set(state) - wanted if not unused.fullmatch(name)):
        message = f"holds {_some(unknown)}, which {title} as released does not have; is it another model's?"
        raise DatasetError(message, file=file)
    model = build_model(config)
    ours = model.state_dict()
    for name, theirs in sources.items():
        shape = ours[name].shape[1:] if isinstance(theirs, list) else ours[name].shape
        for stored in _names(theirs):
            _check_tensor(state[stored], stored, shape, file)
    model.load_state_dict(ours | renamed(state, config))
    return model.eval()


def renamed(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Their tensors under our names, the experts stacked."""
    return {
        ours: torch.stack([state[name] for name in theirs]) if isinstance(theirs, list) else state[theirs]
        for ours, theirs in _sources(config).items()
    }


def _check_tensor(tensor: Tensor, name: str, shape: torch.Size, file: Path) -> None:
    if tensor.shape != shape:
        message = f"{name} is {list(tensor.shape)}; {list(shape)} goes with the tensors beside it"
        raise DatasetError(message, file=file)
    if not bool(tensor.isfinite().all()):
        raise DatasetError(f"{name} is not finite; that training had failed", file=file)


def _check_sizes(config: ModelConfig, dataset: Dataset, file: Path) -> None:
    found = {"entities": config.num_entities, "relations": config.num_relations}
    expected = {"entities": dataset.num_entities, "relations": dataset.num_relations}
    for what, count in expected.items():
        if found[what] != count:
            message = f"has {found[what]} {what}, the dataset {count}; name the dataset it was trained on"
            raise DatasetError(message, file=file)


def _config_of(state: Mapping[str, Tensor]) -> MoMoKConfig:
    relations = state["relation_embeddings.weight"]
    widths = {name: state[f"{table}.weight"].shape[-1] for name, table, *_ in MODALITIES}
    return MoMoKConfig(
        num_entities=state["entity_embeddings.weight"].shape[0],
        num_relations=max(relations.shape[0] // 2, 1),
        decision="mean_sigmoid",
        num_experts=_count(state, r"structure_moe\.experts\.\d+\.bias"),
        num_attentions=_count(state, r"fuse_e\.modal1_layers\.\d+\.1\.weight"),
        relation_width=relations.shape[-1],
        joint_width=state[f"{JOINT_CORE}.W"].shape[-1],
        modalities=tuple(
            ModalityShape(name=name, input_width=width, width=width, learned=name == STRUCTURE.name)
            for name, width in widths.items()
        ),
    )


def _adamf_config(state: Mapping[str, Tensor], file: Path) -> AdaMFConfig:
    """The configuration that the tensors imply. Raises ``KeyError`` for what is missing, ``DatasetError``."""
    entities, relations = state[_ADAMF_SIGN], state["rel_embeddings.weight"]
    dim, margin = relations.shape[-1], float(state["margin"])
    if not math.isclose(float(state["rel_embedding_range"]) * dim, margin + EPSILON, rel_tol=1e-4):
        message = (
            f"rel_embedding_range is not (margin + {EPSILON:g}) / {dim}: phases would mean something else"
        )
        raise DatasetError(message, file=file)
    shapes = [ModalityShape(name="structure", input_width=2 * dim, width=2 * dim, learned=True)]
    for name, theirs in _ADAMF_FEATURES:
        width = state[f"{theirs}_embeddings.weight"].shape[-1]
        shapes.append(ModalityShape(name=name, input_width=width, width=width))
    return AdaMFConfig(
        num_entities=len(entities),
        num_relations=len(relations),
        modalities=tuple(shapes),
        dim=dim,
        margin=margin,
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return max(sum(re.fullmatch(pattern, name) is not None for name in state), 1)


def _recipe_of(config: ModelConfig) -> dict[str, Any]:
    """The network and the objective of a recipe that would build such a model."""
    if isinstance(config, AdaMFConfig):
        return {"network": {"dim": config.dim, "margin": config.margin}}
    fields = {"num_experts", "relation_width", "joint_width", "num_attentions", "decision"}
    objective = {"loss": "bce", "club_likelihood": "released"}
    return {"network": config.model_dump(include=fields), "objective": objective}


def _sources(config: ModelConfig) -> dict[str, str | list[str]]:
    """Our name -> their name, or the list of those that ours stacks."""
    if isinstance(config, AdaMFConfig):
        return _adamf_sources()
    assert isinstance(config, MoMoKConfig)
    sources: dict[str, str | list[str]] = {"temperature.weight": "rel_gate.weight"}
    for place, (_, entities, relations, experts, core) in enumerate(MODALITIES):
        sources[f"inputs.{place}.weight"] = f"{entities}.weight"
        sources[f"relations.{place}.weight"] = f"{relations}.weight"
        sources[f"experts.{place}.gate"] = f"{experts}.w_gate"
        sources[f"experts.{place}.noise"] = f"{experts}.w_noise"
        for ours, theirs in (("weight", "lin.weight"), ("bias", "bias")):
            sources[f"experts.{place}.{ours}"] = [
                f"{experts}.experts.{expert}.{theirs}" for expert in range(config.num_experts)
            ]
        sources |= _scorer_sources(place, core)
    sources |= _scorer_sources(len(MODALITIES), JOINT_CORE)
    for ours, theirs in _FUSIONS:
        sources[f"{ours}.attention.weight"] = f"{theirs}.ent_attn.weight"
        for attention in range(config.num_attentions):
            for place in range(len(MODALITIES)):
                for part in ("weight", "bias"):
                    layer = f"{theirs}.modal{place + 1}_layers.{attention}.1.{part}"
                    sources[f"{ours}.maps.{attention}.{place}.{part}"] = layer
    return sources


def _adamf_sources() -> dict[str, str | list[str]]:
    """Our name -> their name."""
    found: dict[str, str | list[str]] = {
        "attention.weight": "ent_attn.weight",
        "relations.weight": "rel_embeddings.weight",
        "inputs.0.weight": _ADAMF_SIGN,
    }
    for place, (_, theirs) in enumerate(_ADAMF_FEATURES, start=1):
        found[f"inputs.{place}.weight"] = f"{theirs}_embeddings.weight"
        for part in ("weight", "bias"):
            found[f"projections.{place}.{part}"] = f"{theirs}_proj.{part}"
    return found


def _scorer_sources(place: int, core: str) -> dict[str, str]:
    sources = {f"scorers.{place}.core": f"{core}.W"}
    for ours, theirs in (("input_norm", "bn0"), ("output_norm", "bn1")):
        for part in ("weight", "bias", "running_mean", "running_var"):
            sources[f"scorers.{place}.{ours}.{part}"] = f"{core}.{theirs}.{part}"
    return sources


def _names(theirs: str | list[str]) -> list[str]:
    return theirs if isinstance(theirs, list) else [theirs]


def _lacking(names: list[str], file: Path) -> DatasetError:
    return DatasetError(
        f"lacks {_some(names)}, which a state dict of the authors' MoMoK or AdaMF has", file=file
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
