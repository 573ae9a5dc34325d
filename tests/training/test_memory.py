"""Memory: how many rows are scored at once, and that freed memory stays with the process that asks for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from momok.training.memory import CELLS, MIN_ROWS, rows_at_once


@pytest.mark.parametrize("num_entities", [1, 1000, 15_000, 50_000_000])
def test_rows_are_bounded_by_cells_but_for_a_least_number(num_entities: int) -> None:
    rows = rows_at_once(torch.empty(num_entities, 0))
    assert rows >= MIN_ROWS
    assert rows == MIN_ROWS or rows * num_entities <= CELLS["cpu"]


def test_freed_memory_is_kept_where_it_is_asked_for() -> None:
    """Pages that the kernel had to clear for ten tensors of 64 MB, after as many as it takes to settle."""
    code = """
import resource, sys, torch
from momok.training.memory import keep_freed_memory
if sys.argv[1] == "keep": keep_freed_memory()
for turn in range(50):
    if turn == 40: before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        how: int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, check=True).stdout)
        for how in ("keep", "return")
    }
    glibc = sys.platform.startswith(
        "linux"
    )  # It alone can be told to keep memory; elsewhere nothing changes.
    assert faults["keep"] < (faults["return"] / 10 if glibc else float("inf"))
