"""Modality: the features of those entities that have any; ModalitySpec: how they become a model's input.

Axes: N entities, n entities with features, F features, D width of a branch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

LIFT_BELOW = 32
"""Modalities with fewer features are lifted: a handful of numbers gives experts too little to work with."""


@dataclass(frozen=True, eq=False)
class Modality:
    """One modality of a graph of N entities.

    ``features`` float16|float32[n, F] belong to the entities ``rows`` int64[n] (unique); every other entity
    lacks this modality. ``features is None`` means learned per entity, which all of them have.
    """

    name: str
    features: npt.NDArray[np.floating] | None = None
    rows: npt.NDArray[np.int64] | None = None

    def present(self, num_entities: int) -> npt.NDArray[np.bool_]:
        """bool[N]: which entities have it."""
        if self.rows is None:
            return np.ones(num_entities, dtype=bool)
        present = np.zeros(num_entities, dtype=bool)
        present[self.rows] = True
        return present


class ModalitySpec(BaseModel):
    """How raw features of any width become the trainable input table of a branch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(
        256, ge=2, description="Width of learned inputs, and to which wider features are reduced."
    )
    normalise: Literal["auto", "l2", "standard", "none"] = Field(
        "auto",
        description="Rows to unit length, or columns to mean 0 and deviation 1. l2 throws magnitude away, so "
        "auto takes standard for the narrow modalities (numbers) that are lifted, l2 for embeddings.",
    )
    reduce: Literal["pca", "linear", "none"] = Field(
        "pca",
        description="How features wider than `width` shrink: principal components of the entities seen in "
        "train, a linear map learned with the model, or not at all.",
    )
    lift_to: int = Field(
        64, ge=2, description=f"Width that modalities narrower than {LIFT_BELOW} are raised to."
    )

    def fit(
        self,
        modality: Modality,
        *,
        num_entities: int,
        train_entities: npt.NDArray[np.int64],
        generator: torch.Generator,
    ) -> ModalityInput:
        """The input of a branch, every statistic taken from entities of the train split alone.

        A modality without features gets an xavier-normal table; an entity without the modality gets the
        mean row of the entities that have it. Raises ``ValueError`` when no train entity has the modality.
        """
        if modality.features is None or modality.rows is None:
            deviation = math.sqrt(2.0 / (num_entities + self.width))
            table_NF = torch.randn(num_entities, self.width, generator=generator) * deviation
            return ModalityInput(table_NF, self.width, torch.ones(num_entities, dtype=torch.bool))
        seen_n = torch.from_numpy(np.isin(modality.rows, train_entities))
        if not bool(seen_n.any()):
            raise ValueError(f"modality {modality.name!r}: no entity of the train split has it")
        rows_n = torch.from_numpy(modality.rows)
        features_nF = torch.from_numpy(modality.features.astype(np.float32))
        fitted_nF = self._transform(features_nF, seen_n, generator)
        table_NF = fitted_nF[seen_n].mean(dim=0).repeat(num_entities, 1)
        table_NF[rows_n] = fitted_nF
        input_width = table_NF.shape[1]
        width = min(input_width, self.width) if self.reduce == "linear" else input_width
        return ModalityInput(table_NF, width, torch.from_numpy(modality.present(num_entities)))

    def _transform(self, features_nF: Tensor, seen_n: Tensor, generator: torch.Generator) -> Tensor:
        narrow = features_nF.shape[1] < LIFT_BELOW
        normalise = ("standard" if narrow else "l2") if self.normalise == "auto" else self.normalise
        if normalise == "l2":
            features_nF = torch.nn.functional.normalize(features_nF, dim=1)
        elif normalise == "standard":
            features_nF = _standardise(features_nF, seen_n)
        if narrow:
            return _lift(features_nF, self.lift_to, generator)
        if features_nF.shape[1] > self.width and self.reduce == "pca":
            return _principal_components(features_nF, seen_n, self.width)
        return features_nF


@dataclass(frozen=True, eq=False)
class ModalityInput:
    """What a model starts a branch from: ``table`` float32[N, F], branch ``width`` D, ``present`` bool[N]."""

    table: Tensor
    width: int
    present: Tensor


def _standardise(features_nF: Tensor, seen_n: Tensor) -> Tensor:
    features64_nF = features_nF.double()
    mean_F = features64_nF[seen_n].mean(dim=0)
    deviation_F = features64_nF[seen_n].std(dim=0, correction=0)
    # A constant column deviates by its rounding alone, and dividing by that would blow up every other value.
    rounding_F = torch.finfo(torch.float32).eps * features64_nF[seen_n].abs().amax(dim=0)
    return ((features64_nF - mean_F) / torch.where(deviation_F > rounding_F, deviation_F, 1.0)).float()


def _lift(features_nF: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """Random Fourier features (Rahimi and Recht, 2007) beside the numbers themselves, float32[n, width].

    Inner products of the waves approximate a Gaussian kernel, so that *near in value* can be scored, which
    inner products of the bare numbers cannot.
    """
    num_features = features_nF.shape[1]
    num_waves = max(width - num_features, 0)
    frequency_FD = torch.randn(num_features, num_waves, generator=generator)
    phase_D = torch.rand(num_waves, generator=generator) * 2 * math.pi
    waves_nD = torch.cos(features_nF @ frequency_FD + phase_D) * math.sqrt(2 / max(num_waves, 1))
    return torch.cat([features_nF / math.sqrt(num_features), waves_nD], dim=1)


def _principal_components(features_nF: Tensor, seen_n: Tensor, width: int) -> Tensor:
    """The leading components, float32[n, D]; signs are made definite.

    D is ``width``, or fewer where the seen rows span fewer directions: another direction would be constant
    in training and noise for an unseen entity. Equal seen rows give one column of zeros.
    """
    mean_F = features_nF[seen_n].mean(dim=0)
    centred_nF = (features_nF[seen_n] - mean_F).double()
    variance_F, basis_FF = torch.linalg.eigh(centred_nF.T @ centred_nF)
    # float32 features are known to 2^-24 of their length, and so is the mean that was taken from them.
    rounding = (
        variance_F[-1] * len(centred_nF) * 2.0**-40 + features_nF[seen_n].double().square().sum() * 2.0**-46
    )
    rank = int((variance_F > rounding).sum())
    basis_FD = basis_FF[:, -max(min(width, rank), 1) :].flip(1)
    largest_D = basis_FD.abs().argmax(dim=0)
    basis_FD = basis_FD * basis_FD[largest_D, torch.arange(basis_FD.shape[1])].sign() * (rank > 0)
    reduced_nD: Tensor = ((features_nF - mean_F).double() @ basis_FD).float()
    return reduced_nD
