"""Files of tensors from other programs, read without running code in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from momok.training.data.files import DatasetError


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """All tensors by name. Raises ``DatasetError`` for a damaged file, ``OSError`` for an unreadable one."""
    try:
        with safe_open(file, framework="pt") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DatasetError(f"not a readable safetensors file ({error}); export it again", file=file) from None


def read_torch(file: Path) -> Any:
    """Tensors and plain containers from ``torch.save``; code is refused. Raises like ``read_safetensors``."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch.load promises no kind of error for a damaged file.
        first = str(error).strip().partition("\n")[0]
        message = f"not a plain file of tensors ({first}); save tensors alone again"
        raise DatasetError(message, file=file) from None
