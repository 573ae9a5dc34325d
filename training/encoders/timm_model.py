"""Pictures by a model of timm: ``config.json`` with its architecture beside safetensors weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.encoders.base import About, Float32
from training.encoders.libraries import importing
from training.encoders.models import ModelDirectory, computing

if TYPE_CHECKING:
    from PIL.Image import Image


class TimmVision:
    """A describer of pictures: what the classifier would see, prepared as the model was evaluated."""

    batch_size = 32
    centred = False

    def __init__(self, directory: ModelDirectory, device: torch.device) -> None:
        with importing("timm", "the image encoder with this --model", "image"):
            import timm
            import timm.data
        with directory.loading("a timm model"):
            name = f"local-dir:{directory.path}"
            # Made without its classifier, timm would not notice weights that are missing elsewhere.
            self._model = timm.create_model(name, pretrained=True).eval().to(device)
            self._model.reset_classifier(0)
            prepared = timm.data.resolve_model_data_config(self._model)
            self._transform = timm.data.create_transform(**prepared, is_training=False)
        self._device = device
        self.about = About(
            {"format": "timm", "input_size": list(prepared["input_size"]), "device": device.type},
            ("timm", "torchvision", "torch", "pillow"),
            directory,
        )

    def prepare(self, picture: Image) -> Tensor:
        prepared: Tensor = self._transform(picture)
        return prepared

    def describe(self, parts: Sequence[Tensor]) -> Float32:
        with computing():
            vectors_BF: Tensor = self._model(torch.stack(list(parts)).to(self._device))
        features: Float32 = vectors_BF.float().cpu().numpy()
        return features
