"""DatasetReport: the counts of a graph, and the flaws that bear on its scores."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from momok.model.arrays import Int64
from momok.model.filter_index import SPLITS
from momok.model.networks.modality import Modality
from momok.training.data.dataset import Dataset


@dataclass(frozen=True)
class SplitReport:
    """``num_facts`` lines, ``num_distinct`` among them; lines with an entity or relation unseen in train."""

    name: str
    num_facts: int
    num_distinct: int
    num_with_unseen_entity: int
    num_with_unseen_relation: int


@dataclass(frozen=True)
class SharedFacts:
    """Distinct facts that stand in both of two splits."""

    first: str
    second: str
    num_facts: int


@dataclass(frozen=True)
class ModalityReport:
    """``share`` of all entities that have it; ``width`` and ``dtype`` are None where it is learned."""

    name: str
    num_entities: int
    share: float
    width: int | None
    dtype: str | None


@dataclass(frozen=True)
class DatasetReport:
    """Counts of a dataset, ``problems`` that make scores on it misleading, and harmless ``notices``."""

    name: str
    fingerprint: str
    num_entities: int
    num_relations: int
    splits: tuple[SplitReport, ...]
    shared: tuple[SharedFacts, ...]
    num_unseen_entities: int
    num_unseen_relations: int
    num_ambiguous_entity_labels: int
    num_ambiguous_relation_labels: int
    modalities: tuple[ModalityReport, ...]
    problems: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        """For people: the counts, then a line for each problem and each notice."""
        lines = [
            f"{self.name} ({self.fingerprint[:12]})",
            f"  {self.num_entities:,} entities, {self.num_relations:,} relations",
        ]
        lines += [
            f"  {split.name:<5} {split.num_facts:>9,} facts, {split.num_distinct:,} distinct"
            for split in self.splits
        ]
        lines += [f"  modality {_describe(modality)}" for modality in self.modalities]
        lines += [f"problem: {text}" for text in self.problems]
        return lines + [f"notice: {text}" for text in self.notices]


def report(dataset: Dataset) -> DatasetReport:
    """Count everything, and judge it."""
    distinct, shared = _compare_splits(dataset.facts)
    seen_entities, seen_relations = dataset.seen_entities(), np.unique(dataset.facts["train"][:, 1])
    counted = DatasetReport(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        num_entities=dataset.num_entities,
        num_relations=dataset.num_relations,
        splits=tuple(
            SplitReport(
                name=split,
                num_facts=len(facts),
                num_distinct=distinct[split],
                num_with_unseen_entity=int((~np.isin(facts[:, [0, 2]], seen_entities)).any(axis=1).sum()),
                num_with_unseen_relation=int((~np.isin(facts[:, 1], seen_relations)).sum()),
            )
            for split, facts in ((split, dataset.facts[split]) for split in SPLITS)
        ),
        shared=shared,
        num_unseen_entities=dataset.num_entities - len(seen_entities),
        num_unseen_relations=dataset.num_relations - len(seen_relations),
        num_ambiguous_entity_labels=dataset.entities.ambiguous_labels(),
        num_ambiguous_relation_labels=dataset.relations.ambiguous_labels(),
        modalities=tuple(_measure(modality, dataset.num_entities) for modality in dataset.modalities),
    )
    return dataclasses.replace(counted, problems=tuple(_problems(counted)), notices=tuple(_notices(counted)))


def _compare_splits(facts: dict[str, Int64]) -> tuple[dict[str, int], tuple[SharedFacts, ...]]:
    """Distinct facts of each split, and how many each pair of splits shares."""
    together = np.concatenate([facts[split] for split in SPLITS])
    _, identity = np.unique(together, axis=0, return_inverse=True)
    ends = np.cumsum([len(facts[split]) for split in SPLITS])[:-1]
    parts = dict(zip(SPLITS, map(np.unique, np.split(identity.reshape(-1), ends)), strict=True))
    shared = tuple(
        SharedFacts(first, second, len(np.intersect1d(parts[first], parts[second], assume_unique=True)))
        for first, second in combinations(SPLITS, 2)
    )
    return {split: len(part) for split, part in parts.items()}, shared


def _measure(modality: Modality, num_entities: int) -> ModalityReport:
    present = int(modality.present(num_entities).sum())
    features = modality.features
    width, dtype = (None, None) if features is None else (features.shape[1], str(features.dtype))
    return ModalityReport(modality.name, present, present / num_entities, width, dtype)


def _describe(modality: ModalityReport) -> str:
    if modality.width is None:
        return f"{modality.name}: learned per entity"
    held = f"{modality.num_entities:,} entities ({modality.share:.1%})"
    return f"{modality.name}: {held}, {modality.width:,} wide, {modality.dtype}"


def _problems(found: DatasetReport) -> list[str]:
    """Flaws that make a score on this graph mean less than it seems."""
    distinct = {split.name: split.num_distinct for split in found.splits}
    remedies = {
        ("train", "valid"): "choosing a model on valid rewards memory; import with --holdout 0.1",
        ("train", "test"): "scores on test are inflated",
        ("valid", "test"): "choosing a model on valid is choosing on test; import with --holdout 0.1",
    }
    problems = []
    for pair in found.shared:
        if pair.num_facts:
            count = f"{pair.num_facts:,} of {distinct[pair.second]:,} distinct {pair.second} facts"
            problems.append(f"{count} stand in {pair.first}: {remedies[pair.first, pair.second]}")
    if not distinct["valid"]:
        problems.append("no valid facts: no model can be chosen; import with --holdout 0.1")
    if not distinct["test"]:
        problems.append("no test facts: no score can be reported")
    return problems


def _notices(found: DatasetReport) -> list[str]:
    """Oddities that do no harm to a score."""
    notices = [
        f"{split.name} facts that repeat another one: {repeats:,} of {split.num_facts:,}"
        for split in found.splits
        if (repeats := split.num_facts - split.num_distinct)
    ]
    entities = ("entities", found.num_unseen_entities, found.num_entities)
    relations = ("relations", found.num_unseen_relations, found.num_relations)
    for kind, number, total in (entities, relations):
        if number:
            notices.append(f"{kind} never seen in train: {number:,} of {total:,}")
    for split in found.splits:
        numbers = {"an entity": split.num_with_unseen_entity, "a relation": split.num_with_unseen_relation}
        for kind, number in numbers.items():
            if number:
                share = f"{number:,} of {split.num_facts:,} ({number / split.num_facts:.1%})"
                notices.append(f"{split.name} facts that hold {kind} never seen in train: {share}")
    shared = {"entity": found.num_ambiguous_entity_labels, "relation": found.num_ambiguous_relation_labels}
    for kind, number in shared.items():
        if number:
            notices.append(f"{kind} labels that do not name one alone: {number:,} (use their keys)")
    return notices
