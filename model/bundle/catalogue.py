"""Catalogue: a bundle without its weights: names, known facts and pictures. Scoring runs elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from momok.model.bundle.manifest import Manifest
from momok.model.bundle.pictures import Picture
from momok.model.bundle.vocabulary import Vocabulary
from momok.model.filter_index import FilterIndex
from momok.model.networks.base import ModelConfig
from momok.model.scores import Decision


@dataclass(frozen=True, eq=False)
class Catalogue:
    """``present`` bool[N, M]: which entity has which modality; ``pictures`` by entity."""

    path: Path
    manifest: Manifest
    config: ModelConfig
    present: npt.NDArray[np.bool_]
    known: FilterIndex
    vocabulary: Vocabulary
    pictures: Mapping[int, Picture]

    @property
    def num_relations(self) -> int:
        return self.config.num_relations

    @property
    def modality_names(self) -> tuple[str, ...]:
        return tuple(shape.name for shape in self.config.modalities)

    @property
    def branch_names(self) -> list[str]:
        return [branch.name for branch in self.manifest.branches]

    @property
    def decision(self) -> Decision:
        return self.manifest.decision
