"""A raw graph, and the bundle that the command line makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.e2e.processes import momok, quick_recipe

NUM_ENTITIES = 40


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as a benchmark publishes them: OpenKE layout, labels, and features for half of the entities."""
    folder = tmp_path_factory.mktemp("raw") / "rings"
    folder.mkdir()
    keys = [f"key/{index}" for index in range(NUM_ENTITIES)]
    _write(folder / "entity2id.txt", [NUM_ENTITIES, *(f"{key}\t{i}" for i, key in enumerate(keys))])
    _write(folder / "relation2id.txt", [2, "next\t0", "opposite\t1"])
    facts = [(i, (i + 1) % NUM_ENTITIES, 0) for i in range(NUM_ENTITIES)]
    facts += [(i, (i + NUM_ENTITIES // 2) % NUM_ENTITIES, 1) for i in range(NUM_ENTITIES)]
    held = {"test": facts[::9], "valid": facts[1::9]}
    train = [fact for fact in facts if fact not in held["test"] + held["valid"]]
    for split, rows in ({"train": train} | held).items():
        _write(folder / f"{split}2id.txt", [len(rows), *("{} {} {}".format(*row) for row in rows)])
    _write(folder / "entity_labels.tsv", [f"{key}\tPlace {i}" for i, key in enumerate(keys)])
    having = np.arange(0, NUM_ENTITIES, 2)
    angle = having * 2 * np.pi / NUM_ENTITIES
    np.save(folder / "place.npy", np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32))
    np.save(folder / "place_rows.npy", having)
    return folder


@pytest.fixture(scope="session")
def work(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``dataset``, ``run`` and ``bundle``, made by nothing but commands."""
    folder = tmp_path_factory.mktemp("work")
    for command in (
        ("import", raw, folder / "dataset", "--layout", "openke",
         "--features", f"place={raw / 'place.npy'}", "--rows", f"place={raw / 'place_rows.npy'}"),
        ("train", folder / "dataset", "--out", folder / "run", "--device", "cpu", *quick_recipe()),
        ("export", folder / "run", folder / "bundle"),
    ):  # fmt: skip
        done = momok(*command)
        assert done.returncode == 0, done.stderr
    return folder


def _write(path: Path, lines: list[object]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
