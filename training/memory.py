"""Memory: how much is scored at once, and what a process does with what it has freed."""

from __future__ import annotations

import ctypes
import sys

from torch import Tensor

MIN_ROWS = 64
"""Fewer rows a product would read the whole table for little work."""

CELLS = {"cpu": 1 << 24, "cuda": 1 << 28}
"""Scores held at once: on a CPU 64 MB, as much as makes products of many queries quick."""

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def rows_at_once(table_ND: Tensor) -> int:
    """How many queries to score against a table together."""
    rows = CELLS.get(table_ND.device.type, CELLS["cuda"]) // len(table_ND)
    return max(rows // MIN_ROWS, 1) * MIN_ROWS  # Whole blocks: products are slower on odd numbers of rows.


def keep_freed_memory() -> None:
    """Let this process keep freed memory for its next step, where the C library is glibc.

    Training and evaluation ask for the same large tensors again and again. glibc gives those above 32 MB back
    to the kernel when they are freed, and the kernel clears every page of the next one: that costs more than
    simple arithmetic on it (docs/log/2026-11-21-training-step.md). From then on the process stays as large
    as its largest step.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none.
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
