"""Dataset: a graph with the features of its entities, as a directory checked whenever it is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from momok.model.arrays import Int64
from momok.model.bundle.names import Names, shorten
from momok.model.bundle.pictures import FOLDER
from momok.model.filter_index import SPLITS, FilterIndex
from momok.model.networks.modality import Modality
from momok.model.runtime.directory import new_directory
from momok.training.data.checks import check_facts, check_modalities, check_names, check_text
from momok.training.data.directory import (
    HEADER,
    Header,
    ModalityHeader,
    features_file,
    read_header,
    read_modalities,
    read_names,
    write_facts,
    write_header,
    write_modality,
    write_names,
)
from momok.training.data.files import DatasetError, read_integers
from momok.training.data.pictures import copy_pictures, picture_files

__all__ = ["STRUCTURE", "Dataset", "DatasetError"]

STRUCTURE = Modality("structure")
"""The modality that importers list first: no features, but a learned row per entity."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A graph of N entities and R relations, split into facts to learn from and facts to be judged by.

    ``facts`` int64[num_facts, 3] (head, relation, tail) for each of ``SPLITS``, in file order, duplicates
    kept. ``descriptions`` and ``pictures`` (a file below ``picture_folder``, or an address that is never
    opened) belong to entities, ``""`` where there is none. ``modalities`` begin with the only one that has no
    features. ``provenance`` holds JSON values. The constructor refuses what ``open`` would refuse:
    ``DatasetError``.
    """

    name: str
    entities: Names
    relations: Names
    descriptions: tuple[str, ...]
    facts: dict[str, Int64]
    modalities: tuple[Modality, ...]
    provenance: dict[str, Any]
    pictures: tuple[str, ...] = field(default=())
    picture_folder: Path | None = None

    def __post_init__(self) -> None:
        if not self.pictures:
            object.__setattr__(self, "pictures", ("",) * len(self.entities))
        _check(self)

    @property
    def num_entities(self) -> int:
        """N."""
        return len(self.entities)

    @property
    def num_relations(self) -> int:
        """R, without the inverse relations."""
        return len(self.relations)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of keys in id order and of facts as multisets: the basis of a model's ids and scores.

        Order of lines, labels and features do not enter.
        """
        digest = hashlib.sha256()
        for keys in (self.entities.keys, self.relations.keys):
            digest.update(f"{len(keys)}\n".encode() + "".join(f"{key}\n" for key in keys).encode())
        for split in SPLITS:
            facts = self.facts[split]
            digest.update(f"{split} {len(facts)}\n".encode())
            digest.update(facts[np.lexsort(facts.T)].astype("<i8").tobytes())
        return digest.hexdigest()

    def feature_digests(self, modalities: Collection[str]) -> dict[str, str]:
        """sha256 (hex) of features and rows of ``modalities``; ``fingerprint`` does not cover them."""
        return {
            modality.name: _digest(modality.features, modality.rows)
            for modality in self.modalities
            if modality.name in modalities and modality.features is not None and modality.rows is not None
        }

    def seen_entities(self) -> Int64:
        """Ids of the entities that occur in train, int64, sorted."""
        return np.unique(self.facts["train"][:, [0, 2]])

    def known(self) -> FilterIndex:
        """Answers of all queries, from every split."""
        return FilterIndex.from_facts(
            self.facts, num_entities=self.num_entities, num_relations=self.num_relations
        )

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read and check a directory. Raises ``DatasetError`` with ``file:line``, the flaw and the remedy."""
        path = Path(path)
        header = read_header(path)
        entities, texts = read_names("entity", path / "entities.tsv", ("description", "picture"))
        relations, _ = read_names("relation", path / "relations.tsv", ())
        facts = {split: read_integers(path / f"{split}.tsv") for split in SPLITS}
        modalities = read_modalities(path, header.modalities)
        try:
            dataset = cls(
                name=header.name,
                entities=entities,
                relations=relations,
                descriptions=texts[0],
                pictures=texts[1],
                picture_folder=path / FOLDER,
                facts=facts,
                modalities=modalities,
                provenance=header.provenance,
            )
        except DatasetError as error:
            raise error.within(path) from None
        _compare(dataset, header, path / HEADER)
        return dataset

    def write_modality(self, path: str | Path, name: str) -> None:
        """Put one modality of this dataset, and its entry in the header, into the directory on disk.

        The features appear before the header names them: a crash in between leaves a file that ``open`` asks
        to list or to remove. A caller that shares the directory holds it ``locked``, from opening it on.
        """
        path = Path(path)
        (modality,) = (modality for modality in self.modalities if modality.name == name)
        write_modality(path, modality)
        write_header(path, _header_of(self))

    def write(self, path: str | Path) -> None:
        """Write the directory ``path``, which must not exist; on any failure nothing of it stays behind."""
        with new_directory(Path(path), DatasetError) as directory:
            write_header(directory, _header_of(self))
            optional = {"description": self.descriptions, "picture": self.pictures}
            write_names(directory / "entities.tsv", self.entities, optional)
            write_names(directory / "relations.tsv", self.relations, {})
            for split in SPLITS:
                write_facts(directory / f"{split}.tsv", self.facts[split])
            for modality in self.modalities:
                write_modality(directory, modality)
            copy_pictures(self.pictures, self.picture_folder, directory / FOLDER)


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _header_of(dataset: Dataset) -> Header:
    modalities = [
        ModalityHeader(
            name=modality.name, features=None if modality.features is None else features_file(modality.name)
        )
        for modality in dataset.modalities
    ]
    return Header(
        name=dataset.name,
        counts=_counts(dataset),
        modalities=modalities,
        fingerprint=dataset.fingerprint,
        provenance=dataset.provenance,
    )


def _counts(dataset: Dataset) -> dict[str, int]:
    sizes = {split: len(dataset.facts[split]) for split in SPLITS}
    return {"entities": dataset.num_entities, "relations": dataset.num_relations, **sizes}


def _check(dataset: Dataset) -> None:
    if not dataset.name.strip():
        raise DatasetError("the name is empty; give the graph one", file=HEADER)
    check_text([dataset.name], HEADER, [1])
    check_names(dataset.entities, "entities.tsv")
    check_names(dataset.relations, "relations.tsv")
    for what, texts in (("descriptions", dataset.descriptions), ("pictures", dataset.pictures)):
        if len(texts) != dataset.num_entities:
            message = f'{len(texts)} {what} for {dataset.num_entities} entities; one each, "" for none'
            raise DatasetError(message, file="entities.tsv")
        check_text(texts, "entities.tsv", range(2, dataset.num_entities + 2))
    list(picture_files(dataset.pictures, dataset.picture_folder, "entities.tsv"))
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


def _compare(dataset: Dataset, header: Header, file: Path) -> None:
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
