"""Failures of scoring that the wings tell apart: a scorer that ended, and one that ran out of memory."""

from __future__ import annotations

import torch

OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)


class ScorerEnded(Exception):
    """The scorer is gone and another is being started: neither a query nor its caller is to blame."""
