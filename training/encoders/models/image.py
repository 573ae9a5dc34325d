"""Pictures by a vision model: the files of its directory say which library saved it and loads it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from momok.training.encoders.base import Describer
from momok.training.encoders.models.base import ModelDirectory, ModelError
from momok.training.encoders.models.tower import open_clip_tower, timm_tower
from momok.training.encoders.models.transformers import transformers_vision

FORMATS: tuple[tuple[str, str, Callable[[ModelDirectory, torch.device], Describer]], ...] = (
    ("open_clip_config.json", "model_cfg", open_clip_tower),
    ("config.json", "model_type", transformers_vision),
    ("config.json", "architecture", timm_tower),
)
"""Config file, a key that it must hold, and the loader of the library that saves so.

In this order: directories of open_clip may hold a ``config.json`` for transformers too.
"""


def open_image_model(directory: ModelDirectory, device: torch.device) -> Describer:
    """Describes pictures in RGB. Raises ``ModelError`` for a directory that no format fits."""
    for file, key, load in FORMATS:
        if key in directory.json(file):
            return load(directory, device)
    wanted = " or ".join(f"{file} with {key!r}" for file, key, _ in FORMATS)
    raise ModelError(f"{directory.path}: not a model of transformers, timm or open_clip; {wanted} is needed")
