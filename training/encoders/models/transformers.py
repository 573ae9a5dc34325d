"""Pictures and sounds by a model of transformers: ``config.json`` with ``model_type`` beside safetensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from momok.model.arrays import Float32
from momok.training.encoders.base import About, Describer
from momok.training.encoders.models.base import ModelDirectory, ModelError, computing
from momok.training.encoders.models.libraries import importing

if TYPE_CHECKING:
    from PIL.Image import Image

_LIBRARIES = ("transformers", "torch", "numpy")
_UNUSED = ("masked_spec_embed",)
"""Weights that only training uses, which some checkpoints lack."""


class Backbone:
    """A model of transformers, whose output becomes one vector.

    Dual encoders (CLIP, CLAP) give the vector that they compare with those of texts; others their pooled
    output where the checkpoint holds the weights of that pooling, else the mean over all positions.
    """

    def __init__(self, directory: ModelDirectory, device: torch.device, features: str) -> None:
        with importing("transformers", "an encoder with this --model", "image"):
            from transformers import AutoModel
            from transformers.utils import logging
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        with directory.loading("a transformers model"):
            model, report = AutoModel.from_pretrained(
                directory.path,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        lacking = sorted(name for name in report["missing_keys"] if not name.endswith(_UNUSED))
        self._pooled = not any("pooler" in name for name in lacking)
        if lost := [name for name in lacking if "pooler" not in name]:
            message = f"its weights lack {lost[0]} and {len(lost) - 1} more; save the whole model"
            raise ModelError(f"{directory.path}: {message}")
        self._device = device
        model = model.eval().to(device)
        if getattr(model.config, "is_encoder_decoder", False):
            model = model.get_encoder()
        self._call = getattr(model, features, model)
        self.model_type = str(model.config.model_type)

    def __call__(self, inputs: Mapping[str, Float32]) -> Float32:
        """float32[B, F] of a batch of equally large inputs."""
        tensors = {name: torch.from_numpy(value).to(self._device) for name, value in inputs.items()}
        with computing():
            found = self._call(**tensors)
        pooled = getattr(found, "pooler_output", None) if self._pooled else None
        if isinstance(found, Tensor):
            pooled = found
        elif pooled is None:
            # Convolutions end in channels by rows by columns, all others in positions by features.
            last = found.last_hidden_state
            pooled = last.mean(dim=1) if last.ndim == 3 else last.mean(dim=(2, 3))
        vectors_BF: Float32 = pooled.flatten(1).float().cpu().numpy()
        return vectors_BF


def transformers_vision(directory: ModelDirectory, device: torch.device) -> Describer:
    """Describes pictures, prepared by the model's own processor, in Pillow whatever else there is."""
    backbone = Backbone(directory, device, "get_image_features")
    from transformers import AutoImageProcessor

    with directory.loading("a transformers model with an image processor"):
        processor = AutoImageProcessor.from_pretrained(
            directory.path, local_files_only=True, trust_remote_code=False, backend="pil"
        )

    def prepare(picture: Image) -> list[Float32]:
        pixels = processor(images=picture, return_tensors="np")["pixel_values"]
        return [np.asarray(pixels[0], dtype=np.float32)]

    def describe(parts: Sequence[Float32]) -> Float32:
        return _by_shape(parts, lambda same: backbone({"pixel_values": np.stack(same)}))

    settings = {"format": "transformers", "type": backbone.model_type, "device": device.type}
    return Describer(About(settings, (*_LIBRARIES, "pillow"), directory), prepare, describe, batch_size=32)


def transformers_audio(directory: ModelDirectory, device: torch.device) -> Describer:
    """Describes waveforms at the rate (samples a second) that the model asks for: a setting in ``about``."""
    backbone = Backbone(directory, device, "get_audio_features")
    from transformers import AutoFeatureExtractor

    with directory.loading("a transformers model with a feature extractor"):
        extractor = AutoFeatureExtractor.from_pretrained(
            directory.path, local_files_only=True, trust_remote_code=False
        )
        rate = int(extractor.sampling_rate)

    def waveforms(same: Sequence[Float32]) -> Float32:
        inputs = extractor(list(same), sampling_rate=rate, return_tensors="np")
        name = extractor.model_input_names[0]
        return backbone({name: np.asarray(inputs[name], dtype=np.float32)})

    def describe(parts: Sequence[Float32]) -> Float32:
        """Waveforms of one length go together: filled up, a clip would depend on its company."""
        return _by_shape(parts, waveforms)

    settings = {"format": "transformers", "type": backbone.model_type, "device": device.type, "rate": rate}
    about = About(settings, (*_LIBRARIES, "scipy", "soundfile"), directory)
    return Describer(about, lambda clip_T: [clip_T], describe, batch_size=8)


def _by_shape(parts: Sequence[Float32], describe: Any) -> Float32:
    """The rows of ``describe``, called with parts of one shape at a time, in the order of ``parts``."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, part in enumerate(parts):
        places.setdefault(part.shape, []).append(place)
    found = [describe([parts[place] for place in same]) for same in places.values()]
    back = np.argsort(np.concatenate(list(places.values())))
    ordered: Float32 = np.concatenate(found)[back]
    return ordered
