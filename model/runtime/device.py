"""Device: where tensors live."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

from momok.model.errors import UserError

DeviceName = Literal["auto", "cpu", "cuda"]


def choose_device(name: DeviceName) -> torch.device:
    """``auto`` takes the GPU where there is one. Raises ``UserError`` when ``cuda`` is asked for in vain."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA GPU here; use --device cpu or auto")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


class GpuMemory(NamedTuple):
    """What torch holds of a GPU's memory, and what the GPU has, in bytes; 0 without one."""

    held_bytes: int = 0
    total_bytes: int = 0


def gpu_memory() -> GpuMemory:
    """Of this process. A process that computes on the CPU never opens a GPU for this."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return GpuMemory()
    # What the driver would say of it takes a call; this is known.
    total_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return GpuMemory(torch.cuda.memory_reserved(), total_bytes)
