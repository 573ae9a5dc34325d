"""Videos: one frame in so many is a picture, and a video the mean of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from momok.model.arrays import Float32
from momok.training.data.dataset import Dataset
from momok.training.encoders.base import About, Encoder, Options, Unreadable
from momok.training.encoders.batched import ItemJob
from momok.training.encoders.image import picture_describer
from momok.training.encoders.models.libraries import importing, need
from momok.training.encoders.pictures import PictureDescriber, check_size
from momok.training.encoders.sources import find_files

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".mpg", ".mpeg")
EVERY = 25
"""Films have 24 to 30 frames a second."""


class VideoFiles:
    """A describer of video files; ``every``: the first frame, and each so many frames after it."""

    def __init__(self, pictures: PictureDescriber, every: int) -> None:
        with importing("av", "the video encoder", "video"):
            import av
        self._av, self._pictures, self._every = av, pictures, every
        self.batch_size, self.centred = pictures.batch_size, pictures.centred
        about = pictures.about
        settings = {"every": every, **about.settings}
        self.about = About(settings, ("av", *about.libraries), about.model)

    def parts(self, item: Path) -> Iterator[Any]:
        try:
            with self._av.open(str(item)) as container:
                if not container.streams.video:
                    raise Unreadable("there is no picture in it")
                for number, frame in enumerate(container.decode(video=0)):
                    if number % self._every == 0:
                        check_size(frame.width, frame.height)
                        yield self._pictures.prepare(frame.to_image().convert("RGB"))
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise Unreadable(str(error)) from None

    def describe(self, parts: Sequence[Any]) -> Float32:
        return self._pictures.describe(parts)


def _start(dataset: Dataset, source: str, options: Options) -> ItemJob:
    need("PIL", "the video encoder", "video")
    files = find_files(source, dataset.entities, SUFFIXES)
    videos = VideoFiles(picture_describer(options), options.every or EVERY)
    return ItemJob(videos, files, f"no video can be read; {', '.join(SUFFIXES)} files are needed")


VIDEO = Encoder(_start, frozenset({"model", "every"}))
