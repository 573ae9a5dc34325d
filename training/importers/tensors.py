"""Files of tensors that other programs wrote, read without running what may be in them."""

from __future__ import annotations

import struct
from pathlib import Path
from pickle import UnpicklingError  # the name alone: what torch.load raises
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from momok.training.data.files import DatasetError

_DAMAGED = (
    UnpicklingError,
    RuntimeError,
    ValueError,
    LookupError,
    EOFError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    struct.error,
)
"""What ``torch.load`` was seen to raise on files cut short or with bytes changed; it promises none."""


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """All tensors by name. Raises ``DatasetError`` for a damaged file, ``OSError`` for an unreadable one."""
    try:
        with safe_open(file, framework="pt") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DatasetError(f"not a readable safetensors file ({error}); export it again", file=file) from None


def read_torch(file: Path) -> Any:
    """What ``torch.save`` wrote: tensors and plain containers; code is refused. Raises as above."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        first = str(error).strip().partition("\n")[0]
        message = f"not a plain file of tensors ({first}); save tensors alone again"
        raise DatasetError(message, file=file) from None
