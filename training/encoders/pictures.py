"""Picture files, opened safely, for whatever describes pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from momok.model.arrays import Float32
from momok.training.encoders.base import About, Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
MAX_PIXELS = 50_000_000
"""Larger pictures are refused: they may be made to exhaust memory."""


class PictureDescriber(Protocol):
    """Pictures as vectors: each is prepared alone (and then small), prepared ones are described together."""

    about: About
    batch_size: int
    centred: bool

    def prepare(self, picture: Image) -> Any:
        """What is described; red, green and blue in, transparent parts already white."""

    def describe(self, parts: Sequence[Any]) -> Float32:
        """float32[B, F]."""


class PictureFiles:
    """A describer of picture files (or pictures in memory), one part each."""

    def __init__(self, pictures: PictureDescriber) -> None:
        self.about, self.batch_size, self.centred = pictures.about, pictures.batch_size, pictures.centred
        self._pictures = pictures

    def parts(self, item: Path | Image) -> Iterator[Any]:
        yield self._pictures.prepare(open_picture(item) if isinstance(item, Path) else on_white(item))

    def describe(self, parts: Sequence[Any]) -> Float32:
        return self._pictures.describe(parts)


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
