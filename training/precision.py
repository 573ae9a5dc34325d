"""Precision: whether products are made in float32 or, with float32 sums, in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch

PrecisionName = Literal["auto", "float32", "bfloat16"]


def choose_precision(name: PrecisionName, device: torch.device) -> torch.dtype:
    """``auto`` takes bfloat16 where the hardware multiplies it faster than float32."""
    if name == "auto":
        return torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def mixed(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Within it, products are made in ``dtype``; parameters, statistics and optimiser stay in float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not hasattr(torch.cpu, "get_capabilities"):  # An older torch cannot say; float32 is right everywhere.
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
