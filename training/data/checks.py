"""Checks of names, facts and modalities of any source; the first flaw is a DatasetError."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from momok.model.arrays import Int64
from momok.model.bundle.names import Names, closest, shorten
from momok.model.networks.modality import Modality
from momok.training.data.files import DatasetError

_FORBIDDEN = re.compile("[\t\n\r\0\ud800-\udfff]")
_MODALITY_NAME = re.compile(r"[a-z][a-z0-9_]*")
RESERVED_MODALITY = "joint"


def check_keys(kind: str, keys: Sequence[str], file: str | Path, lines: Sequence[int]) -> None:
    """Keys are given, unique, and fit in a column; ``lines[i]`` is where ``keys[i]`` stands."""
    first_line: dict[str, int] = {}
    for key, line in zip(keys, lines, strict=True):
        if not key.strip():
            raise DatasetError(f"empty {kind} key; every {kind} needs one", file=file, line=line)
        if key in first_line:
            message = f"{kind} key {shorten(key)!r} stands on line {first_line[key]} already; keys are unique"
            raise DatasetError(message, file=file, line=line)
        first_line[key] = line
    check_text(keys, file, lines)


def known_id(names: Names, key: str, remedy: str, file: str | Path | None, line: int | None = None) -> int:
    """The id of a key. Raises ``DatasetError`` with the nearest keys and the ``remedy``."""
    index = names.id_of(key)
    if index is None:
        nearest = closest(key, names.keys, 3)
        hint = f" (nearest: {', '.join(map(repr, nearest))})" if nearest else ""
        message = f"{shorten(key)!r} is not the key of any {names.kind}{hint}; {remedy}"
        raise DatasetError(message, file=file, line=line)
    return index


def check_text(texts: Sequence[str], file: str | Path, lines: Sequence[int]) -> None:
    """No tab, line end, NUL or half of a surrogate pair, as a column of a UTF-8 table cannot hold them."""
    if not _FORBIDDEN.search("".join(texts)):
        return
    index, found = next((i, m) for i, text in enumerate(texts) if (m := _FORBIDDEN.search(text)))
    message = f"{shorten(texts[index])!r} holds {found.group()!r}; a name is one line without tabs"
    raise DatasetError(message, file=file, line=lines[index])


def check_names(names: Names, file: str) -> None:
    """Keys and labels as rows of a table with one header line."""
    lines = range(2, len(names) + 2)
    check_keys(names.kind, names.keys, file, lines)
    check_text(names.labels, file, lines)
    for line, label in zip(lines, names.labels, strict=True):
        if not label.strip():
            raise DatasetError("empty label; repeat the key where nothing reads better", file=file, line=line)


def check_facts(
    facts: Int64,
    file: str | Path,
    *,
    num_entities: int,
    num_relations: int,
    first_line: int = 1,
    hint: str = "",
) -> None:
    """int64[n, 3] of ids in range; row ``i`` stands on line ``first_line + i``."""
    if facts.dtype != np.int64 or facts.ndim != 2 or facts.shape[1] != 3:
        message = f"facts are {facts.dtype}{list(facts.shape)}; they must be int64[num_facts, 3]"
        raise DatasetError(message, file=file)
    limits = np.array([num_entities, num_relations, num_entities])
    wrong = (facts < 0) | (facts >= limits)
    if not wrong.any():
        return
    row, column = map(int, np.argwhere(wrong)[0])
    what = ("head", "relation", "tail")[column]
    kind = "a relation" if what == "relation" else "an entity"
    message = f"{what} {facts[row, column]} is not {kind} id; ids run from 0 to {limits[column] - 1}{hint}"
    raise DatasetError(message, file=file, line=first_line + row)


def check_modality_name(name: str, file: str | Path | None = None) -> None:
    """Lower-case letters, digits and underscores, and not the reserved name."""
    if not _MODALITY_NAME.fullmatch(name):
        message = f"modality name {shorten(name)!r} must be a-z, then a-z, 0-9 or _, like 'text'"
        raise DatasetError(message, file=file)
    if name == RESERVED_MODALITY:
        message = f"modality name {name!r} is reserved for the branch that fuses all; choose another"
        raise DatasetError(message, file=file)


def check_modalities(modalities: Sequence[Modality], entities: Names) -> None:
    """Named well and once; the only one without features comes first; the others' features are sound."""
    for modality in modalities:
        check_modality_name(modality.name, "dataset.json")
        if modality.features is not None:
            check_features(modality, entities, f"modalities/{modality.name}.safetensors")
    names = [modality.name for modality in modalities]
    if len(set(names)) != len(names):
        raise DatasetError(f"modalities {names} repeat a name; each is listed once", file="dataset.json")
    bare = [modality.name for modality in modalities if modality.features is None]
    if len(bare) != 1 or names[0] != bare[0]:
        message = f"modalities without features: {bare}; exactly one, listed first, is learned per entity"
        raise DatasetError(message, file="dataset.json")


def check_features(modality: Modality, entities: Names, file: str | Path) -> None:
    """``features`` finite float16|float32[n, F] with n, F > 0; ``rows`` int64[n], unique ids of entities."""
    features, rows = modality.features, modality.rows
    assert features is not None
    if features.dtype not in (np.float16, np.float32) or features.ndim != 2 or not features.size:
        message = f"features are {features.dtype}{list(features.shape)}; float16 or float32 [n, F] are needed"
        raise DatasetError(message, file=file)
    if rows is None or rows.dtype != np.int64 or rows.shape != features.shape[:1]:
        shown = None if rows is None else f"{rows.dtype}{list(rows.shape)}"
        message = f"rows are {shown}; int64[{len(features)}] is needed, one entity id a row of features"
        raise DatasetError(message, file=file)
    outside = np.flatnonzero((rows < 0) | (rows >= len(entities)))
    if len(outside):
        message = f"rows[{outside[0]}] = {rows[outside[0]]} is not an entity id; 0 to {len(entities) - 1} are"
        raise DatasetError(message, file=file)
    ids, counts = np.unique(rows, return_counts=True)
    if len(ids) != len(rows):
        twice = entities.keys[ids[counts > 1][0]]
        raise DatasetError(f"entity {shorten(twice)!r} has several rows; one each is right", file=file)
    finite = np.isfinite(features)
    if not finite.all():
        row, column = map(int, np.argwhere(~finite)[0])
        owner = shorten(entities.keys[rows[row]])
        message = (
            f"features[{row}, {column}] of entity {owner!r} is {features[row, column]}; leave out the row"
        )
        raise DatasetError(message, file=file)
