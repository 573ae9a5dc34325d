"""The report on a dataset: counted by hand here, and against the flaws known of public graphs elsewhere."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from momok.training.data.dataset import Dataset
from momok.training.data.report import report


def test_report_counts_what_a_hand_counts(small: Dataset) -> None:
    found = report(small)
    splits = [(split.num_facts, split.num_distinct) for split in found.splits]
    assert splits == [(5, 4), (2, 2), (4, 4)]
    shared = [(pair.first, pair.second, pair.num_facts) for pair in found.shared]
    assert shared == [("train", "valid", 1), ("train", "test", 1), ("valid", "test", 1)]
    assert [split.num_with_unseen_entity for split in found.splits] == [0, 0, 1]
    assert [split.num_with_unseen_relation for split in found.splits] == [0, 0, 1]
    assert (found.num_unseen_entities, found.num_unseen_relations) == (1, 1)
    assert (found.num_ambiguous_entity_labels, found.num_ambiguous_relation_labels) == (1, 0)
    structure, text_report, numeric_report = found.modalities
    assert (structure.num_entities, structure.width, structure.dtype) == (5, None, None)
    assert (text_report.share, text_report.width, text_report.dtype) == (1.0, 3, "float16")
    assert (numeric_report.num_entities, numeric_report.share, numeric_report.dtype) == (2, 0.4, "float32")


def test_report_reads_as_lines_and_as_json(small: Dataset) -> None:
    found = report(small)
    assert json.loads(json.dumps(found.as_dict()))["splits"][0]["num_distinct"] == 4
    lines = found.lines()
    assert lines[1] == "  5 entities, 3 relations"
    for line in (
        "  train         5 facts, 4 distinct",
        "  modality numeric: 2 entities (40.0%), 1 wide, float32",
        "problem: 1 of 4 distinct test facts stand in train: scores on test are inflated",
        "notice: train facts that repeat another one: 1 of 5",
        "notice: entities never seen in train: 1 of 5",
        "notice: relations never seen in train: 1 of 3",
        "notice: test facts that hold an entity never seen in train: 1 of 4 (25.0%)",
        "notice: test facts that hold a relation never seen in train: 1 of 4 (25.0%)",
        "notice: entity labels that do not name one alone: 1 (use their keys)",
    ):
        assert line in lines
    assert sum(line.startswith("problem: ") for line in lines) == 3


def test_report_misses_empty_splits(small: Dataset) -> None:
    none = np.empty((0, 3), dtype=np.int64)
    found = report(
        dataclasses.replace(small, facts={"train": small.facts["train"], "valid": none, "test": none})
    )
    assert [text.partition(":")[0] for text in found.problems] == ["no valid facts", "no test facts"]
