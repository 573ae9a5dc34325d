"""Videos: one frame in so many is a picture, and a video the mean of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from momok.training.data.dataset import Dataset
from momok.training.encoders.base import Describer, Options, Unreadable
from momok.training.encoders.image import check_size, picture_describer
from momok.training.encoders.jobs import Encoder, ItemJob
from momok.training.encoders.models.libraries import importing, need
from momok.training.encoders.sources import find_files

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".mpg", ".mpeg")
EVERY = 25
"""Films have 24 to 30 frames a second."""


def described_frames(path: Path, every: int, pictures: Describer) -> Iterator[Any]:
    """The parts of the first frame and of each ``every``-th after it. Raises ``Unreadable``."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise Unreadable("there is no picture in it")
            for frame in islice(container.decode(video=0), 0, None, every):
                check_size(frame.width, frame.height)
                yield from pictures.parts(frame.to_image().convert("RGB"))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise Unreadable(str(error)) from None


def _start(dataset: Dataset, source: str, options: Options) -> ItemJob:
    need("PIL", "the video encoder", "video")
    with importing("av", "the video encoder", "video"):
        import av  # noqa: F401
    files = find_files(source, dataset.entities, SUFFIXES)
    pictures, every = picture_describer(options), options.every or EVERY
    settings = {"every": every, **pictures.about.settings}
    about = replace(pictures.about, settings=settings, libraries=("av", *pictures.about.libraries))
    videos = replace(pictures, about=about, parts=lambda path: described_frames(path, every, pictures))
    return ItemJob(videos, files, f"no video can be read; {', '.join(SUFFIXES)} files are needed")


VIDEO = Encoder(_start, frozenset({"model", "every"}))
