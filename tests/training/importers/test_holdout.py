"""Hold-out: a share of each relation leaves train, whole, and by the seed alone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from momok.model.bundle.names import Names
from momok.training.data.dataset import STRUCTURE, Dataset, DatasetError
from momok.training.data.report import report
from momok.training.importers import import_dataset
from momok.training.importers.holdout import hold_out

SIZES = {0: 40, 1: 14, 2: 4, 3: 1}  # distinct facts of each relation


@pytest.fixture
def dataset() -> Dataset:
    """Some facts stand in train two or three times; valid is a part of train."""
    generator = np.random.default_rng(3)
    distinct = [(i % 7, relation, i % 11) for relation, size in SIZES.items() for i in range(size)]
    train = np.array(distinct + distinct[::3] + distinct[::6])
    generator.shuffle(train)
    keys = [str(index) for index in range(11)]
    return Dataset(
        name="repeats",
        entities=Names("entity", keys, keys),
        relations=Names("relation", keys[:4], keys[:4]),
        descriptions=("",) * 11,
        facts={"train": train, "valid": train[:9], "test": train[:2]},
        modalities=(STRUCTURE,),
        provenance={"source": "here"},
    )


def as_tuples(facts: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(fact) for fact in facts.tolist()]


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_each_relation_gives_its_share_with_all_copies(dataset: Dataset, fraction: float) -> None:
    found = hold_out(dataset, fraction, seed=7)
    valid = as_tuples(found.facts["valid"])
    assert len(set(valid)) == len(valid)
    expected = {r: round(fraction * n) for r, n in SIZES.items() if round(fraction * n)}
    assert Counter(relation for _, relation, _ in valid) == expected
    before = as_tuples(dataset.facts["train"])
    assert set(valid) <= set(before)
    assert as_tuples(found.facts["train"]) == [fact for fact in before if fact not in set(valid)]
    assert found.facts["test"].tolist() == dataset.facts["test"].tolist()


def test_the_seed_decides_and_the_order_of_lines_does_not(dataset: Dataset) -> None:
    train = dataset.facts["train"].copy()
    np.random.default_rng(1).shuffle(train)
    other = dataclasses.replace(dataset, facts={**dataset.facts, "train": train})
    first, again = hold_out(dataset, 0.2, 7), hold_out(dataset, 0.2, 7)
    reordered, reseeded = hold_out(other, 0.2, 7), hold_out(dataset, 0.2, 8)
    assert first.facts["valid"].tolist() == again.facts["valid"].tolist()
    assert first.facts["train"].tolist() == again.facts["train"].tolist()
    assert first.facts["valid"].tolist() == reordered.facts["valid"].tolist()
    assert first.fingerprint == reordered.fingerprint
    assert first.facts["valid"].tolist() != reseeded.facts["valid"].tolist()


def test_provenance_tells_of_it(dataset: Dataset) -> None:
    note = {"fraction": 0.1, "seed": 7, "num_facts": 5, "num_released_valid_dropped": 9}
    assert hold_out(dataset, 0.1, 7).provenance == {"source": "here", "holdout": note}


@pytest.mark.parametrize(
    ("fraction", "words"),
    [
        (0.0, r"holdout 0.0 is not a share; give one between 0 and 1"),
        (1.0, r"holdout 1.0 is not a share"),
        (float("nan"), r"holdout nan is not a share"),
        (0.001, r"holdout 0.001 takes no fact of train; give another share"),
        (0.999, r"holdout 0.999 takes all facts of train"),
    ],
)
def test_shares_that_leave_a_split_empty_are_refused(dataset: Dataset, fraction: float, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        hold_out(dataset, fraction, seed=0)


def test_a_negative_seed_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("a\tr\tb\nb\tr\tc\n")
    with pytest.raises(DatasetError, match="--seed"):
        import_dataset(tmp_path, "tsv", holdout=0.5, seed=-1)


def test_import_holds_out_where_there_is_no_valid(tmp_path: Path) -> None:
    facts = [f"h{index}\tr\tt{index % 3}" for index in range(20)]
    (tmp_path / "train.tsv").write_text("\n".join(facts))
    dataset = import_dataset(tmp_path, "tsv", holdout=0.25, seed=1)
    assert (len(dataset.facts["train"]), len(dataset.facts["valid"])) == (15, 5)
    assert dataset.provenance["holdout"]["seed"] == 1


def test_db15k_becomes_clean(shared: Path) -> None:
    released = import_dataset(shared / "data" / "DB15K", "openke")
    clean = import_dataset(shared / "data" / "DB15K", "openke", holdout=0.1, seed=7)
    assert report(released).problems
    assert not report(clean).problems
    counts = Counter(released.facts["train"][:, 1].tolist())
    expected = sum(round(0.1 * count) for count in counts.values())
    assert len(clean.facts["valid"]) == expected == 79_222 - len(clean.facts["train"])
