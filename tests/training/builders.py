"""A graph small enough to train on in a second, a recipe to go with it, and runs of both."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from momok.model.bundle.names import Names
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import LinkPredictor
from momok.model.networks.modality import Modality
from momok.training.data.dataset import STRUCTURE, Dataset
from momok.training.fit.recipe import Recipe
from momok.training.fit.start import start_training
from momok.training.fit.trainer import Trainer
from momok.training.objectives.base import Loss
from momok.training.objectives.batches import Batch
from momok.training.objectives.kinds import build_objective, parse_objective

CPU = torch.device("cpu")
NUM_MEMBERS, NUM_GROUPS = 32, 4
NUM_ENTITIES = NUM_MEMBERS + 2 * NUM_GROUPS + 1

FIELDS: dict[str, Any] = {
    "modalities": {name: {"width": 8, "lift_to": 8} for name in ("structure", "text", "numeric")},
    "network": {"num_experts": 3, "relation_width": 6, "joint_width": 8},
    "training": {
        "batch_size": 8,
        "learning_rate": 1e-2,
        "max_epochs": 3,
        "precision": "float32",  # auto would mean another run on another machine
        "seed": 1,
    },
}


def make_recipe(**training: Any) -> Recipe:
    return Recipe.model_validate(FIELDS | {"training": FIELDS["training"] | training})


def make_dataset(*, valid: bool = True, name: str = "clubs") -> Dataset:
    """Members 0-31 belong to the club (relation 0) and wear the colour (relation 1) of their group.

    Text, which every third entity lacks, gives the group away; numbers, which only members have, mean
    nothing. The last entity stands in test alone. Train and test hold one fact twice, and share another.
    """
    random = np.random.default_rng(5)
    group = np.arange(NUM_MEMBERS) % NUM_GROUPS
    facts = [[e, r, NUM_MEMBERS + r * NUM_GROUPS + group[e]] for e in range(NUM_MEMBERS) for r in (0, 1)]
    held_out = random.permutation(np.array(facts, dtype=np.int64))
    unseen = [NUM_ENTITIES - 1, 0, NUM_MEMBERS]
    signal_NF = np.eye(NUM_GROUPS).repeat(10, axis=1)[np.arange(NUM_ENTITIES) % NUM_GROUPS]
    with_text = np.flatnonzero(np.arange(NUM_ENTITIES) % 3)
    text = (signal_NF + random.normal(size=signal_NF.shape) / 4)[with_text].astype(np.float16)
    return Dataset(
        name=name,
        entities=Names("entity", [f"e{i}" for i in range(NUM_ENTITIES)], ["Entity"] * NUM_ENTITIES),
        relations=Names("relation", ["club", "colour"], ["member of", "wears"]),
        descriptions=("",) * NUM_ENTITIES,
        facts={
            "train": np.concatenate([held_out[16:], held_out[16:17]]),
            "valid": held_out[:8] if valid else held_out[:0],
            "test": np.concatenate([held_out[8:16], held_out[8:9], held_out[20:21], [unseen]]),
        },
        modalities=(
            STRUCTURE,
            Modality("text", text, with_text),
            Modality(
                "numeric", random.normal(size=(NUM_MEMBERS, 2)).astype(np.float32), np.arange(NUM_MEMBERS)
            ),
        ),
        provenance={},
    )


def write_dataset(folder: Path, dataset: Dataset | None = None) -> Path:
    path = folder / "dataset"
    (dataset or make_dataset()).write(path)
    return path


def start(folder: Path, recipe: Recipe | None = None, dataset: Dataset | None = None) -> Trainer:
    """A trainer of ``folder / "run"`` at its first step; writes ``folder / "dataset"`` if there is none."""
    dataset = dataset or make_dataset()
    path = folder / "dataset"
    if not path.exists():
        dataset.write(path)
    return start_training(folder / "run", dataset, path, recipe or make_recipe(), CPU)


def after(num_steps: int) -> Callable[[], bool]:
    """A ``stop`` that is true from its ``num_steps``-th question on; the trainer asks once a step."""
    asked = count(1)
    return lambda: next(asked) >= num_steps


def events(run: Path, *kinds: str) -> list[dict[str, Any]]:
    """The lines of a run's event log, those of ``kinds`` alone where given."""
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if not kinds or line["event"] in kinds]


def unreadable(path: Path) -> None:
    """A regular file that not even root may read from its beginning."""
    path.symlink_to("/proc/self/mem")


class Learner:
    """A model and its objective, as the trainer brings them together."""

    def __init__(self, model: LinkPredictor, known: FilterIndex, **fields: Any) -> None:
        self.model = model
        config = parse_objective(model.config.model, fields)
        self.objective: Any = build_objective(model, config, known)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objective, name)

    def loss(self, batch: Batch) -> Loss:
        loss: Loss = self.objective.loss(self.model, batch)
        return loss

    def after_step(self) -> dict[str, float]:
        learned: dict[str, float] = self.objective.after_step(self.model)
        return learned
