"""Whoever replaces a file has it on disk first, and leaves nothing behind where the disk refuses."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from momok.model.errors import UserError
from momok.model.networks.modality import Modality
from momok.training.data.directory import write_modality
from momok.training.discovery.output import DiscoveryFile
from momok.training.encoders.pieces import Piece, Pieces
from momok.training.experiments.plot import plot_curves
from momok.training.experiments.trials import replace_text
from momok.training.fit.checkpoint import Checkpoint
from tests.training.builders import make_dataset, make_recipe, start

Write = Callable[[Path], None]


def run(folder: Path) -> Write:
    trainer = start(folder, make_recipe(max_epochs=1), make_dataset())
    return lambda _: trainer.run.write()


def pieces(folder: Path) -> Write:
    kept = Pieces(folder / "pieces", {}, resume=False)
    return lambda _: kept.write(0, Piece(np.arange(2), np.ones((2, 3), dtype=np.float32)))


def discovery(_: Path) -> Write:
    def write(folder: Path) -> None:
        with DiscoveryFile(folder / "facts.jsonl").writing({}, b""):
            pass

    return write


def modality(_: Path) -> Write:
    made = Modality("text", np.ones((2, 3), dtype=np.float32), np.arange(2))
    return lambda folder: write_modality(folder, made)


WRITERS: dict[str, Callable[[Path], Write]] = {
    "run": run,
    "pieces": pieces,
    "discovery": discovery,
    "modality": modality,
    "checkpoint": lambda _: (
        lambda folder: Checkpoint({"x": torch.ones(3)}, {}).write(folder / "c.safetensors")
    ),
    "trials": lambda _: lambda folder: replace_text(folder / "results.json", "{}"),
    "plot": lambda _: (
        lambda folder: plot_curves({"noise": {"momok": [(0, 1, 0)]}}, folder / "plot.svg", ylabel="MRR")
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_told_and_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = WRITERS[name](tmp_path)
    before = contents(tmp_path)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); is there room"):
        write(tmp_path)
    after = contents(tmp_path)
    after.pop(tmp_path / "facts.jsonl.partial", None)  # What was found so far is kept, to be resumed.
    assert after == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
