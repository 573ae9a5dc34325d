"""Pictures by their colours and layout: the colour of each cell, the share of each colour, and the edges.

A light descriptor without a model: good for flags, logos and maps, no match for a vision network on
photographs. Axes: R rows and C columns of pixels, P colours of the palette, F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from momok.model.arrays import Float32, Float64
from momok.model.networks.modality import Modality
from momok.model.runtime.device import choose_device
from momok.training.data.dataset import Dataset
from momok.training.data.files import DatasetError
from momok.training.encoders.base import About, Encoder, LeftOut, Options
from momok.training.encoders.batched import ItemJob, describe_items, joined
from momok.training.encoders.models.base import ModelDirectory
from momok.training.encoders.models.image import open_image_model
from momok.training.encoders.models.libraries import need
from momok.training.encoders.pictures import SUFFIXES, PictureDescriber, PictureFiles, on_white
from momok.training.encoders.sources import find_files

if TYPE_CHECKING:
    from PIL.Image import Image

SIZE = (48, 32)
"""Columns and rows of pixels to which a picture is brought, whatever its shape."""

CELLS = (6, 4)
"""Columns and rows of the grid in which colours and edges are averaged."""

_LEVELS = np.array([0.0, 0.5, 1.0])
_PALETTE_C3 = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS), axis=-1).reshape(-1, 3)
_SHARPNESS = 20.0
_NOTHING = "no picture can be read; PNG, JPEG, WebP and GIF files are needed"


class Descriptor:
    """The built-in describer of pictures."""

    batch_size = 64
    centred = True

    def __init__(self) -> None:
        self.about = About({}, ("pillow", "numpy"))

    def prepare(self, picture: Image) -> Float64:
        return describe(picture)

    def describe(self, parts: Sequence[Float64]) -> Float32:
        return np.stack(parts).astype(np.float32)


def encode_pictures(
    name: str,
    pictures: Iterable[tuple[int, Sequence[Path | Image]]],
    *,
    left_out: LeftOut | None = None,
) -> Modality:
    """A modality of 148 features, float16: the mean over each entity's pictures, less the mean of all.

    ``pictures``: pairs of an entity id and its pictures. Files that cannot be read are left out and added to
    ``left_out`` with the reason; an entity whose pictures all fail lacks the modality. Raises
    ``DatasetError`` where no picture can be read.
    """
    need("PIL", "the image encoder")
    piece = describe_items(PictureFiles(Descriptor()), dict(pictures))
    if left_out is not None:
        left_out.extend(piece.left_out)
    if not len(piece.rows):
        raise DatasetError(_NOTHING)
    return joined(name, [piece], centred=True)


def picture_describer(options: Options) -> PictureDescriber:
    """The built-in one, or the model that ``options`` name."""
    if options.model is None:
        return Descriptor()
    return open_image_model(ModelDirectory(options.model), choose_device(options.device))


def describe(picture: Image) -> Float64:
    """Colour of each cell, share of each palette colour, edges of each cell and shape: float64[148].

    Transparent parts count as white.
    """
    pixel_RC3 = _pixels(picture)
    share_RCP = _nearest_colours(pixel_RC3)
    across_RC = np.abs(np.diff(pixel_RC3, axis=1, append=pixel_RC3[:, -1:])).mean(axis=2)
    down_RC = np.abs(np.diff(pixel_RC3, axis=0, append=pixel_RC3[-1:])).mean(axis=2)
    parts = [
        _cells(pixel_RC3).ravel(),
        np.sqrt(share_RCP.mean(axis=(0, 1))),
        4 * _cells(np.stack([across_RC, down_RC], axis=2)).ravel(),
        [np.log(picture.width / picture.height)],
    ]
    return np.concatenate(parts)


def _pixels(picture: Image) -> Float64:
    """Red, green and blue in [0, 1], float64[rows, columns, 3]."""
    from PIL import Image

    small = on_white(picture).resize(SIZE, Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64) / 255


def _nearest_colours(pixel_RC3: Float64) -> Float64:
    """How much of each palette colour a pixel is, float64[rows, columns, P], sums to 1."""
    distance_RCP = ((pixel_RC3[:, :, None] - _PALETTE_C3) ** 2).sum(axis=3)
    near_RCP = np.exp(-_SHARPNESS * distance_RCP)
    share: Float64 = near_RCP / near_RCP.sum(axis=2, keepdims=True)
    return share


def _cells(value_RCF: Float64) -> Float64:
    """Means over the grid, float64[CELLS rows, CELLS columns, F]."""
    (columns, rows), features = CELLS, value_RCF.shape[2]
    tall, wide = value_RCF.shape[0] // rows, value_RCF.shape[1] // columns
    means: Float64 = value_RCF.reshape(rows, tall, columns, wide, features).mean(axis=(1, 3))
    return means


def _start(dataset: Dataset, source: str, options: Options) -> ItemJob:
    need("PIL", "the image encoder")
    files = find_files(source, dataset.entities, SUFFIXES)
    return ItemJob(PictureFiles(picture_describer(options)), files, _NOTHING)


IMAGE = Encoder(_start, frozenset({"model"}))
