"""What appears on disk whole or not at all: ``new_directory``, ``replace_file``."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from momok.model.errors import UserError


@contextmanager
def new_directory(target: Path, error_class: type[UserError]) -> Iterator[Path]:
    """A temporary directory beside ``target`` that becomes ``target`` when the block ends well.

    Files in it are synced to disk before the rename; on any failure it is removed and ``target`` never
    appears. Raises ``error_class`` where the target exists or cannot be written.
    """
    partial = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
    try:
        with explained(target, error_class):
            if target.exists() or target.is_symlink():
                raise error_class(f"{target}: exists already; choose another place or remove it first")
            partial.mkdir(parents=True)
            yield partial
            for path in [*partial.rglob("*"), partial]:
                sync(path)
            partial.rename(target)
            sync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def replace_file(target: Path, error_class: type[UserError]) -> Iterator[Path]:
    """The file ``<target>.partial``, to be written in the block, becomes ``target`` when it ends well.

    It is synced to disk before the rename, and the directory after it; where it cannot be written it is
    removed, and ``target`` stays as it was. Raises ``error_class``.
    """
    partial = target.with_name(target.name + ".partial")
    with explained(target, error_class):
        try:
            yield partial
            sync(partial)
            partial.replace(target)
        except BaseException:
            with suppress(OSError):  # What matters is why it failed.
                partial.unlink()
            raise
        sync(target.parent)


@contextmanager
def explained(target: Path, error_class: type[UserError]) -> Iterator[None]:
    """Raises ``error_class`` for what the system refuses to the block, which writes ``target``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise error_class(f"{target}: cannot be written ({reason}); is there room, may you write?") from error


def sync(path: Path) -> None:
    """Have the file or directory on disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
