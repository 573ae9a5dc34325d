"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Tests compute on small matrices: threads would only wait for one another.
torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of benchmark graphs and parity numbers; tests that need it skip where it is missing."""
    folder = Path(os.environ.get("MOMOK_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no benchmark graphs at {folder}; set MOMOK_SHARED")
    return folder
