"""new_directory: a directory that appears whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.errors import UserError


@contextmanager
def new_directory(target: Path, error_class: type[UserError]) -> Iterator[Path]:
    """A temporary directory beside ``target`` that becomes ``target`` when the block ends well.

    Files in it are synced to disk before the rename; on any failure it is removed and ``target`` never
    appears. Raises ``error_class`` where the target exists or cannot be written.
    """
    partial = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
    try:
        if target.exists() or target.is_symlink():
            raise error_class(f"{target}: exists already; choose another place or remove it first")
        partial.mkdir(parents=True)
        yield partial
        for path in [*partial.rglob("*"), partial]:
            sync(path)
        partial.rename(target)
        sync(target.parent)
    except OSError as error:
        reason = error.strerror or error
        raise error_class(f"{target}: cannot be written ({reason}); is there room, may you write?") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sync(path: Path) -> None:
    """Have the file or directory on disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
