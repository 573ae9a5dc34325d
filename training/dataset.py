"""Dataset: a graph with the features of its entities, as a directory checked whenever it is opened."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from model.known import SPLITS, Int64, KnownAnswers
from model.modality import Modality
from model.names import Names, shorten
from training.checks import (
    check_facts,
    check_keys,
    check_modalities,
    check_modality_name,
    check_names,
    check_text,
)
from training.files import DatasetError, new_directory, read_bytes, read_integers, read_lines

__all__ = ["FORMAT_VERSION", "STRUCTURE", "Dataset", "DatasetError"]

FORMAT_VERSION = 1
STRUCTURE = Modality("structure")
"""What importers list first: the modality that has no features but a learned row per entity."""

_OPTIONAL_COLUMNS = ("description", "picture")


@dataclass(frozen=True, eq=False)
class Dataset:
    """A graph of N entities and R relations, split into facts to learn from and facts to be judged by.

    ``facts`` int64[num_facts, 3] (head, relation, tail) for each of ``SPLITS``, in file order, duplicates
    kept. ``descriptions`` and ``pictures`` (a file name or address, never opened here) belong to entities,
    ``""`` where there is none. ``modalities`` begin with the only one that has no features. ``provenance``
    holds JSON values. The constructor refuses what ``open`` would refuse: ``DatasetError``.
    """

    name: str
    entities: Names
    relations: Names
    descriptions: tuple[str, ...]
    facts: dict[str, Int64]
    modalities: tuple[Modality, ...]
    provenance: dict[str, Any]
    pictures: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.pictures:
            object.__setattr__(self, "pictures", ("",) * len(self.entities))
        _check(self)

    @property
    def num_entities(self) -> int:
        return len(self.entities)

    @property
    def num_relations(self) -> int:
        """R, without the inverse relations."""
        return len(self.relations)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of keys in id order and of facts as multisets: what a model's ids and scores rest on.

        The order of lines, labels and features do not matter to it.
        """
        digest = hashlib.sha256()
        for keys in (self.entities.keys, self.relations.keys):
            digest.update(f"{len(keys)}\n".encode() + "".join(f"{key}\n" for key in keys).encode())
        for split in SPLITS:
            facts = self.facts[split]
            digest.update(f"{split} {len(facts)}\n".encode())
            digest.update(facts[np.lexsort(facts.T)].astype("<i8").tobytes())
        return digest.hexdigest()

    def seen_entities(self) -> Int64:
        """Ids of the entities that occur in train, int64, sorted."""
        return np.unique(self.facts["train"][:, [0, 2]])

    def known(self) -> KnownAnswers:
        """Answers of all queries, from every split."""
        return KnownAnswers.from_facts(
            self.facts, num_entities=self.num_entities, num_relations=self.num_relations
        )

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read and check a directory; ``DatasetError`` says ``file:line``, what is wrong, what is right."""
        path = Path(path)
        header = _read_header(path / "dataset.json")
        entities, (descriptions, pictures) = _read_names("entity", path / "entities.tsv", _OPTIONAL_COLUMNS)
        relations, _ = _read_names("relation", path / "relations.tsv", ())
        facts = {split: read_integers(path / f"{split}.tsv") for split in SPLITS}
        modalities = tuple(_read_modality(path, modality) for modality in header.modalities)
        try:
            dataset = cls(
                header.name, entities, relations, descriptions, facts, modalities, header.provenance, pictures
            )
        except DatasetError as error:
            raise error.within(path) from None
        _compare(dataset, header, path / "dataset.json")
        return dataset

    def write(self, path: str | Path) -> None:
        """Write the directory ``path``, which must not exist; on any failure nothing of it stays behind."""
        with new_directory(Path(path)) as directory:
            header = _header_of(self)
            try:
                text = json.dumps(header.model_dump(), ensure_ascii=False, allow_nan=False, indent=2)
            except (TypeError, ValueError) as error:
                raise DatasetError(f"provenance cannot become JSON ({error}); give plain values") from error
            _write_text(directory / "dataset.json", text + "\n")
            extra = {"description": self.descriptions, "picture": self.pictures}
            _write_names(directory / "entities.tsv", self.entities, extra)
            _write_names(directory / "relations.tsv", self.relations, {})
            for split in SPLITS:
                rows = "".join(f"{h}\t{r}\t{t}\n" for h, r, t in self.facts[split].tolist())
                _write_text(directory / f"{split}.tsv", rows)
            (directory / "modalities").mkdir()
            for modality in self.modalities:
                if modality.features is not None and modality.rows is not None:
                    tensors = {"features": np.ascontiguousarray(modality.features), "rows": modality.rows}
                    save_file(tensors, directory / "modalities" / f"{modality.name}.safetensors")


class _Header(BaseModel):
    """``dataset.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    name: str
    counts: dict[str, int]
    modalities: list[_ModalityHeader]
    fingerprint: str
    provenance: dict[str, Any]


