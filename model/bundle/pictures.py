"""Pictures of entities: what may be one, and where a bundle keeps it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from momok.model.errors import UserError

FOLDER = "pictures"
MAX_BYTES = 5_000_000
"""Larger ones would make a bundle heavy and an answer slow: make them smaller first."""

MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
"""By suffix. Browsers show these; a bundle's suffixes are chosen by content, never by what a file claims."""

_NAME = re.compile(rf"{FOLDER}/(0|[1-9][0-9]{{0,17}})\.({'|'.join(MEDIA_TYPES)})")


class PictureError(UserError):
    """A file that cannot be shipped as a picture; the message names it and the remedy."""


@dataclass(frozen=True)
class Picture:
    """A picture file in a bundle."""

    path: Path
    media_type: str
    sha256: str


def read_picture(path: Path) -> tuple[bytes, str]:
    """The bytes of a picture and the suffix that its content deserves. Raises ``PictureError``."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror}); may this user read it?") from None
    if len(data) > MAX_BYTES:
        raise PictureError(f"{path}: larger than {MAX_BYTES // 10**6} MB; make the picture smaller")
    suffix = _suffix_of(data)
    if suffix is None:
        raise PictureError(f"{path}: not a PNG, JPEG, GIF or WebP picture; convert or remove it")
    return data, suffix


def name_of(entity: int, suffix: str) -> str:
    """Where a bundle keeps the picture of an entity, from the bundle's directory."""
    return f"{FOLDER}/{entity}.{suffix}"


def entity_of(name: str) -> int | None:
    """Whose picture a file of a bundle is; None for a file that is no picture."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def media_type_of(name: str) -> str:
    """Of a picture file in a bundle, by its suffix."""
    return MEDIA_TYPES[name.rpartition(".")[2]]


def _suffix_of(data: bytes) -> str | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None
