"""Public layouts of a graph: OpenKE, MoMoK's own, and plain tables of names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.known import SPLITS, Int64
from model.names import Names
from training.checks import check_facts, check_keys
from training.dataset import STRUCTURE, Dataset
from training.files import DatasetError, count_error, parse_count, read_integers, read_lines

_HEAD_TAIL_ORDER = " (OpenKE files say head, tail, relation)"


def import_openke(src: Path) -> Dataset:
    """``entity2id.txt relation2id.txt train2id.txt valid2id.txt test2id.txt``, each headed by a count.

    Facts are ids in the order head, **tail**, relation.
    """
    entities = _read_ids("entity", src / "entity2id.txt", with_count=True)
    relations = _read_ids("relation", src / "relation2id.txt", with_count=True)
    facts = {}
    for split in SPLITS:
        path = src / f"{split}2id.txt"
        facts[split] = np.ascontiguousarray(read_integers(path, with_count=True)[:, [0, 2, 1]])
        check_facts(
            facts[split],
            path,
            num_entities=len(entities),
            num_relations=len(relations),
            first_line=2,
            hint=_HEAD_TAIL_ORDER,
        )
    return _graph(src, entities, relations, facts)


def _graph(src: Path, entities: list[str], relations: list[str], facts: dict[str, Int64]) -> Dataset:
    return Dataset(
        name=src.resolve().name,
        entities=Names("entity", entities, entities),
        relations=Names("relation", relations, relations),
        descriptions=("",) * len(entities),
        facts=facts,
        modalities=(STRUCTURE,),
        provenance={},
    )


def _read_ids(kind: str, path: Path, *, with_count: bool) -> list[str]:
    """Names by id from lines ``name id``, in any order of ids."""
    lines = read_lines(path)
    first_line = 1
    if with_count:
        count = parse_count(lines[0] if lines else "", path)
        lines, first_line = lines[1:], 2
        if count != len(lines):
            raise count_error(path, count, len(lines))
    names = [""] * len(lines)
    line_of = [0] * len(lines)
    for line, text in enumerate(lines, start=first_line):
        name, number = _split_id(text)
        if not (number.isascii() and number.isdecimal()):
            raise DatasetError(f"{text!r} does not end in an id; 'name id' is needed", file=path, line=line)
        index = int(number)
        if index >= len(names) or line_of[index]:
            problem = "is given twice" if index < len(names) else "is too large"
            message = f"id {index} {problem}; {len(names)} lines give the ids 0 to {len(names) - 1} once each"
            raise DatasetError(message, file=path, line=line)
        names[index], line_of[index] = name, line
    check_keys(kind, names, path, line_of)
    return names


def _split_id(text: str) -> tuple[str, str]:
    """Name and id: apart at the last tab, or else at the last run of spaces, as names may hold spaces."""
    if "\t" in text:
        name, _, number = text.rpartition("\t")
        return name, number.strip(" ")
    name, _, number = text.rstrip(" ").rpartition(" ")
    return name.rstrip(" "), number
