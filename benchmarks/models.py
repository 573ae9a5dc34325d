"""The models that benchmarks are made of: MoMoK of three modalities, all of them 256 wide, random weights."""

from __future__ import annotations

from typing import Any

import torch

from momok.model.networks.base import ModalityShape
from momok.model.networks.momok import MoMoK, MoMoKConfig

WIDTH, NUM_EXPERTS = 256, 3
NAMES = ("structure", "image", "text")


def momok(num_entities: int, num_relations: int, **fields: Any) -> MoMoK:
    """``fields`` of its configuration besides."""
    torch.manual_seed(0)
    shapes = tuple(
        ModalityShape(name=name, input_width=WIDTH, width=WIDTH, learned=not place)
        for place, name in enumerate(NAMES)
    )
    return MoMoK(
        MoMoKConfig(
            num_entities=num_entities,
            num_relations=num_relations,
            num_experts=NUM_EXPERTS,
            modalities=shapes,
            **fields,
        )
    )
