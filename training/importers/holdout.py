"""A validation split of our own, for graphs whose released one stands in their train split."""

from __future__ import annotations

import dataclasses

import numpy as np

from momok.model.arrays import Int64
from momok.training.data.dataset import Dataset
from momok.training.data.files import DatasetError


def hold_out(dataset: Dataset, fraction: float, seed: int) -> Dataset:
    """Drop the valid split and draw a new one from train: ``round(fraction * n)`` of each relation's facts.

    ``n`` counts distinct facts; all copies of a drawn fact leave train. The draw depends on the seed and on
    the set of facts, not on the order of lines. Test stays as it is. Raises ``DatasetError``.
    """
    if not 0 < fraction < 1:
        raise DatasetError(f"holdout {fraction} is not a share; give one between 0 and 1, like 0.1")
    if seed < 0:
        raise DatasetError(f"seed {seed} is negative; give --seed a whole number from 0 on")
    train = dataset.facts["train"]
    distinct, copy_of = np.unique(train, axis=0, return_inverse=True)
    drawn = _draw(distinct[:, 1], fraction, np.random.default_rng(seed))
    if not drawn.any() or drawn.all():
        part = "all facts" if drawn.any() else "no fact"
        raise DatasetError(f"holdout {fraction} takes {part} of train; give another share")
    facts = {
        "train": train[~drawn[copy_of.reshape(-1)]],
        "valid": distinct[drawn],
        "test": dataset.facts["test"],
    }
    note = {
        "fraction": fraction,
        "seed": seed,
        "num_facts": int(drawn.sum()),
        "num_released_valid_dropped": len(dataset.facts["valid"]),
    }
    return dataclasses.replace(dataset, facts=facts, provenance={**dataset.provenance, "holdout": note})


def _draw(relation_n: Int64, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """bool[n]: which of the distinct facts, by their relations, are held out."""
    drawn = np.zeros(len(relation_n), dtype=bool)
    for relation in np.unique(relation_n):
        members = np.flatnonzero(relation_n == relation)
        size = round(fraction * len(members))
        drawn[generator.choice(members, size, replace=False)] = True
    return drawn
