"""Precision: whether products are made in float32 or, with float32 sums, in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch

PrecisionName = Literal["auto", "float32", "bfloat16"]


def choose_precision(name: PrecisionName, device: torch.device) -> PrecisionName:
    """``auto`` takes bfloat16 where the processor multiplies it; others stay what they are."""
    if name != "auto":
        return name
    return "bfloat16" if _multiplies_bfloat16(device) else "float32"


def products_in(precision: PrecisionName, device: torch.device) -> AbstractContextManager[None]:
    """Within it, products are made in a precision; parameters, statistics and optimiser stay in float32."""
    assert precision != "auto", "choose_precision comes first"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not hasattr(torch.cpu, "get_capabilities"):  # An older torch cannot say; float32 is right everywhere.
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
