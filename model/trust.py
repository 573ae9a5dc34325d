"""What an answer trusted, as it is told: weights and gates as numbers of a readable length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

DECIMALS = 6
"""Of weights and gates in answers: float32 holds no more, and a shorter body is a faster one."""


def trust_out(
    modalities: Sequence[str],
    weights_M: Float32,
    gates: Mapping[str, Float32 | None],
    temperature: float | None,
) -> dict[str, Any]:
    """The explaining fields of a query; gates are None where the entity lacks the modality, or all are."""
    return {
        "modality_weights": dict(zip(modalities, rounded(weights_M), strict=True)),
        "expert_gates": {name: None if values is None else rounded(values) for name, values in gates.items()}
        or None,
        "relation_temperature": temperature,
    }


def rounded(values_M: Float32) -> list[float]:
    """A few numbers; each by itself, as that takes half the time of an array's way."""
    return [round(value, DECIMALS) for value in values_M.tolist()]
