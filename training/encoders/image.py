"""Pictures by their colours and layout: the colour of each cell, the share of each colour, and the edges.

A light descriptor without a model: good for flags, logos and maps, no match for a vision network on
photographs. Axes: R rows and C columns of pixels, P colours of the palette, F features.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from momok.model.arrays import Float64
from momok.model.runtime.device import choose_device
from momok.training.data.dataset import Dataset
from momok.training.encoders.base import About, Describer, Options, Unreadable
from momok.training.encoders.jobs import Encoder, ItemJob
from momok.training.encoders.models.base import ModelDirectory
from momok.training.encoders.models.image import open_image_model
from momok.training.encoders.models.libraries import need
from momok.training.encoders.sources import find_files

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
MAX_PIXELS = 50_000_000
"""Larger pictures are refused: they may be made to exhaust memory."""

SIZE = (48, 32)
"""Columns and rows of pixels to which a picture is brought, whatever its shape."""

CELLS = (6, 4)
"""Columns and rows of the grid in which colours and edges are averaged."""

_LEVELS = np.array([0.0, 0.5, 1.0])
_PALETTE_C3 = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS), axis=-1).reshape(-1, 3)
_SHARPNESS = 20.0


def picture_describer(options: Options) -> Describer:
    """Of pictures in RGB: the built-in one, or the model that ``options`` name."""
    if options.model is None:
        return Describer(About({}, ("pillow", "numpy")), lambda picture: [describe(picture)], centred=True)
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


def open_picture(path: Path) -> Image:
    """Red, green and blue, upright, transparent parts white. Raises ``Unreadable``."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            check_size(opened.width, opened.height)
            return on_white(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError:
        raise Unreadable("not a picture") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise Unreadable(str(error)) from None


def check_size(width: int, height: int) -> None:
    """Raises ``Unreadable`` above ``MAX_PIXELS``."""
    if width * height > MAX_PIXELS:
        raise Unreadable(f"{width} x {height} pixels; {MAX_PIXELS} are allowed")


def on_white(picture: Image) -> Image:
    """The picture in RGB, transparent parts white."""
    from PIL import Image

    over = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")


def _start(dataset: Dataset, source: str, options: Options) -> ItemJob:
    need("PIL", "the image encoder")
    files = find_files(source, dataset.entities, SUFFIXES)
    pictures = picture_describer(options)
    describer = replace(pictures, parts=lambda path: pictures.parts(open_picture(path)))
    return ItemJob(describer, files, "no picture can be read; PNG, JPEG, WebP and GIF files are needed")


IMAGE = Encoder(_start, frozenset({"model"}))
