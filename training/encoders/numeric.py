"""Numbers of an entity, brought to comparable size; a column of its own marks the missing ones.

Axes: N entities, n entities with any number, A attributes.
"""

from __future__ import annotations

import numpy as np

from momok.model.arrays import Float64
from momok.model.networks.modality import Modality
from momok.training.data.dataset import Dataset
from momok.training.data.files import DatasetError
from momok.training.encoders.base import About, Options
from momok.training.encoders.jobs import Encoder, TableJob
from momok.training.encoders.sources import read_numbers

HEAVY_TAIL = 2.0
"""Skewness above which a column is taken by its logarithm: an exponential distribution has 2."""

CLIP = 10.0
"""Interquartile ranges from the median at which a value stops counting as larger."""


def encode_numbers(name: str, value_NA: Float64) -> Modality:
    """A modality of one feature an attribute, and one more for each that some entities lack, float32.

    ``value_NA``: attributes of each entity in id order, NaN where missing; an entity with none lacks
    the modality. Heavy-tailed columns (population, area) become signed logarithms; then each is measured
    from its median in interquartile ranges. A missing value is the median, and 1 in the attribute's second
    column. Raises ``DatasetError`` for infinite values and where no entity has a number.
    """
    if np.isinf(value_NA).any():
        row, column = map(int, np.argwhere(np.isinf(value_NA))[0])
        raise DatasetError(f"attribute {column} of entity {row} is infinite; leave it out")
    missing_NA = np.isnan(value_NA)
    rows = np.flatnonzero(~missing_NA.all(axis=1))
    if not len(rows):
        raise DatasetError("no entity has a number")
    value_nA, missing_nA = value_NA[rows], missing_NA[rows]
    used = ~missing_nA.all(axis=0)
    columns = [_scaled(column) for column in value_nA.T[used]]
    columns += [lacking.astype(np.float64) for lacking in missing_nA.T[used] if lacking.any()]
    return Modality(name, np.stack(columns, axis=1).astype(np.float32), rows)


def _scaled(column_n: Float64) -> Float64:
    if abs(_skewness(_near_one(column_n))) > HEAVY_TAIL:
        column_n = np.sign(column_n) * np.log1p(np.abs(column_n))
    column_n = _near_one(column_n)
    present = column_n[~np.isnan(column_n)]
    low, median, high = np.percentile(present, [25, 50, 75])
    # Where the middle half is one value, the deviation stands in; where all are, nothing needs a scale.
    scale = (high - low) or present.std() or 1.0
    scaled: Float64 = np.nan_to_num(np.clip((column_n - median) / scale, -CLIP, CLIP), nan=0.0)
    return scaled


def _near_one(column_n: Float64) -> Float64:
    """The column over a power of two, so that nothing computed from it overflows; no digit changes."""
    _, exponent = np.frexp(np.nanmax(np.abs(column_n)))
    return np.ldexp(column_n, -int(exponent))


def _skewness(column_n: Float64) -> float:
    values = column_n[~np.isnan(column_n)]
    deviation = values.std()
    return float((((values - values.mean()) / deviation) ** 3).mean()) if deviation > 0 else 0.0


def _start(dataset: Dataset, source: str, _: Options) -> TableJob:
    attributes, value_NA = read_numbers(source, dataset.entities)
    about = About({"attributes": attributes}, ("numpy",))
    return TableJob(about, lambda name: encode_numbers(name, value_NA))


NUMERIC = Encoder(_start, frozenset())
