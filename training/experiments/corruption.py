"""Damage: the same graph with noisy features, missing modalities or fewer facts to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from momok.model.arrays import Int64
from momok.model.networks.modality import Modality
from momok.training.data.dataset import Dataset

Scenario = Literal["noise", "missing", "sparsity"]
"""``noise``: features replaced by noise; ``missing``: entities without a modality; ``sparsity``: fewer train
facts (MoMoK, figure 3)."""


def corrupted(
    dataset: Dataset, scenario: Scenario, rate: float, *, seed: int, modalities: Sequence[str] | None = None
) -> Dataset:
    """The graph with a share ``rate`` in [0, 1) of its features or train facts corrupted, without pictures.

    Only ``modalities`` are touched, all that have features if None. The seed draws the corrupted entities or
    facts. Those of a smaller rate are among those of a larger one, so that rates can be compared. Valid
    and test stay as they are.
    """
    plain = replace(
        dataset,
        name=f"{dataset.name}, {scenario} {rate:g}",
        pictures=(),
        picture_folder=None,
        provenance=dataset.provenance
        | {"damage": {"scenario": scenario, "rate": rate, "seed": seed, "of": dataset.fingerprint}},
    )
    if scenario == "sparsity":
        train = dataset.facts["train"]
        kept = _spared(len(train), rate, np.random.default_rng([seed, 0]))
        return replace(plain, facts=dataset.facts | {"train": train[kept]})
    change = _noisy if scenario == "noise" else _missing
    return replace(
        plain,
        modalities=tuple(
            change(modality, rate, np.random.default_rng([seed, place]))
            if modality.features is not None and (modalities is None or modality.name in modalities)
            else modality
            for place, modality in enumerate(dataset.modalities)
        ),
    )


def _noisy(modality: Modality, rate: float, random: np.random.Generator) -> Modality:
    """The features of some holders drawn anew, column by column, from the normal of all holders.

    They look like the others and say nothing: where features were only disturbed, how much is lost would
    depend on their scale.
    """
    assert modality.features is not None
    features = modality.features.astype(np.float64)
    noise = random.normal(features.mean(axis=0), features.std(axis=0), size=features.shape)
    hit = np.ones(len(features), dtype=bool)
    hit[_spared(len(features), rate, random)] = False
    return replace(modality, features=np.where(hit[:, None], noise, features).astype(modality.features.dtype))


def _missing(modality: Modality, rate: float, random: np.random.Generator) -> Modality:
    assert modality.features is not None and modality.rows is not None
    kept = _spared(len(modality.features), rate, random)
    return replace(modality, features=modality.features[kept], rows=modality.rows[kept])


def _spared(count: int, rate: float, random: np.random.Generator) -> Int64:
    """Which of ``count`` things are left alone, int64, sorted: one at the least."""
    num_hit = min(round(rate * count), count - 1)
    spared: Int64 = np.sort(random.permutation(count)[num_hit:]).astype(np.int64)
    return spared
