"""Files of a dataset: the error that names file and line, exact reading, records of unfinished work."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from momok.model.arrays import Int64
from momok.model.bundle.names import shorten
from momok.model.errors import UserError

_THREE_INTEGERS = re.compile(rb"[ \t]*(?:\d{1,18}[ \t]+){2}\d{1,18}[ \t]*\r?")
_LINES_OF_INTEGERS = re.compile(rb"(?:" + _THREE_INTEGERS.pattern + rb"\n)*+")


class DatasetError(UserError):
    """A flaw of a dataset, its place and the remedy: ``file:line: flaw; remedy``."""

    def __init__(self, message: str, *, file: str | Path | None = None, line: int | None = None) -> None:
        self.message, self.file, self.line = message, file, line
        place = "" if file is None else f"{file}: " if line is None else f"{file}:{line}: "
        super().__init__(place + message)

    def within(self, directory: Path) -> DatasetError:
        """The same error, its file looked up in ``directory``."""
        return DatasetError(self.message, file=directory / (self.file or ""), line=self.line)


def read_bytes(path: Path, remedy: str = "is this the right directory and layout?") -> bytes:
    """The whole file; ``DatasetError`` with the ``remedy`` where there is none, or it cannot be read."""
    with reading(path, remedy):
        return path.read_bytes()


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """A failure to read in the block becomes a ``DatasetError``, with ``remedy`` where no file is."""
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(f"no such file; {remedy}", file=path) from None
    except OSError as error:
        reason = error.strerror or error
        raise DatasetError(f"cannot be read ({reason}); a readable file is needed", file=path) from None


def read_text(path: Path) -> str:
    """The whole UTF-8 file without its byte order mark, line ends as they are. Raises ``DatasetError``."""
    data = read_bytes(path)
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 (byte 0x{data[error.start]:02x}); convert the file to UTF-8"
        raise DatasetError(message, file=path, line=line) from None


def read_lines(path: Path) -> list[str]:
    r"""Lines of a UTF-8 file, split at ``\n`` alone: names may hold U+0085, U+2028 and other line ends.

    A byte order mark, the ``\r`` of ``\r\n``, and blank lines at the end are dropped; line ``i`` is in
    ``[i - 1]``.
    """
    lines = [line.removesuffix("\r") for line in read_text(path).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def read_integers(path: Path, *, with_count: bool = False) -> Int64:
    """Rows of three non-negative integers apart by blanks, int64[n, 3]; row ``i`` stands on line ``i + 1``.

    ``with_count``: the first line says how many rows follow, so row ``i`` stands on line ``i + 2``.
    """
    data = read_bytes(path).rstrip()
    count = None
    if with_count:
        first, _, data = data.partition(b"\n")
        count = parse_count(first.decode("utf-8", "replace"), path)
    data = data + b"\n" if data else b""
    if not _LINES_OF_INTEGERS.fullmatch(data):
        _refuse_integers(data, path, first_line=2 if with_count else 1)
    rows = np.fromstring(data, dtype=np.int64, sep=" ").reshape(-1, 3)
    if count is not None and count != len(rows):
        raise count_error(path, count, len(rows))
    return rows


def parse_count(text: str, path: Path) -> int:
    """The number on the first line of an OpenKE file."""
    if not re.fullmatch(r"\ufeff?[0-9]{1,18}\s*", text):
        message = f"the first line must count the lines after it, not {shorten(text)!r}; see --layout"
        raise DatasetError(message, file=path, line=1)
    return int(text.removeprefix("\ufeff"))


def count_error(path: Path, stated: int, found: int) -> DatasetError:
    """The error of a file whose first line states another number of lines."""
    message = f"says {stated} lines follow, but there are {found}; is the file cut short? correct either"
    return DatasetError(message, file=path, line=1)


def check_begun(
    record: Path, begun: Mapping[str, Any], now: Mapping[str, Any], remedy: str, error_class: type[UserError]
) -> None:
    """Raises ``error_class`` where unfinished work, which ``record`` describes, was ``begun`` otherwise.

    ``now``: the description of the work to do; ``remedy``: the alternative to the same work again.
    """
    for name in [*now, *begun]:
        if begun.get(name) != now.get(name):
            one, other = (shorten(json.dumps(facts.get(name), ensure_ascii=False)) for facts in (begun, now))
            raise error_class(
                f"{record}: begun with {name} {one}, now it is {other}; resume as it was begun, {remedy}"
            )


def _refuse_integers(data: bytes, path: Path, *, first_line: int) -> NoReturn:
    for line, row in enumerate(data.split(b"\n"), start=first_line):
        if not _THREE_INTEGERS.fullmatch(row):
            shown = shorten(row.decode("utf-8", "replace"))
            raise DatasetError(f"{shown!r} is not a fact; three ids are needed", file=path, line=line)
    raise AssertionError("the two patterns disagree")
