"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.missing import missing

# Tests compute on small matrices: threads would only wait for one another.
torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of benchmark graphs and parity numbers; a place that was named must be there."""
    named = os.environ.get("MOMOK_SHARED")
    folder = REPOSITORY.parent / "shared" if named is None else Path(named)
    if not folder.is_dir():
        assert named is None, f"MOMOK_SHARED is {named}, and there is no such folder"
        missing(f"no benchmark graphs at {folder}; set MOMOK_SHARED")
    return folder
