"""Pictures by a model of timm: ``config.json`` with its architecture beside safetensors weights."""

from __future__ import annotations

import torch

from momok.training.encoders.base import About
from momok.training.encoders.models.base import ModelDirectory
from momok.training.encoders.models.libraries import importing
from momok.training.encoders.models.tower import ImageTower


class TimmVision(ImageTower):
    """What the classifier would see, of pictures prepared as when the model was evaluated."""

    def __init__(self, directory: ModelDirectory, device: torch.device) -> None:
        with importing("timm", "the image encoder with this --model", "image"):
            import timm
            import timm.data
        with directory.loading("a timm model"):
            name = f"local-dir:{directory.path}"
            # Made without its classifier, timm would not notice weights that are missing elsewhere.
            model = timm.create_model(name, pretrained=True).eval().to(device)
            model.reset_classifier(0)
            prepared = timm.data.resolve_model_data_config(model)
            transform = timm.data.create_transform(**prepared, is_training=False)
        settings = {"format": "timm", "input_size": list(prepared["input_size"]), "device": device.type}
        packages = ("timm", "torchvision", "torch", "pillow")
        super().__init__(transform, model, device, About(settings, packages, directory))
