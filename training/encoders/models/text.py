"""Texts by a sentence-transformers model: any directory that the library saves."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from momok.model.arrays import Float32
from momok.training.encoders.base import About, Describer
from momok.training.encoders.models.base import ModelDirectory, ModelError, computing
from momok.training.encoders.models.libraries import importing


def sentence_model(directory: ModelDirectory, device: torch.device) -> Describer:
    """Describes texts. A text longer than the model reads is cut, as the model says."""
    if not (directory.path / "modules.json").is_file():
        message = "no modules.json, so no sentence-transformers model; save it with that library"
        raise ModelError(f"{directory.path}: {message}")
    with importing("sentence_transformers", "the text encoder with --model", "text"):
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with directory.loading("a sentence-transformers model"):
        model = SentenceTransformer(
            str(directory.path),
            device=str(device),
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        ).eval()

    def describe(parts: Sequence[str]) -> Float32:
        with computing():
            vectors_BF: Float32 = model.encode(
                list(parts), batch_size=len(parts), convert_to_numpy=True, show_progress_bar=False
            )
        return vectors_BF

    settings = {"max_tokens": model.max_seq_length, "device": device.type}
    about = About(settings, ("sentence-transformers", "transformers", "torch"), directory)
    return Describer(about, lambda text: [text], describe)
