"""Encoders: options in, a job out; a job makes a modality, all at once or item by item.

Axes: B parts of a batch, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field

from momok.model.arrays import Float32
from momok.model.networks.modality import Modality
from momok.model.runtime.device import DeviceName
from momok.training.data.dataset import Dataset
from momok.training.data.files import DatasetError
from momok.training.encoders.models.base import ModelDirectory

LeftOut = list[tuple[str, str]]
"""Unreadable items, each with the reason."""


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


class Describer(Protocol):
    """Turns items (texts, pictures, clips) into vectors, which do not depend on the batches."""

    about: About
    batch_size: int
    """Parts described together."""
    centred: bool
    """Whether the mean over all entities is subtracted, as it would drown their differences."""

    def parts(self, item: Any) -> Iterable[Any]:
        """The parts of an item to describe, such as the frames of a video. Raises ``Unreadable``."""

    def describe(self, parts: Sequence[Any]) -> Float32:
        """float32[B, F], a row a part."""


@dataclass(frozen=True)
class JobOptions:
    """Options of one run of a job.

    ``partial``: the directory of unfinished results, which ``resume`` goes on with; None keeps them in
    memory. ``stop`` is called after every batch. ``left_out`` receives the unreadable items.
    """

    partial: Path | None = None
    resume: bool = False
    identity: Mapping[str, Any] = field(default_factory=dict)
    stop: Callable[[], bool] = lambda: False
    left_out: LeftOut = field(default_factory=list)
    show_progress: bool = False


class EncodingJob(Protocol):
    """An encoder with its source read and checked."""

    resumable: ClassVar[bool]
    """Whether it keeps finished pieces in ``JobOptions.partial``."""

    @property
    def about(self) -> About:
        """For the provenance."""

    def digest(self) -> str:
        """sha256 (hex) of the input; a resumed run must find the same."""

    def run(self, name: str, work: JobOptions) -> Modality | None:
        """The modality, or None when ``work.stop()`` became true. Raises ``DatasetError``."""


@dataclass(frozen=True)
class TableJob:
    """A job over all entities at once, done in seconds."""

    resumable: ClassVar[bool] = False

    about: About
    make: Callable[[str], Modality]

    def digest(self) -> str:
        return ""  # It is never resumed.

    def run(self, name: str, work: JobOptions) -> Modality:
        if work.resume:
            raise DatasetError("this encoder starts over and is done in seconds; leave --resume out")
        return self.make(name)


@dataclass(frozen=True)
class Encoder:
    """One ``--encoder``: how its job starts from a source, and the ``Options`` it takes beside ``device``."""

    start: Callable[[Dataset, str, Options], EncodingJob]
    takes: frozenset[str]
