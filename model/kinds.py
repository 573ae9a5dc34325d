"""Words of answers that many parts share, in a file that loads neither numpy nor torch."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "valid", "test"]
"""In this order a fact is known from the first that holds it."""
ScoreKind = Literal["logit_sum", "mean_probability", "margin_minus_distance"]
"""The meaning of a score."""
