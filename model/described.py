"""Described: a bundle without what scores and explains, for whoever names and describes what another does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.decision import Decision
from model.known import KnownAnswers
from model.manifest import Manifest
from model.pictures import Picture
from model.predictor import ModelConfig
from model.vocabulary import Vocabulary


@dataclass(frozen=True)
class Described:
    """``present`` bool[N, M]: who has which modality; ``pictures`` by entity."""

    path: Path
    manifest: Manifest
    config: ModelConfig
    present: npt.NDArray[np.bool_]
    known: KnownAnswers
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
