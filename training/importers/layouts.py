"""Public layouts of a graph: OpenKE, MoMoK's own, and plain tables of names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from momok.model.arrays import Int64
from momok.model.bundle.names import Names, shorten
from momok.model.filter_index import SPLITS
from momok.training.data.checks import check_facts, check_keys, check_text, known_id
from momok.training.data.dataset import STRUCTURE, Dataset
from momok.training.data.files import DatasetError, count_error, parse_count, read_integers, read_lines

NamedFact = tuple[int, list[str]]
"""Line; head, relation and tail."""

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
    facts = {}
    for split in SPLITS:
        path = src / f"{split}.txt"
        named = _read_named(path, lambda text: _split_momok(text, entities))
        facts[split] = _to_ids(named, path, entities, relations)
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
            parts[split] = _read_named(path, lambda text: text.split("\t"), header=_HEADER)
            for line, fact in parts[split]:
                check_text(fact, path, [line] * 3)
    named = [fact for split in SPLITS for _, fact in parts[split]]
    entities = list(dict.fromkeys(name for head, _, tail in named for name in (head, tail)))
    relations = list(dict.fromkeys(relation for _, relation, _ in named))
    names = Names("entity", entities, entities), Names("relation", relations, relations)
    return _graph(src, *names, {split: _to_ids(parts[split], src, *names) for split in SPLITS})


def _graph(src: Path, entities: Names, relations: Names, facts: dict[str, Int64]) -> Dataset:
    return Dataset(
        name=src.resolve().name,
        entities=entities,
        relations=relations,
        descriptions=("",) * len(entities),
        facts=facts,
        modalities=(STRUCTURE,),
        provenance={},
    )


def _read_ids(kind: str, path: Path, *, with_count: bool) -> Names:
    """Names from lines ``name id``, in any order of ids."""
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
    return Names(kind, names, names)


def _split_id(text: str) -> tuple[str, str]:
    """Name and id: apart at the last tab, or else at the last run of spaces, as names may hold spaces."""
    if "\t" in text:
        name, _, number = text.rpartition("\t")
        return name, number.strip(" ")
    name, _, number = text.rstrip(" ").rpartition(" ")
    return name.rstrip(" "), number


def _read_named(
    path: Path, split_line: Callable[[str], list[str]], header: str | None = None
) -> list[NamedFact]:
    """Facts as names, with the lines they stand on; blank lines hold none."""
    facts = []
    for line, text in enumerate(read_lines(path), start=1):
        if not text.strip() or (line == 1 and text == header):
            continue
        names = split_line(text)
        if len(names) != 3 or not all(map(str.strip, names)):
            message = f"{shorten(text)!r} is not a fact; head, relation and tail are needed, apart by tabs"
            raise DatasetError(message, file=path, line=line)
        facts.append((line, names))
    return facts


def _split_momok(text: str, entities: Names) -> list[str]:
    if "\t" not in text:
        names = [name for name in text.split(" ") if name]
        return names[:3] if len(names) == 4 and names[3] == "." else names
    names = text.split("\t")
    if len(names) == 4 and names[3].strip(" ") in (".", ""):
        return names[:3]
    if entities.id_of(names[-1]) is None and names[-1].endswith(" ."):
        names[-1] = names[-1].removesuffix(".").rstrip(" ")
    return names


def _to_ids(named: list[NamedFact], path: Path, entities: Names, relations: Names) -> Int64:
    columns = [
        (names, f"add it to {names.kind}2id.txt or correct it") for names in (entities, relations, entities)
    ]
    ids = [
        [known_id(names, key, remedy, path, line) for (names, remedy), key in zip(columns, fact, strict=True)]
        for line, fact in named
    ]
    return np.array(ids, dtype=np.int64).reshape(-1, 3)
