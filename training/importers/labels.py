"""Label files: names for readers of the entities and relations that a graph has by key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from momok.model.bundle.names import Names, shorten
from momok.model.bundle.pictures import FOLDER
from momok.training.data.checks import check_text, known_id
from momok.training.data.dataset import Dataset
from momok.training.data.files import DatasetError, read_lines


def label_entities(dataset: Dataset, file: Path) -> Dataset:
    """``key <tab> label [<tab> description [<tab> picture]]`` a line; others keep what they have.

    Pictures are files in the folder ``pictures`` beside ``file``, or addresses.
    """
    found = _read_labels(dataset.entities, file, num_columns=4)
    texts = [list(dataset.entities.labels), list(dataset.descriptions), list(dataset.pictures)]
    for index, row in found.items():
        for column, text in zip(texts, row, strict=False):
            column[index] = text or column[index]
    labels, descriptions, pictures = map(tuple, texts)
    entities = Names("entity", dataset.entities.keys, labels)
    return dataclasses.replace(
        dataset,
        entities=entities,
        descriptions=descriptions,
        pictures=pictures,
        picture_folder=file.parent / FOLDER,
    )


def label_relations(dataset: Dataset, file: Path) -> Dataset:
    """``key <tab> label`` a line; relations not named keep theirs."""
    labels = list(dataset.relations.labels)
    for index, (label,) in _read_labels(dataset.relations, file, num_columns=2).items():
        labels[index] = label or labels[index]
    return dataclasses.replace(dataset, relations=Names("relation", dataset.relations.keys, labels))


def _read_labels(names: Names, file: Path, *, num_columns: int) -> dict[int, list[str]]:
    """Texts after the key, by id. Every key must be one of the graph's, and stand there once."""
    rows: dict[int, list[str]] = {}
    for line, text in enumerate(read_lines(file), start=1):
        if not text.strip():
            continue
        key, *texts = text.split("\t")
        if not 1 <= len(texts) < num_columns:
            message = f"{len(texts) + 1} columns; key, tab, label is needed (2 to {num_columns} columns)"
            raise DatasetError(message, file=file, line=line)
        index = known_id(names, key, "correct or remove the line", file, line)
        if index in rows:
            message = f"{names.kind} {shorten(key)!r} has a label already; one line each is right"
            raise DatasetError(message, file=file, line=line)
        check_text(texts, file, [line] * len(texts))
        rows[index] = texts
    if not rows:
        raise DatasetError(f"labels no {names.kind}; give one 'key<tab>label' a line", file=file)
    return rows
