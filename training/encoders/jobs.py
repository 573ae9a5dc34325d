"""Jobs: a source, read and checked, becomes a modality: all at once, or item by item in batches.

Axes: B parts of a batch, n entities, F features.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from momok.model.arrays import Float32, Float64
from momok.model.networks.modality import Modality
from momok.training.data.dataset import Dataset
from momok.training.data.files import DatasetError
from momok.training.encoders.base import About, Describer, Options, Unreadable
from momok.training.encoders.pieces import LeftOut, Piece, Pieces
from momok.training.encoders.sources import digest_of_items

PIECE = 64
"""Entities between two writes to disk; more where there would be more than ``MAX_PIECES``."""

MAX_PIECES = 2000
T = TypeVar("T")
_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


class Stopped(Exception):
    """The user stopped the run; complete pieces are kept."""


@dataclass(frozen=True)
class JobOptions:
    """Options of one run of a job.

    ``partial``: the directory of unfinished results, which ``resume`` goes on with; None keeps them in
    memory. ``identity`` describes the work; a resumed run must find the same. ``stop`` is called after every
    batch. ``left_out`` receives the unreadable items.
    """

    partial: Path | None = None
    resume: bool = False
    identity: Mapping[str, Any] = field(default_factory=dict)
    stop: Callable[[], bool] = lambda: False
    left_out: LeftOut = field(default_factory=list)
    show_progress: bool = False


@dataclass(frozen=True)
class TableJob:
    """A job over all entities at once, done in seconds. ``make``: the name of the modality -> it."""

    about: About
    make: Callable[[str], Modality]

    def run(self, name: str, work: JobOptions) -> Modality:
        """The modality. Raises ``DatasetError``."""
        if work.resume:
            raise DatasetError("this encoder starts over and is done in seconds; leave --resume out")
        return self.make(name)


@dataclass(frozen=True)
class ItemJob:
    """``items`` of each entity, by id. ``nothing``: the error message where none of them can be read."""

    describer: Describer
    items: Mapping[int, Sequence[Any]]
    nothing: str

    @property
    def about(self) -> About:
        """For the provenance."""
        return self.describer.about

    def run(self, name: str, work: JobOptions) -> Modality | None:
        """The mean over each entity's items, float16; None where it was stopped. Raises ``DatasetError``.

        Pieces are the same whenever it is stopped, so that a resumed run gives the same bytes.
        """
        kept = None
        if work.partial is not None:
            identity = {**work.identity, "items": digest_of_items(self.items)}
            kept = Pieces(work.partial, identity, resume=work.resume)
        size = max(PIECE, math.ceil(len(self.items) / MAX_PIECES))
        made: list[Piece] = []
        try:
            with tqdm(total=len(self.items), desc=name, unit="entity", disable=not work.show_progress) as bar:
                for number, entities in enumerate(_batched(self.items, size)):
                    made.append(self._piece(number, entities, kept, work.stop))
                    bar.update(len(entities))
        except Stopped:
            return None
        work.left_out.extend(one for piece in made for one in piece.left_out)
        if not any(len(piece.rows) for piece in made):
            if kept is not None:
                kept.remove()
            raise DatasetError(self.nothing)
        return _joined(name, made, centred=self.describer.centred)

    def _piece(
        self, number: int, entities: Sequence[int], kept: Pieces | None, stop: Callable[[], bool]
    ) -> Piece:
        done = kept.read(number) if kept is not None else None
        if done is None:
            done = _described(self.describer, {entity: self.items[entity] for entity in entities}, stop)
            if kept is not None:
                kept.write(number, done)
        return done


@dataclass(frozen=True)
class Encoder:
    """One ``--encoder``: how its job starts from a source, and the ``Options`` it takes beside ``device``."""

    start: Callable[[Dataset, str, Options], ItemJob | TableJob]
    takes: frozenset[str]


def _described(describer: Describer, items: Mapping[int, Sequence[Any]], stop: Callable[[], bool]) -> Piece:
    """A row an entity, float32: the mean over its items of the mean over their parts. Raises ``Stopped``."""
    owned = [(entity, item) for entity, given in items.items() for item in given]
    left_out: LeftOut = []
    of_entity: dict[int, list[Float64]] = {}
    for place, mean_F in _means(describer, [item for _, item in owned], left_out, stop).items():
        entity, item = owned[place]
        if np.isfinite(mean_F).all():
            of_entity.setdefault(entity, []).append(mean_F)
        else:
            left_out.append((str(item), "its features are not finite numbers"))
    rows = np.array(list(of_entity), dtype=np.int64)
    means = [np.mean(vectors, axis=0) for vectors in of_entity.values()]
    features_nF: Float32 = np.array(means, dtype=np.float32).reshape(len(rows), -1 if means else 0)
    return Piece(rows, features_nF, left_out)


def _joined(name: str, pieces: Sequence[Piece], *, centred: bool) -> Modality:
    """The pieces as one modality, float16 unless a feature is too large for it."""
    filled = [piece for piece in pieces if len(piece.rows)]
    features_nF = np.concatenate([piece.features for piece in filled])
    rows = np.concatenate([piece.rows for piece in filled])
    if centred and len(rows) > 1:
        features_nF = features_nF - features_nF.mean(axis=0, dtype=np.float64).astype(np.float32)
    small = np.abs(features_nF).max() <= _LARGEST_FLOAT16
    return Modality(name, features_nF.astype(np.float16 if small else np.float32), rows)


def _means(
    describer: Describer, items: Sequence[Any], left_out: LeftOut, stop: Callable[[], bool]
) -> dict[int, Float64]:
    """Place of each readable item -> the mean over its parts, float64[F], places ascending."""
    failed: set[int] = set()
    total: dict[int, Float64] = {}
    count = Counter[int]()
    for batch in _batched(_parts(describer, items, failed, left_out), describer.batch_size):
        if stop():
            raise Stopped
        vectors_BF = describer.describe([part for _, part in batch]).astype(np.float64)
        for (place, _), vector_F in zip(batch, vectors_BF, strict=True):
            total[place] = total.get(place, 0.0) + vector_F
            count[place] += 1
    return {place: sum_F / count[place] for place, sum_F in total.items() if place not in failed}


def _parts(
    describer: Describer, items: Sequence[Any], failed: set[int], left_out: LeftOut
) -> Iterator[tuple[int, Any]]:
    """The place of an item and one part of it, one after the other; unreadable items are noted."""
    for place, item in enumerate(items):
        nothing = True
        try:
            for part in describer.parts(item):
                yield place, part
                nothing = False
            if nothing:
                raise Unreadable("there is nothing in it")
        except Unreadable as error:  # Parts that came before it may be in a batch already.
            failed.add(place)
            left_out.append((str(item), str(error)))


def _batched(things: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(things)
    while batch := list(islice(left, size)):
        yield batch
