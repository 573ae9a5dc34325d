"""Device: where tensors live."""

from __future__ import annotations

from typing import Literal

import torch

from model.errors import UserError

DeviceName = Literal["auto", "cpu", "cuda"]


def choose_device(name: DeviceName) -> torch.device:
    """``auto`` takes the GPU where there is one. Raises ``UserError`` when ``cuda`` is asked for in vain."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA GPU here; use --device cpu or auto")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
