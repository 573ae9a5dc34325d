"""The files of a dataset directory, one by one: how each is read, checked and written."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from momok.model.arrays import Int64
from momok.model.bundle.names import Names, shorten
from momok.model.errors import describe
from momok.model.networks.modality import Modality
from momok.model.runtime.directory import explained, replace_file
from momok.training.data.checks import check_keys, check_modality_name
from momok.training.data.files import DatasetError, read_bytes, read_lines

FORMAT_VERSION = 1
HEADER = "dataset.json"


class ModalityHeader(BaseModel):
    """One modality in ``dataset.json``; ``features`` is its file, null where it is learned per entity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    features: str | None


class Header(BaseModel):
    """``dataset.json``; ``counts`` of entities, relations and the facts of each split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    name: str
    counts: dict[str, int]
    modalities: list[ModalityHeader]
    fingerprint: str
    provenance: dict[str, Any]


def features_file(name: str) -> str:
    """Where the features of a modality are, from the dataset directory."""
    return f"modalities/{name}.safetensors"


def read_header(directory: Path) -> Header:
    """``dataset.json`` of a version we know, every field of the right kind."""
    path = directory / HEADER
    try:
        found = json.loads(read_bytes(path, "a dataset directory has one: make it with momok import"))
    except ValueError as error:
        raise DatasetError(f"not JSON ({error}); import the graph again", file=path) from None
    version = found.get("format_version") if isinstance(found, dict) else None
    if version != FORMAT_VERSION:
        message = f"format version {version!r} is unknown; this momok reads {FORMAT_VERSION}: import again"
        raise DatasetError(message, file=path)
    try:
        return Header.model_validate(found)
    except ValidationError as error:
        raise DatasetError(f"{describe(error)}; import the graph again", file=path) from None


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Wait for other writers of the dataset, and have them wait until the block ends or replaces the header.

    So writing the header is the last step of a change. A process that waited for the lock on the old
    ``dataset.json`` begins again with the new one. Raises ``DatasetError`` where there is no dataset, or
    no permission to write.
    """
    read_header(directory)
    path = directory / HEADER
    while True:
        with explained(path, DatasetError):
            file = path.open("r+b")  # Network file systems lock only files that are open for writing.
        with file:
            with explained(path, DatasetError):
                fcntl.flock(file, fcntl.LOCK_EX)
                current = os.path.samestat(os.fstat(file.fileno()), path.stat())
            if current:
                yield
                return


def read_names(kind: str, path: Path, optional: Sequence[str]) -> tuple[Names, list[tuple[str, ...]]]:
    """Names of a table, and its ``optional`` columns: texts, "" where the column or the text is absent."""
    lines = read_lines(path)
    header = lines[0].split("\t") if lines else []
    if header[:3] != ["id", "key", "label"] or not set(header[3:]) <= set(optional):
        wanted = " ".join(["id key label", *(f"[{column}]" for column in optional)])
        raise DatasetError(f"columns are {header}; {wanted} (tab-separated) are needed", file=path, line=1)
    rows = [line.split("\t") for line in lines[1:]]
    for position, row in enumerate(rows):
        if len(row) != len(header):
            message = f"{len(row)} columns; the first line names {len(header)}, apart by tabs"
            raise DatasetError(message, file=path, line=position + 2)
        if row[0] != str(position):
            message = f"id {shorten(row[0])!r}; ids count up from 0, so here {position} is right"
            raise DatasetError(message, file=path, line=position + 2)
    columns = {name: tuple(row[index] for row in rows) for index, name in enumerate(header)}
    check_keys(kind, columns["key"], path, range(2, len(rows) + 2))
    extra = [columns.get(column, ("",) * len(rows)) for column in optional]
    return Names(kind, columns["key"], columns["label"]), extra


def read_modalities(directory: Path, headers: Sequence[ModalityHeader]) -> tuple[Modality, ...]:
    """The modalities that ``dataset.json`` lists, and no file beside them."""
    modalities = tuple(_read_modality(directory, header) for header in headers)
    listed = {features_file(header.name) for header in headers if header.features is not None}
    for path in sorted((directory / "modalities").glob("*.safetensors")):
        if path.relative_to(directory).as_posix() not in listed:
            raise DatasetError(f"not listed in {HEADER}; list it there or remove the file", file=path)
    return modalities


def _read_modality(directory: Path, header: ModalityHeader) -> Modality:
    if header.features is None:
        return Modality(header.name)
    check_modality_name(header.name, directory / HEADER)
    if header.features != features_file(header.name):
        message = f"features {header.features!r}; {features_file(header.name)!r} is right for {header.name!r}"
        raise DatasetError(message, file=directory / HEADER)
    path = directory / header.features
    try:
        with safe_open(path, framework="np") as tensors:
            names = sorted(tensors.keys())
            if names != ["features", "rows"]:
                raise DatasetError(f"holds {names}; 'features' and 'rows' are needed", file=path)
            return Modality(header.name, tensors.get_tensor("features"), tensors.get_tensor("rows"))
    except FileNotFoundError:
        message = f"no such file; import again, or drop {header.name!r} from {HEADER}"
        raise DatasetError(message, file=path) from None
    except (SafetensorError, TypeError, OSError) as error:
        raise DatasetError(f"not readable as safetensors ({error}); import again", file=path) from None


def write_header(directory: Path, header: Header) -> None:
    """Write ``dataset.json``."""
    try:
        text = json.dumps(header.model_dump(), ensure_ascii=False, allow_nan=False, indent=2)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"provenance cannot become JSON ({error}); give plain values") from error
    _write(directory / HEADER, text + "\n")


def write_names(path: Path, names: Names, optional: dict[str, tuple[str, ...]]) -> None:
    """A table that ``read_names`` reads; optional columns without any text are left out."""
    given = {column: texts for column, texts in optional.items() if any(texts)}
    columns = [tuple(map(str, range(len(names)))), names.keys, names.labels, *given.values()]
    header = "\t".join(["id", "key", "label", *given])
    _write(path, "".join(f"{row}\n" for row in [header, *map("\t".join, zip(*columns, strict=True))]))


def write_facts(path: Path, facts: Int64) -> None:
    """A line a fact, its ids apart by tabs."""
    _write(path, "".join(f"{head}\t{relation}\t{tail}\n" for head, relation, tail in facts.tolist()))


def write_modality(directory: Path, modality: Modality) -> None:
    """The features of a modality; nothing where it is learned per entity."""
    if modality.features is None or modality.rows is None:
        return
    path = directory / features_file(modality.name)
    path.parent.mkdir(exist_ok=True)
    features, rows = map(np.ascontiguousarray, (modality.features, modality.rows))
    # save_file would make a file that only its owner may read.
    _write(path, save({"features": features, "rows": rows}))


def _write(path: Path, content: str | bytes) -> None:
    """The file whole, or as it was before."""
    with replace_file(path, DatasetError) as partial:
        partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
