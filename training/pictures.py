"""Pictures of a dataset: files below its folder ``pictures``, or addresses that nobody here opens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from model.names import shorten
from training.files import DatasetError

_ADDRESSES = ("http://", "https://")


def picture_files(
    pictures: Sequence[str], folder: Path | None, table: str | Path
) -> Iterator[tuple[int, Path]]:
    """Entity and file of each picture that is one, in id order; ``table`` is where the names stand.

    Raises ``DatasetError`` for names that lead nowhere, or out of the folder.
    """
    for entity, name in enumerate(pictures):
        if not name or name.startswith(_ADDRESSES):
            continue
        line = entity + 2
        if folder is None:
            message = f"picture {shorten(name)!r} is a file, and there is no folder of pictures"
            raise DatasetError(message, file=table, line=line)
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            message = f"picture {shorten(name)!r} leads out of {folder}; give a file below it"
            raise DatasetError(message, file=table, line=line)
        if not path.is_file():
            message = f"no picture {shorten(name)!r} in {folder}; put it there, or leave the cell empty"
            raise DatasetError(message, file=table, line=line)
        yield entity, path


def copy_pictures(pictures: Sequence[str], folder: Path | None, target: Path) -> None:
    """Copy the files into ``target`` under the same names. Raises ``DatasetError``."""
    for entity, path in picture_files(pictures, folder, "entities.tsv"):
        copy = target / pictures[entity]
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, copy)
        except OSError as error:
            raise DatasetError(f"cannot be copied ({error.strerror})", file=path) from None
