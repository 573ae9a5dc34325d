"""Pictures by their colours and layout: what colour is where, how much of each, and where edges run.

A light descriptor without a model: good for flags, logos and maps, no match for a vision network on
photographs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from model.modality import Modality
from training.encoders.libraries import need
from training.files import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

Float64 = npt.NDArray[np.float64]
Unreadable = list[tuple[Path, str]]

SIZE = (48, 32)
"""Columns and rows of pixels to which a picture is brought, whatever its shape."""

CELLS = (6, 4)
"""Columns and rows of the grid in which colours and edges are averaged."""

MAX_PIXELS = 50_000_000
"""Larger pictures are refused: they may be made to exhaust memory."""

_LEVELS = np.array([0.0, 0.5, 1.0])
_PALETTE_C3 = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS), axis=-1).reshape(-1, 3)
_SHARPNESS = 20.0


def encode_pictures(
    name: str,
    pictures: Iterable[tuple[int, Sequence[Path | Image]]],
    *,
    unreadable: Unreadable | None = None,
) -> Modality:
    """A modality of 148 features, float16: the mean over each entity's pictures, less the mean of all.

    ``pictures``: pairs of an entity id and its pictures. Files that cannot be read are left out and added to
    ``unreadable`` with the reason; an entity whose pictures all fail lacks the modality. Raises
    ``DatasetError`` where no picture can be read.
    """
    need("PIL", "the image encoder")
    rows, features = [], []
    failed = unreadable if unreadable is not None else []
    for entity, given in pictures:
        described = [found for one in given if (found := _described(one, failed)) is not None]
        if described:
            rows.append(entity)
            features.append(np.mean(described, axis=0))
    if not rows:
        raise DatasetError("no picture can be read; PNG, JPEG, WebP and GIF files are needed")
    features_nF = np.stack(features)
    if len(rows) > 1:  # What all pictures share would drown what sets them apart.
        features_nF = features_nF - features_nF.mean(axis=0)
    return Modality(name, features_nF.astype(np.float16), np.array(rows, dtype=np.int64))


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


def _described(picture: Path | Image, unreadable: Unreadable) -> Float64 | None:
    from PIL import Image, UnidentifiedImageError

    if not isinstance(picture, Path):
        return describe(picture)
    try:
        with Image.open(picture) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(f"{opened.width} x {opened.height} pixels; {MAX_PIXELS} are allowed")
            return describe(opened)
    except UnidentifiedImageError:
        unreadable.append((picture, "not a picture"))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        unreadable.append((picture, str(error)))
    return None


def _pixels(picture: Image) -> Float64:
    """Red, green and blue in [0, 1], float64[rows, columns, 3]."""
    from PIL import Image

    over = picture.convert("RGBA")
    white = Image.new("RGBA", over.size, "white")
    small = Image.alpha_composite(white, over).convert("RGB").resize(SIZE, Image.Resampling.BOX)
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
