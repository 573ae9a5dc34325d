"""Demo: the world built, trained and exported; and a question to it whose answer was held out."""

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
    """Put ``dataset``, ``run`` and ``bundle`` into ``directory``, in place of those of an earlier build.

    ``stop`` is asked during training, and ends the build: the answer is then False.
    """
    for part in ("bundle", "run", "dataset"):
        shutil.rmtree(directory / part, ignore_errors=True)
    build_world(SEED).write(directory / "dataset")
    dataset = Dataset.open(directory / "dataset")
    show(f"1/3 the world: {_summary(dataset)}")
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


def _summary(dataset: Dataset) -> str:
    count = dataset.num_entities
    modalities = (f"{one.name} of {one.present(count).sum()}" for one in dataset.modalities)
    return (
        f"{count} countries, cities, regions, languages, currencies and organisations; "
        f"{sum(map(len, dataset.facts.values()))} facts; {', '.join(modalities)}"
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for the block: on matrices this small, more threads cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def question_of(known: FilterIndex, vocabulary: Vocabulary) -> tuple[dict[str, Any], str]:
    """A request for the tail of a test fact drawn by ``SEED``, and the key of that tail."""
    facts = known.facts("test")
    head, relation, tail = facts[np.random.default_rng(SEED).integers(len(facts))].tolist()
    query = {"head": vocabulary.entities.labels[head], "relation": vocabulary.relations.keys[relation]}
    body = {"queries": [query], "k": len(vocabulary.entities), "exclude_known": False}
    return body, vocabulary.entities.keys[tail]
