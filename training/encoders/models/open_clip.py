"""Pictures by the image tower of an open_clip model: ``open_clip_config.json`` beside safetensors weights."""

from __future__ import annotations

import torch

from momok.training.encoders.base import About
from momok.training.encoders.models.base import ModelDirectory
from momok.training.encoders.models.libraries import importing
from momok.training.encoders.models.tower import ImageTower


class OpenClipVision(ImageTower):
    """The vector that the model compares with those of texts."""

    def __init__(self, directory: ModelDirectory, device: torch.device) -> None:
        with importing("open_clip", "the image encoder with this --model", "image"):
            import open_clip
        with directory.loading("an open_clip model"):
            model, transform = open_clip.create_model_from_pretrained(
                f"local-dir:{directory.path}", device=device, weights_only=True, pretrained_text=False
            )
            model.eval()
        packages = ("open-clip-torch", "torchvision", "torch", "pillow")
        about = About({"format": "open_clip", "device": device.type}, packages, directory)
        super().__init__(transform, model.encode_image, device, about)
