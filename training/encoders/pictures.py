"""Picture files, opened safely, for whatever describes pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from momok.training.encoders.base import Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
MAX_PIXELS = 50_000_000
"""Larger pictures are refused: they may be made to exhaust memory."""


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
