"""Pictures by a vision model: the files of its directory say which library saved it and loads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from momok.training.encoders.models.base import ModelDirectory, ModelError
from momok.training.encoders.models.tower import open_clip_tower, timm_tower
from momok.training.encoders.models.transformers import TransformersVision
from momok.training.encoders.pictures import PictureDescriber


@dataclass(frozen=True)
class Format:
    """A library's way to save: the config ``file``, a ``key`` that it must hold, and the loader."""

    file: str
    key: str
    open: Callable[[ModelDirectory, torch.device], PictureDescriber]


FORMATS = (
    Format("open_clip_config.json", "model_cfg", open_clip_tower),
    Format("config.json", "model_type", TransformersVision),
    Format("config.json", "architecture", timm_tower),
)
"""In this order: directories of open_clip may hold a ``config.json`` for transformers too."""


def open_image_model(directory: ModelDirectory, device: torch.device) -> PictureDescriber:
    """Raises ``ModelError`` for a directory that no format fits."""
    for known in FORMATS:
        if known.key in directory.json(known.file):
            return known.open(directory, device)
    wanted = " or ".join(f"{known.file} with {known.key!r}" for known in FORMATS)
    raise ModelError(f"{directory.path}: not a model of transformers, timm or open_clip; {wanted} is needed")
