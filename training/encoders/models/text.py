"""Texts by a sentence-transformers model: any directory that the library saves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from momok.model.arrays import Float32
from momok.training.encoders.base import About
from momok.training.encoders.models.base import ModelDirectory, ModelError, computing
from momok.training.encoders.models.libraries import importing


class SentenceModel:
    """A describer of texts. What is longer than the model reads is cut, as the model says."""

    batch_size = 64
    centred = False

    def __init__(self, directory: ModelDirectory, device: torch.device) -> None:
        if not (directory.path / "modules.json").is_file():
            message = "no modules.json, so no sentence-transformers model; save it with that library"
            raise ModelError(f"{directory.path}: {message}")
        with importing("sentence_transformers", "the text encoder with --model", "text"):
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        with directory.loading("a sentence-transformers model"):
            self._model = SentenceTransformer(
                str(directory.path),
                device=str(device),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            ).eval()
        self.about = About(
            {"max_tokens": self._model.max_seq_length, "device": device.type},
            ("sentence-transformers", "transformers", "torch"),
            directory,
        )

    def parts(self, item: str) -> Iterable[str]:
        return (item,)

    def describe(self, parts: Sequence[str]) -> Float32:
        with computing():
            vectors_BF: Float32 = self._model.encode(
                list(parts), batch_size=len(parts), convert_to_numpy=True, show_progress_bar=False
            )
        return vectors_BF
