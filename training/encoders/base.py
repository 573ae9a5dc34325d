"""Describers: functions that turn items into vectors, and the options that choose one.

Axes: B parts of a batch, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from momok.model.arrays import Float32
from momok.model.runtime.device import DeviceName
from momok.training.encoders.models.base import ModelDirectory


class Unreadable(Exception):
    """An item that cannot be described; it is left out and its message reported."""


class Options(BaseModel):
    """A user's choices; None where the encoder decides. ``Encoder.takes`` names those of an encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Path | None = Field(None, description="A local model directory in place of the built-in encoder.")
    width: int | None = Field(None, ge=1, description="Features of TF-IDF + SVD.")
    seed: int | None = Field(None, ge=0, description="Seed of that SVD.")
    every: int | None = Field(None, ge=1, description="One frame in so many of a video is looked at.")
    device: DeviceName = Field("auto", description="Where a model computes; the built-in encoders ignore it.")


@dataclass(frozen=True)
class About:
    """An encoder's entry in the provenance: its settings, the libraries it used, its model."""

    settings: Mapping[str, Any]
    libraries: Sequence[str]
    model: ModelDirectory | None = None


def as_they_are(parts: Sequence[Any]) -> Float32:
    """Parts that are vectors already, float32[B, F]."""
    return np.stack(parts).astype(np.float32)


@dataclass(frozen=True)
class Describer:
    """Turns items (texts, pictures, files) into vectors, which do not depend on the batches.

    ``parts`` of an item are what is described, such as the frames of a video; raises ``Unreadable``.
    ``describe``: ``batch_size`` parts -> float32[B, F], a row a part. ``centred``: whether the mean over all
    entities is subtracted, as it would drown their differences.
    """

    about: About
    parts: Callable[[Any], Iterable[Any]]
    describe: Callable[[Sequence[Any]], Float32] = as_they_are
    batch_size: int = 64
    centred: bool = False
