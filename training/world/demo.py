"""The demo: build the world, train on it, export it; and the held-out question that shows it at work."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from momok.model.bundle.vocabulary import Vocabulary
from momok.model.filter_index import FilterIndex
from momok.training.data.dataset import Dataset
from momok.training.export.export import export_run
from momok.training.fit.recipe import Recipe
from momok.training.fit.run import Run
from momok.training.fit.start import start_training
from momok.training.world.world import build_world

SEED = 7
RECIPE = Recipe.model_validate(
    {
        "modalities": {"structure": {"width": 64}},
        "network": {"relation_width": 64, "joint_width": 64},
        "training": {
            "batch_size": 128,
            "learning_rate": 3e-3,
            "max_epochs": 60,
            "patience": 10,
            "precision": "float32",  # On matrices this small, bfloat16 costs more than it brings.
            "seed": SEED,
        },
    }
)


def build_demo(directory: Path, *, stop: Callable[[], bool], show: Callable[[str], None]) -> bool:
    """Put ``dataset``, ``run`` and ``bundle`` into ``directory``; False where ``stop`` ended it before.

    What an earlier build left there is removed first.
    """
    for part in ("bundle", "run", "dataset"):
        shutil.rmtree(directory / part, ignore_errors=True)
    build_world(SEED).write(directory / "dataset")
    dataset = Dataset.open(directory / "dataset")
    holders = (
        f"{modality.name} of {int(modality.present(dataset.num_entities).sum())}"
        for modality in dataset.modalities
    )
    show(
        f"1/3 the world: {dataset.num_entities} countries, cities, regions, languages, currencies and "
        f"organisations; {sum(map(len, dataset.facts.values()))} facts; {', '.join(holders)}"
    )
    show("2/3 training MoMoK on the CPU")
    cpu = torch.device("cpu")
    with _one_thread():
        trainer = start_training(directory / "run", dataset, directory / "dataset", RECIPE, cpu)
        if trainer.train(stop=stop, show_progress=True).finished is None:
            return False
        manifest = export_run(Run.open(directory / "run"), directory / "bundle", dataset=dataset, device=cpu)
    metrics = manifest.metrics["test"]["metrics"]
    show(
        f"3/3 exported {directory / 'bundle'}: on held-out facts MRR {metrics['mrr']:.3f}, "
        f"the truth is first for {metrics['hits@1']:.0%} and among ten for {metrics['hits@10']:.0%}"
    )
    return True


@contextmanager
def _one_thread() -> Iterator[None]:
    """Threads cost more than they bring on matrices this small; afterwards there are as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def question_of(known: FilterIndex, vocabulary: Vocabulary) -> tuple[dict[str, Any], str]:
    """A request that asks for the tail of a test fact drawn by seed, and the key that would be right."""
    facts = known.facts("test")
    head, relation, tail = facts[np.random.default_rng(SEED).integers(len(facts))].tolist()
    query = {"head": vocabulary.entities.labels[head], "relation": vocabulary.relations.keys[relation]}
    body = {"queries": [query], "k": len(vocabulary.entities), "exclude_known": False}
    return body, vocabulary.entities.keys[tail]
