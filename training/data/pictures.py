"""Pictures of a dataset: files below its folder ``pictures``, or addresses that are never opened here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from momok.model.bundle.names import shorten
from momok.training.data.files import DatasetError

_ADDRESSES = ("http://", "https://")


def picture_files(
    pictures: Sequence[str], folder: Path | None, table: str | Path
) -> Iterator[tuple[int, Path]]:
    """Entity and file of each picture that is a file, in id order; ``table``: the file of the names.

    Raises ``DatasetError`` for names that lead nowhere, or out of the folder.
    """
    for entity, name in enumerate(pictures):
        if not name or name.startswith(_ADDRESSES):
            continue
        if folder is None:
            message = f"picture {shorten(name)!r} is a file, and there is no folder of pictures"
            raise DatasetError(message, file=table, line=entity + 2)
        if wrong := _wrong_with(name, folder):
            raise DatasetError(wrong, file=table, line=entity + 2)
        yield entity, folder / name


def copy_pictures(pictures: Sequence[str], folder: Path | None, target: Path) -> None:
    """Copy the files into ``target`` under the same names. Raises ``DatasetError``."""
    for entity, path in picture_files(pictures, folder, "entities.tsv"):
        copy = target / pictures[entity]
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, copy)
        except OSError as error:
            raise DatasetError(f"cannot be copied ({error.strerror})", file=path) from None


def _wrong_with(name: str, folder: Path) -> str | None:
    """The flaw of a picture's name and the remedy; None where it leads to a file."""
    path, picture = folder / name, f"picture {shorten(name)!r}"
    # Absolute names are refused even into the folder: in the next dataset they would still mean this one.
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return f"{picture} is absolute or holds '..'; give a plain path below {folder}"
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return f"{picture} leads out of {folder}; give a file below it"
        if path.is_file():
            return None
    except (OSError, RuntimeError):  # A name too long, a link to itself, a folder that may not be entered.
        return f"{picture} cannot be looked for in {folder}; rename it, or check its link and its permissions"
    return f"no {picture} in {folder}; put it there, or leave the cell empty"
