"""Pictures by the image tower of an open_clip model: ``open_clip_config.json`` beside safetensors weights."""

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


class OpenClipVision:
    """A describer of pictures: the vector that the model compares with those of texts."""

    batch_size = 32
    centred = False

    def __init__(self, directory: ModelDirectory, device: torch.device) -> None:
        with importing("open_clip", "the image encoder with this --model", "image"):
            import open_clip
        with directory.loading("an open_clip model"):
            self._model, self._transform = open_clip.create_model_from_pretrained(
                f"local-dir:{directory.path}", device=device, weights_only=True, pretrained_text=False
            )
            self._model.eval()
        self._device = device
        self.about = About(
            {"format": "open_clip", "device": device.type},
            ("open-clip-torch", "torchvision", "torch", "pillow"),
            directory,
        )

    def prepare(self, picture: Image) -> Tensor:
        prepared: Tensor = self._transform(picture)
        return prepared

    def describe(self, parts: Sequence[Tensor]) -> Float32:
        with computing():
            vectors_BF: Tensor = self._model.encode_image(torch.stack(list(parts)).to(self._device))
        features: Float32 = vectors_BF.float().cpu().numpy()
        return features