class _ModalityHeader(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    features: str | None
    """Where its features are, in the directory; null for the modality that is learned per entity."""


_Header.model_rebuild()


def _header_of(dataset: Dataset) -> _Header:
    return _Header(
        format_version=FORMAT_VERSION,
        name=dataset.name,
        counts=_counts(dataset),
        modalities=[
            _ModalityHeader(
                name=modality.name,
                features=None if modality.features is None else _features_file(modality.name),
            )
            for modality in dataset.modalities
        ],
        fingerprint=dataset.fingerprint,
        provenance=dataset.provenance,
    )


def _features_file(name: str) -> str:
    return f"modalities/{name}.safetensors"


def _counts(dataset: Dataset) -> dict[str, int]:
    sizes = {split: len(dataset.facts[split]) for split in SPLITS}
    return {"entities": dataset.num_entities, "relations": dataset.num_relations, **sizes}


def _check(dataset: Dataset) -> None:
    if not dataset.name.strip():
        raise DatasetError("the name is empty; give the graph one", file="dataset.json")
    check_text([dataset.name], "dataset.json", [1])
    check_names(dataset.entities, "entities.tsv")
    check_names(dataset.relations, "relations.tsv")
    for texts in (dataset.descriptions, dataset.pictures):
        if len(texts) != dataset.num_entities:
            message = f"{len(texts)} descriptions or pictures for {dataset.num_entities} entities; one each"
            raise DatasetError(message, file="entities.tsv")
        check_text(texts, "entities.tsv", range(2, dataset.num_entities + 2))
    if set(dataset.facts) != set(SPLITS):
        raise DatasetError(f"splits are {sorted(dataset.facts)}; {', '.join(SPLITS)} are needed")
    for split in SPLITS:
        check_facts(
            dataset.facts[split],
            f"{split}.tsv",
            num_entities=dataset.num_entities,
            num_relations=dataset.num_relations,
        )
    if not len(dataset.facts["train"]):
        raise DatasetError("no facts; a model needs some to learn from", file="train.tsv")
    check_modalities(dataset.modalities, dataset.entities)


def _compare(dataset: Dataset, header: _Header, file: Path) -> None:
    for what, count in _counts(dataset).items():
        if header.counts.get(what) != count:
            message = f"counts {header.counts.get(what)} {what}, the files hold {count}; import again"
            raise DatasetError(message, file=file)
    if header.fingerprint != dataset.fingerprint:
        message = (
            f"fingerprint {shorten(header.fingerprint)!r} is not that of the files, which were changed: "
            f"import again, or enter {dataset.fingerprint!r} if the change is meant"
        )
        raise DatasetError(message, file=file)


def _read_header(path: Path) -> _Header:
    try:
        found = json.loads(read_bytes(path))
    except ValueError as error:
        raise DatasetError(f"not JSON ({error}); import the graph again", file=path) from None
    version = found.get("format_version") if isinstance(found, dict) else None
    if version != FORMAT_VERSION:
        message = f"format version {version!r} is unknown; this momok reads {FORMAT_VERSION}: import again"
        raise DatasetError(message, file=path)
    try:
        return _Header.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DatasetError(f"{place}: {first['msg']}; import the graph again", file=path) from None


def _read_names(kind: str, path: Path, optional: Sequence[str]) -> tuple[Names, list[tuple[str, ...]]]:
    """Names of a table, and its ``optional`` columns: texts, "" where the column or the text is absent."""
    lines = read_lines(path)
    header = lines[0].split("\t") if lines else []
    if header[:3] != ["id", "key", "label"] or not set(header[3:]) <= set(optional):
        wanted = " ".join(["id key label", *(f"[{column}]" for column in optional)])
        raise DatasetError(f"columns are {header}; {wanted} (tab-separated) are needed", file=path, line=1)
    rows = [line.split("\t") for line in lines[1:]]
    for position, row in enumerate(rows):
        if len(row) != len(header):
            message = f"{len(row)} columns; {len(header)} are named in the first line"
            raise DatasetError(message, file=path, line=position + 2)
        if row[0] != str(position):
            message = f"id {shorten(row[0])!r}; ids count up from 0, so here {position} is right"
            raise DatasetError(message, file=path, line=position + 2)
    columns = {name: tuple(row[index] for row in rows) for index, name in enumerate(header)}
    check_keys(kind, columns["key"], path, range(2, len(rows) + 2))
    extra = [columns.get(column, ("",) * len(rows)) for column in optional]
    return Names(kind, columns["key"], columns["label"]), extra


def _read_modality(directory: Path, header: _ModalityHeader) -> Modality:
    if header.features is None:
        return Modality(header.name)
    check_modality_name(header.name, directory / "dataset.json")
    path = directory / _features_file(header.name)
    if header.features != _features_file(header.name):
        message = (
            f"features {header.features!r}; {_features_file(header.name)!r} is right for {header.name!r}"
        )
        raise DatasetError(message, file=directory / "dataset.json")
    if not path.is_file():
        raise DatasetError("no such file; import again, or drop the modality from dataset.json", file=path)
    try:
        with safe_open(path, framework="np") as tensors:
            names = sorted(tensors.keys())
            if names != ["features", "rows"]:
                raise DatasetError(f"holds {names}; 'features' and 'rows' are needed", file=path)
            return Modality(header.name, tensors.get_tensor("features"), tensors.get_tensor("rows"))
    except (SafetensorError, TypeError) as error:
        raise DatasetError(f"not a readable safetensors file ({error}); import again", file=path) from None


def _write_names(path: Path, names: Names, extra: dict[str, tuple[str, ...]]) -> None:
    given = {column: texts for column, texts in extra.items() if any(texts)}
    columns = [tuple(map(str, range(len(names)))), names.keys, names.labels, *given.values()]
    header = "\t".join(["id", "key", "label", *given])
    _write_text(path, "".join(f"{row}\n" for row in [header, *map("\t".join, zip(*columns, strict=True))]))


def _write_text(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8"))
