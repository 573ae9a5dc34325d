"""How the authors' AdaMF code names and sizes its tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from momok.model.networks.adamf import AdaMFConfig
from momok.model.networks.base import ModalityShape
from momok.model.networks.rotate import EPSILON
from momok.training.data.files import DatasetError

SIGN = "ent_embeddings.weight"
"""A tensor that AdaMF's state dicts have and MoMoK's have not."""

UNUSED = re.compile(r"margin|ent_embedding_range|rel_embedding_range|pi_const|zero_const|epsilon")
"""Constants beside the weights; margin and ranges are in the configuration."""

_FEATURES = (("image", "img"), ("text", "text"))
"""Our modality; how the names of its tensors begin."""


def config_of(state: Mapping[str, Tensor], file: Path) -> AdaMFConfig:
    """The configuration that the tensors imply. Raises ``KeyError`` for what is missing, ``DatasetError``."""
    entities, relations = state[SIGN], state["rel_embeddings.weight"]
    dim, margin = relations.shape[-1], float(state["margin"])
    if not math.isclose(float(state["rel_embedding_range"]) * dim, margin + EPSILON, rel_tol=1e-4):
        message = (
            f"rel_embedding_range is not (margin + {EPSILON:g}) / {dim}: phases would mean something else"
        )
        raise DatasetError(message, file=file)
    shapes = [ModalityShape(name="structure", input_width=2 * dim, width=2 * dim, learned=True)]
    for name, theirs in _FEATURES:
        width = state[f"{theirs}_embeddings.weight"].shape[-1]
        shapes.append(ModalityShape(name=name, input_width=width, width=width))
    return AdaMFConfig(
        num_entities=len(entities),
        num_relations=len(relations),
        modalities=tuple(shapes),
        dim=dim,
        margin=margin,
    )


def sources() -> dict[str, str]:
    """Our name -> their name."""
    found = {
        "attention.weight": "ent_attn.weight",
        "relations.weight": "rel_embeddings.weight",
        "inputs.0.weight": SIGN,
    }
    for place, (_, theirs) in enumerate(_FEATURES, start=1):
        found[f"inputs.{place}.weight"] = f"{theirs}_embeddings.weight"
        for part in ("weight", "bias"):
            found[f"projections.{place}.{part}"] = f"{theirs}_proj.{part}"
    return found
