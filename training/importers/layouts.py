"""Public layouts of a graph: OpenKE, MoMoK's own, and plain tables of names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from momok.model.arrays import Int64
from momok.model.bundle.names import Names, shorten
from momok.model.filter_index import SPLITS
from momok.training.data.checks import check_facts, check_keys, check_text, unknown_key
from momok.training.data.dataset import STRUCTURE, Dataset
from momok.training.data.files import DatasetError, count_error, parse_count, read_integers, read_lines

NamedFact = tuple[str, str, str]
_HEADER = "head\trelation\ttail"


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
            hint=" (OpenKE files say head, tail, relation)",
        )
    return _graph(src, entities, relations, facts)


def import_momok(src: Path) -> Dataset:
    """``entity2id.txt relation2id.txt`` without counts; ``train.txt valid.txt test.txt`` of names.

    A fact is ``head relation tail .``, apart by tabs (then names may hold spaces) or else by spaces; the
    full stop may be missing.
    """
    entities = _read_ids("entity", src / "entity2id.txt", with_count=False)
    relations = _read_ids("relation", src / "relation2id.txt", with_count=False)
    known = set(entities)
    facts = {}
    for split in SPLITS:
        path = src / f"{split}.txt"
        lines, named = _read_named(path, lambda text: _split_momok(text, known))
        facts[split] = _to_ids(named, lines, path, entities, relations)
    return _graph(src, entities, relations, facts)


def import_tsv(src: Path) -> Dataset:
    """``train.tsv valid.tsv test.tsv`` (or ``.txt``) of names, ``head <tab> relation <tab> tail`` a line.

    Ids follow the first appearance in train, valid, test. A first line ``head relation tail`` is a header.
    Without a valid or test file, that split is empty.
    """
    parts: dict[str, list[NamedFact]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        path = next((p for end in (".tsv", ".txt") if (p := src / f"{split}{end}").is_file()), None)
        if path is None and split == "train":
            raise DatasetError("neither train.tsv nor train.txt; is this another --layout?", file=src)
        if path is not None:
            lines, parts[split] = _read_named(path, lambda text: text.split("\t"), header=_HEADER)
            for column in zip(*parts[split], strict=True):
                check_text(column, path, lines)
    named = [fact for split in SPLITS for fact in parts[split]]
    entities = list(dict.fromkeys(name for head, _, tail in named for name in (head, tail)))
    relations = list(dict.fromkeys(relation for _, relation, _ in named))
    facts = {split: _to_ids(parts[split], [], src, entities, relations) for split in SPLITS}
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
        if not (name.strip() and number.isascii() and number.isdecimal()):
            message = (
                f"{shorten(text)!r} is not a name and an id; is a count missing or too much? see --layout"
            )
            raise DatasetError(message, file=path, line=line)
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


def _read_named(
    path: Path, split_line: Callable[[str], Sequence[str]], header: str | None = None
) -> tuple[list[int], list[NamedFact]]:
    """Facts as names, and the lines they stand on; blank lines hold none."""
    lines, facts = [], []
    for line, text in enumerate(read_lines(path), start=1):
        if not text.strip() or (line == 1 and text == header):
            continue
        names = split_line(text)
        if len(names) != 3 or not all(map(str.strip, names)):
            message = f"{shorten(text)!r} is not a fact; head, relation and tail are needed, apart by tabs"
            raise DatasetError(message, file=path, line=line)
        lines.append(line)
        facts.append((names[0], names[1], names[2]))
    return lines, facts


def _split_momok(text: str, entities: set[str]) -> list[str]:
    if "\t" not in text:
        names = [name for name in text.split(" ") if name]
        return names[:3] if len(names) == 4 and names[3] == "." else names
    names = text.split("\t")
    if len(names) == 4 and names[3].strip(" ") in (".", ""):
        return names[:3]
    if names[-1] not in entities and names[-1].endswith(" ."):
        names[-1] = names[-1].removesuffix(".").rstrip(" ")
    return names


def _to_ids(
    named: list[NamedFact], lines: list[int], path: Path, entities: list[str], relations: list[str]
) -> Int64:
    entity_ids = {key: index for index, key in enumerate(entities)}
    relation_ids = {key: index for index, key in enumerate(relations)}
    columns = (("entity", entity_ids), ("relation", relation_ids), ("entity", entity_ids))
    facts = np.empty((len(named), 3), dtype=np.int64)
    for column, (kind, ids) in enumerate(columns):
        found = [ids.get(fact[column], -1) for fact in named]
        if -1 in found:
            row = found.index(-1)
            message = unknown_key(
                kind, named[row][column], list(ids), f"add it to {kind}2id.txt or correct it"
            )
            raise DatasetError(message, file=path, line=lines[row])
        facts[:, column] = found
    return facts
