"""Pictures by a vision model: the files of its directory say which library saved it and loads it.

Axes: B pictures, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from momok.model.arrays import Float32
from momok.training.encoders.base import About, Describer
from momok.training.encoders.models.base import ModelDirectory, ModelError, computing
from momok.training.encoders.models.libraries import importing
from momok.training.encoders.models.transformers import transformers_vision

if TYPE_CHECKING:
    from PIL.Image import Image

_PACKAGES = ("torchvision", "torch", "pillow")


def _tower(
    transform: Callable[[Image], Tensor],
    network: Callable[[Tensor], Tensor],
    device: torch.device,
    about: About,
) -> Describer:
    """Describes pictures. ``network``: Tensor[B, ...] of transformed pictures -> Tensor[B, F]."""

    def describe(parts: Sequence[Tensor]) -> Float32:
        with computing():
            vectors_BF = network(torch.stack(list(parts)).to(device))
        features: Float32 = vectors_BF.float().cpu().numpy()
        return features

    return Describer(about, lambda picture: [transform(picture)], describe, batch_size=32)


def open_clip_tower(directory: ModelDirectory, device: torch.device) -> Describer:
    """The vector that the model compares with texts': ``open_clip_config.json`` beside safetensors."""
    with importing("open_clip", "the image encoder with this --model", "image"):
        import open_clip
    with directory.loading("an open_clip model"):
        model, transform = open_clip.create_model_from_pretrained(
            f"local-dir:{directory.path}", device=device, weights_only=True, pretrained_text=False
        )
        model.eval()
    about = About({"format": "open_clip", "device": device.type}, ("open-clip-torch", *_PACKAGES), directory)
    return _tower(transform, model.encode_image, device, about)


def timm_tower(directory: ModelDirectory, device: torch.device) -> Describer:
    """The input of the classifier, of pictures prepared as for evaluation: ``config.json`` of timm."""
    with importing("timm", "the image encoder with this --model", "image"):
        import timm
        import timm.data
    with directory.loading("a timm model"):
        # Made without its classifier, timm would not notice weights that are missing elsewhere.
        model = timm.create_model(f"local-dir:{directory.path}", pretrained=True).eval().to(device)
        model.reset_classifier(0)
        prepared = timm.data.resolve_model_data_config(model)
        transform = timm.data.create_transform(**prepared, is_training=False)
    settings = {"format": "timm", "input_size": list(prepared["input_size"]), "device": device.type}
    return _tower(transform, model, device, About(settings, ("timm", *_PACKAGES), directory))


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
