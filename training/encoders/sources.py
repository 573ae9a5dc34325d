"""Sources of an encoder: a table of texts, a table of numbers, a folder of files.

Axes: N entities, A attributes.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from momok.model.arrays import Float64
from momok.model.bundle.names import Names, shorten
from momok.training.data.checks import known_id
from momok.training.data.dataset import Dataset
from momok.training.data.files import DatasetError, read_lines, read_text

FACTS_HEADER = ["key", "attribute", "value"]
_REMEDY = "correct it or take the line away"


def read_texts(source: str, dataset: Dataset) -> list[str]:
    """A text of each entity, ``""`` where there is none: the dataset's own ``labels`` or ``descriptions``, or
    those of a table ``key<TAB>text``. Raises ``DatasetError``.
    """
    if source == "labels":
        return list(dataset.entities.labels)
    if source == "descriptions":
        return list(dataset.descriptions)
    texts = [""] * dataset.num_entities
    seen = set[str]()
    for line, row in enumerate(read_lines(Path(source)), start=1):
        key, tab, text = row.partition("\t")
        if not tab:
            message = f"{shorten(row)!r} is one column; a key, a tab and a text are needed"
            raise DatasetError(message, file=source, line=line)
        _once(key, seen, source, line)
        texts[known_id(dataset.entities, key, _REMEDY, source, line)] = text
    return texts


def read_numbers(source: str, entities: Names) -> tuple[list[str], Float64]:
    """Attribute names and values float64[N, A], NaN where missing, from a table with a header line.

    Columns are apart by tabs, or by commas in a ``.csv``. Either the first is the entity's key and each
    other one an attribute, or the header is ``key attribute value`` and each line a fact. An empty value is
    missing. Raises ``DatasetError``.
    """
    path = Path(source)
    rows = _rows(path)
    _, header = next(rows, (1, []))
    if len(header) < 2:
        raise DatasetError("the first line must name the key and the attributes", file=path, line=1)
    cells = _facts(rows, path) if header == FACTS_HEADER else _table(rows, header, path)
    values: dict[tuple[int, str], float] = {}
    attributes = {} if header == FACTS_HEADER else dict.fromkeys(header[1:])
    for line, key, attribute, text in cells:
        place = (known_id(entities, key, _REMEDY, path, line), attribute)
        if place in values:
            message = f"{attribute!r} of {shorten(key)!r} stands there twice; give it once"
            raise DatasetError(message, file=path, line=line)
        values[place] = _number(text, attribute, path, line)
        attributes[attribute] = None
    names = list(attributes)
    column = {attribute: index for index, attribute in enumerate(names)}
    value_NA = np.full((len(entities), len(names)), np.nan)
    for (entity, attribute), value in values.items():
        value_NA[entity, column[attribute]] = value
    return names, value_NA


def find_files(source: str, entities: Names, suffixes: Sequence[str]) -> dict[int, list[Path]]:
    """Entity id -> its files, in id order: ``<key>.<suffix>``, and all in a folder ``<key>``, however deep.

    Characters that a file name cannot hold are percent-encoded. No other form is guessed: ``x_1.png`` may
    belong to a key ``x_1``. Raises ``DatasetError`` for files of no entity, and where there are none.
    """
    folder = Path(source)
    if not folder.is_dir():
        raise DatasetError("no such folder; name the one that holds the files", file=folder)
    found: dict[int, list[Path]] = defaultdict(list)
    remedy = "rename or remove the file; several files of an entity go into a folder named by its key"
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in suffixes and path.is_file():
            inside = path.relative_to(folder)
            key = inside.parts[0] if len(inside.parts) > 1 else inside.stem
            key = unquote(key) if entities.id_of(key) is None else key
            found[known_id(entities, key, remedy, path)].append(path)
    if not found:
        raise DatasetError(f"holds no {', '.join(suffixes)} files named by key", file=folder)
    return dict(sorted(found.items()))


def digest_of_items(items: Mapping[int, Sequence[str | Path]]) -> str:
    """sha256 (hex) of the items of each entity: texts themselves, files by path, size and time of change."""
    digest = hashlib.sha256()
    for entity, given in items.items():
        for item in given:
            if isinstance(item, Path):
                found = item.stat()
                item = f"{item}\0{found.st_size}\0{found.st_mtime_ns}"
            digest.update(f"{entity}\0{item}\0\n".encode())
    return digest.hexdigest()


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    if path.suffix != ".csv":
        yield from enumerate((line.split("\t") for line in read_lines(path)), start=1)
        return
    reader = csv.reader(StringIO(read_text(path), newline=""))  # It knows all line ends, and those in quotes.
    try:
        yield from ((reader.line_num, row) for row in reader if row)
    except csv.Error as error:
        message = f"not readable as CSV ({error}); is a quotation mark not closed?"
        raise DatasetError(message, file=path, line=reader.line_num) from None


def _facts(rows: Iterator[tuple[int, list[str]]], path: Path) -> Iterator[tuple[int, str, str, str]]:
    for line, row in rows:
        if len(row) != 3:
            message = f"{len(row)} columns; a key, an attribute and a value are needed"
            raise DatasetError(message, file=path, line=line)
        if row[2].strip():
            yield line, row[0], row[1], row[2]


def _table(
    rows: Iterator[tuple[int, list[str]]], header: list[str], path: Path
) -> Iterator[tuple[int, str, str, str]]:
    if len(set(header)) < len(header):
        raise DatasetError(f"{header} repeats a name; each column needs its own", file=path, line=1)
    seen = set[str]()
    for line, row in rows:
        if len(row) != len(header):
            message = f"{len(row)} columns; the first line names {len(header)}"
            raise DatasetError(message, file=path, line=line)
        _once(row[0], seen, path, line)
        for attribute, text in zip(header[1:], row[1:], strict=True):
            if text.strip():
                yield line, row[0], attribute, text


def _once(key: str, seen: set[str], file: str | Path, line: int) -> None:
    if key in seen:
        raise DatasetError(f"{shorten(key)!r} stands there twice; give it once", file=file, line=line)
    seen.add(key)


def _number(text: str, attribute: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        message = f"{attribute} {shorten(text)!r} is not a finite number; leave it empty where it is unknown"
        raise DatasetError(message, file=path, line=line)
    return value
