"""Dataset: written and opened again it is the same; failures leave nothing behind."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import struct
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momok.model.bundle.names import Names
from momok.training.data.dataset import STRUCTURE, Dataset, DatasetError


def assert_same(found: Dataset, expected: Dataset) -> None:
    for field in ("name", "descriptions", "pictures", "provenance", "fingerprint"):
        assert getattr(found, field) == getattr(expected, field)
    for names in ("entities", "relations"):
        assert getattr(found, names).keys == getattr(expected, names).keys
        assert getattr(found, names).labels == getattr(expected, names).labels
    for split in ("train", "valid", "test"):
        assert found.facts[split].dtype == np.int64
        assert found.facts[split].tolist() == expected.facts[split].tolist()
    assert [modality.name for modality in found.modalities] == [m.name for m in expected.modalities]
    for one, other in zip(found.modalities, expected.modalities, strict=True):
        assert (one.features is None) == (other.features is None)
        if one.features is not None and other.features is not None:
            assert one.features.dtype == other.features.dtype
            assert one.features.tobytes() == other.features.tobytes()
            assert one.rows is not None and other.rows is not None
            assert one.rows.tolist() == other.rows.tolist()


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_opening_what_was_written_gives_the_same(data: st.DataObject, datasets: Any) -> None:
    dataset = data.draw(datasets)
    with tempfile.TemporaryDirectory() as folder:
        dataset.write(Path(folder) / "graph")
        assert_same(Dataset.open(Path(folder) / "graph"), dataset)


def plain_fingerprint(dataset: Dataset) -> str:
    stream = b""
    for keys in (dataset.entities.keys, dataset.relations.keys):
        stream += str(len(keys)).encode() + b"\n"
        for key in keys:
            stream += key.encode() + b"\n"
    for split in ("train", "valid", "test"):
        facts = dataset.facts[split].tolist()
        stream += f"{split} {len(facts)}\n".encode()
        for head, relation, tail in sorted(facts, key=lambda fact: (fact[2], fact[1], fact[0])):
            stream += struct.pack("<qqq", head, relation, tail)
    return hashlib.sha256(stream).hexdigest()


def test_fingerprint_is_the_documented_hash(small: Dataset) -> None:
    assert small.fingerprint == plain_fingerprint(small)


def test_feature_digests_are_those_of_the_stored_arrays(small: Dataset, tmp_path: Path) -> None:
    expected = {
        modality.name: hashlib.sha256(
            b"%s %s\n%s" % (str(features.dtype).encode(), str(features.shape).encode(), features.tobytes())
            + f"int64 {rows.shape}\n".encode()
            + rows.tobytes()
        ).hexdigest()
        for modality in small.modalities
        if (features := modality.features) is not None and (rows := modality.rows) is not None
    }
    assert set(expected) == {"text", "numeric"}
    small.write(tmp_path / "dataset")
    for dataset in (small, Dataset.open(tmp_path / "dataset")):
        assert dataset.feature_digests(["structure", "text", "numeric"]) == expected
        assert dataset.feature_digests(["structure", "text"]) == {"text": expected["text"]}


def test_fingerprint_forgets_line_order_labels_and_features_alone(small: Dataset) -> None:
    def changed(**fields: Any) -> str:
        return dataclasses.replace(small, **fields).fingerprint

    train = small.facts["train"]
    keys = small.entities.keys
    assert changed(facts={**small.facts, "train": train[::-1]}) == small.fingerprint
    assert changed(entities=Names("entity", keys, keys)) == small.fingerprint
    assert changed(modalities=(STRUCTURE,)) == small.fingerprint
    assert changed(facts={**small.facts, "train": train[1:]}) != small.fingerprint  # one copy fewer
    assert changed(facts={**small.facts, "test": train}) != small.fingerprint
    renamed = ["Q9", *keys[1:]]
    assert changed(entities=Names("entity", renamed, renamed)) != small.fingerprint


def test_what_the_trainer_reads(small: Dataset) -> None:
    assert (small.num_entities, small.num_relations) == (5, 3)
    assert small.seen_entities().tolist() == [0, 1, 2, 3]
    answers, codes = small.known().of(0, 0)
    assert answers.tolist() == [1]
    assert codes.tolist() == [0b011]  # train and valid
    answers, codes = small.known().of(0, 1 + 3)  # heads of a fact near 0
    assert answers.tolist() == [1, 3]
    assert codes.tolist() == [0b110, 0b001]


def test_the_directory_is_as_documented(small: Dataset, tmp_path: Path) -> None:
    small.write(tmp_path / "new" / "small")
    root = tmp_path / "new" / "small"
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    tables = {"entities.tsv", "relations.tsv", "train.tsv", "valid.tsv", "test.tsv"}
    assert files == {"dataset.json", "modalities/text.safetensors", "modalities/numeric.safetensors"} | tables
    assert (root / "entities.tsv").read_text().split("\n")[:2] == [
        "id\tkey\tlabel\tdescription\tpicture",
        "0\tQ0\tParis\ta city\thttps://example.org/paris.png",
    ]
    assert (root / "relations.tsv").read_text().split("\n")[1] == "0\tP0\tcapital of"
    assert (root / "valid.tsv").read_bytes() == b"0\t0\t1\n1\t1\t0\n"
    assert json.loads((root / "dataset.json").read_text())["counts"] == {
        "entities": 5, "relations": 3, "train": 5, "valid": 2, "test": 4,
    }  # fmt: skip


def test_other_users_may_read_what_is_written(small: Dataset, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        small.write(tmp_path / "small")
    finally:
        os.umask(before)
    for path in (tmp_path / "small").rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044, path


def test_tables_saved_by_a_windows_editor_open(small: Dataset, tmp_path: Path) -> None:
    small.write(tmp_path / "small")
    for path in (tmp_path / "small").glob("*.tsv"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    table = tmp_path / "small" / "entities.tsv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert_same(Dataset.open(tmp_path / "small"), small)


def test_180_000_facts_open_in_about_a_second(tmp_path: Path) -> None:
    keys = [f"entity {index}" for index in range(16_000)]
    facts = np.random.default_rng(0).integers(0, [16_000, 4, 16_000], size=(180_000, 3))
    none = np.empty((0, 3), dtype=np.int64)
    dataset = Dataset(
        name="large",
        entities=Names("entity", keys, keys),
        relations=Names("relation", list("abcd"), list("abcd")),
        descriptions=("",) * len(keys),
        facts={"train": facts, "valid": none, "test": none},
        modalities=(STRUCTURE,),
        provenance={},
    )
    dataset.write(tmp_path / "large")
    start = time.perf_counter()
    Dataset.open(tmp_path / "large")
    assert time.perf_counter() - start < 3  # about 0.2 on an idle machine


def test_an_existing_target_is_refused_and_kept(small: Dataset, tmp_path: Path) -> None:
    for target in (tmp_path / "folder", tmp_path / "link"):
        if target.name == "link":
            target.symlink_to("nowhere")
        else:
            target.mkdir()
        with pytest.raises(DatasetError, match=f"{target.name}: exists already; choose another"):
            small.write(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_nothing(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("momok.training.data.dataset.write_modality", fail)
    is_mendable = isinstance(failure, OSError)
    words = r"small: cannot be written \(No space left on device\); is there room" if is_mendable else None
    with pytest.raises(DatasetError if is_mendable else KeyboardInterrupt, match=words):
        small.write(tmp_path / "small")
    assert not list(tmp_path.iterdir())


def test_every_file_is_synced_before_the_rename(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    rename = Path.rename

    def fsync(handle: int) -> None:
        events.append(Path(f"/proc/self/fd/{handle}").readlink().name)

    def renamed(self: Path, target: Path) -> Path:
        events.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    small.write(tmp_path / "small")
    before = events[: events.index("rename")]
    assert {"dataset.json", "entities.tsv", "train.tsv", "text.safetensors", "modalities"} <= set(before)
    assert events[-1] == tmp_path.name


def test_provenance_that_is_not_json_is_refused(small: Dataset, tmp_path: Path) -> None:
    for value in (object(), float("nan")):
        with pytest.raises(DatasetError, match=r"provenance cannot become JSON .*; give plain values"):
            dataclasses.replace(small, provenance={"x": value}).write(tmp_path / "small")
    assert not list(tmp_path.iterdir())
