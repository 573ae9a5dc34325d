"""Whatever is wrong with a dataset is found where it is opened or made, and named with its remedy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from momok.model.networks.modality import Modality
from momok.training.data.dataset import STRUCTURE, Dataset, DatasetError

Damage = Callable[[Path], None]


def text(file: str, old: str, new: str) -> Damage:
    """Replace in a file what must be there."""

    def damage(root: Path) -> None:
        before = (root / file).read_bytes()
        assert old.encode() in before
        (root / file).write_bytes(before.replace(old.encode(), new.encode(), 1))

    return damage


def whole(file: str, content: bytes) -> Damage:
    def damage(root: Path) -> None:
        (root / file).write_bytes(content)

    return damage


def folder_instead(file: str) -> Damage:
    def damage(root: Path) -> None:
        (root / file).unlink()
        (root / file).mkdir()

    return damage


def gone(file: str) -> Damage:
    return lambda root: (root / file).unlink()


def numeric(features: Any, rows: Any, **more: Any) -> Damage:
    """The modality of one number replaced."""
    tensors = {"features": np.asarray(features), "rows": np.asarray(rows), **more}
    return lambda root: save_file(tensors, root / "modalities" / "numeric.safetensors")


def f32(values: Any) -> npt.NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


DAMAGES: list[tuple[Damage, str]] = [
    (gone("dataset.json"), r"dataset.json: no such file; .*momok import"),
    (whole("dataset.json", b"{"), r"dataset.json: not JSON .*; import the graph again"),
    (whole("dataset.json", b"\xff"), r"dataset.json: not JSON"),
    (whole("dataset.json", b"[]"), r"dataset.json: format version None is unknown; this momok reads 1"),
    (text("dataset.json", '"format_version": 1', '"format_version": 2'), r"version 2 is unknown; .* reads 1"),
    (text("dataset.json", '"name": "small"', '"nome": "small"'), r"dataset.json: name: Field required"),
    (text("dataset.json", '"name": "small"', '"name": ""'), r"dataset.json: the name is empty; give"),
    (text("dataset.json", '"name": "small"', '"name": "a\\nb"'), r"dataset.json:1: .*one line without tabs"),
    (text("dataset.json", '"counts": {', '"counts": {"x": "y",'), r"dataset.json: counts.x: .*integer"),
    (text("dataset.json", '"entities": 5', '"entities": 6'), r"counts 6 entities, the files hold 5"),
    (text("dataset.json", '"train": 5', '"trian": 5'), r"counts None train, the files hold 5; import again"),
    (text("dataset.json", '"fingerprint": "', '"fingerprint": "x'), r"dataset.json: fingerprint 'x.*changed"),
    (text("dataset.json", '"name": "text"', '"name": "Text"'), r"dataset.json: modality name 'Text' must be"),
    (text("dataset.json", '"name": "text"', '"name": "te-xt"'), r"modality name 'te-xt' must be"),
    (text("dataset.json", '"name": "text"', '"name": "joint"'), r"modality name 'joint' is reserved"),
    (text("dataset.json", '"name": "structure"', '"name": "joint"'), r"modality name 'joint' is reserved"),
    (text("dataset.json", "modalities/text", "../text"), r"features '../text.*'modalities/text.*is right"),
    (text("dataset.json", '"modalities/text.safetensors"', "null"), r"text.safetensors: not listed"),
    (text("entities.tsv", "id\tkey", "id\tname"), r"entities.tsv:1: columns are .*id key label \["),
    (text("relations.tsv", "label", "label\tpicture"), r"relations.tsv:1: columns are .*id key label \(tab"),
    (whole("entities.tsv", b""), r"entities.tsv:1: columns are \[\]"),
    (text("entities.tsv", "2\tQ2", "7\tQ2"), r"entities.tsv:4: id '7'; ids count up from 0, so here 2"),
    (text("entities.tsv", "Q2\tRome", "Q2 Rome"), r"entities.tsv:4: 4 columns; the first line names 5"),
    (text("entities.tsv", "Rome", "Ro\tme"), r"entities.tsv:4: 6 columns; the first line names 5"),
    (text("entities.tsv", "Q2", "Q1"), r"entities.tsv:4: entity key 'Q1' stands on line 3 already; .*unique"),
    (text("entities.tsv", "Q2", " "), r"entities.tsv:4: empty entity key; every entity needs one"),
    (text("entities.tsv", "Rome", ""), r"entities.tsv:4: empty label; repeat the key"),
    (text("entities.tsv", "Rome", "Ro\rme"), r"entities.tsv:4: 'Ro\\rme' holds '\\r'; .*without tabs"),
    (text("entities.tsv", "a prince", "a\0prince"), r"entities.tsv:6: .* holds '\\x00'"),
    (whole("entities.tsv", b"id\tkey\tlabel\n0\tQ\xe9\tx\n"), r"entities.tsv:2: not UTF-8 .byte 0xe9"),
    (text("relations.tsv", "P1", "P0"), r"relations.tsv:3: relation key 'P0' stands on line 2 already"),
    (gone("relations.tsv"), r"relations.tsv: no such file; is this the right directory"),
    (folder_instead("valid.tsv"), r"valid.tsv: cannot be read \(Is a directory\); a readable file is needed"),
    (folder_instead("modalities/text.safetensors"), r"text.safetensors: not readable as safetensors"),
    (gone("valid.tsv"), r"valid.tsv: no such file; is this the right directory"),
    (text("train.tsv", "2\t1\t3", "2\t1"), r"train.tsv:4: '2\\t1' is not a fact; three ids are needed"),
    (text("train.tsv", "2\t1\t3", "2\t1\t3\t4"), r"train.tsv:4: .* is not a fact; three ids"),
    (text("train.tsv", "2\t1\t3", "2\tx\t3"), r"train.tsv:4: .* is not a fact"),
    (text("train.tsv", "2\t1\t3", "2\t1\t-3"), r"train.tsv:4: .* is not a fact"),
    (text("train.tsv", "2\t1\t3", ""), r"train.tsv:4: '' is not a fact"),
    (text("train.tsv", "2\t1\t3", "9" * 30 + "\t1\t3"), r"train.tsv:4: .* is not a fact"),
    (text("train.tsv", "2\t1\t3", "2\t1\t5"), r"train.tsv:4: tail 5 is not an entity id; .*0 to 4"),
    (text("train.tsv", "2\t1\t3", "6\t1\t3"), r"train.tsv:4: head 6 is not an entity id; .*0 to 4"),
    (text("test.tsv", "2\t1\t3", "2\t3\t3"), r"test.tsv:2: relation 3 is not a relation id; .*0 to 2"),
    (whole("train.tsv", b""), r"train.tsv: no facts; a model needs some"),
    (text("train.tsv", "2\t1\t3", "2\t1\t4"), r"dataset.json: fingerprint"),
    (gone("modalities/text.safetensors"), r"text.safetensors: no such file; import again, or drop 'text'"),
    (whole("modalities/text.safetensors", b"junk"), r"text.safetensors: not readable as safetensors"),
    (whole("modalities/stray.safetensors", b""), r"stray.safetensors: not listed in dataset.json; list it"),
    (numeric([[1], [2]], [3, 0], more=np.ones(1)), r"holds \['features', 'more', 'rows'\]; 'features' and"),
    (numeric(f32([1, 2]), [3, 0]), r"numeric.safetensors: features are float32\[2\]; float16 or float32"),
    (numeric([[1.0], [2.0]], [3, 0]), r"features are float64\[2, 1\]; float16 or float32"),
    (numeric(np.ones((2, 0), np.float32), [3, 0]), r"features are float32\[2, 0\]; float16 or"),
    (numeric(f32([[1], [2]]), [3, 0, 1]), r"rows are int64\[3\]; int64\[2\] is needed, one entity id a row"),
    (numeric(f32([[1], [2]]), np.array([3, 0], np.int32)), r"rows are int32\[2\]; int64\[2\] is needed"),
    (numeric(f32([[1], [2]]), [3, 3]), r"numeric.safetensors: entity 'Q3' has several rows; one each"),
    (numeric(f32([[1], [2]]), [3, 5]), r"rows\[1\] = 5 is not an entity id; 0 to 4"),
    (numeric(f32([[1], [2]]), [-1, 0]), r"rows\[0\] = -1 is not an entity id"),
    (numeric(f32([[1], [np.nan]]), [3, 0]), r"features\[1, 0\] of entity 'Q0' is nan; leave out the row"),
    (numeric(f32([[np.inf], [1]]), [3, 0]), r"features\[0, 0\] of entity 'Q3' is inf; leave out"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "words"), DAMAGES, ids=[words[:60] for _, words in DAMAGES])
def test_damage_is_found_and_named(small: Dataset, tmp_path: Path, damage: Damage, words: str) -> None:
    small.write(tmp_path / "small")
    damage(tmp_path / "small")
    with pytest.raises(DatasetError, match=words) as caught:
        Dataset.open(tmp_path / "small")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'small'}/"), "the file is named by its whole path"
    assert "\n" not in message


TEXT = Modality("text", np.ones((1, 2), np.float32), np.array([0]))
WRONG_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"modalities": ()}, r"modalities without features: \[\]; exactly one, listed first"),
    ({"modalities": (TEXT,)}, r"modalities without features: \[\]; exactly one"),
    ({"modalities": (TEXT, STRUCTURE)}, r"modalities without features: \['structure'\]; .* listed first"),
    (
        {"modalities": (STRUCTURE, Modality("more"))},
        r"without features: \['structure', 'more'\]; exactly one",
    ),
    ({"modalities": (STRUCTURE, TEXT, TEXT)}, r"modalities .* repeat a name; each is listed once"),
    ({"modalities": (STRUCTURE, Modality("text", TEXT.features))}, r"rows are None; int64\[1\] is needed"),
    ({"descriptions": ("one",)}, r"entities.tsv: 1 descriptions for 5 entities; one each"),
    ({"pictures": ("one",)}, r"entities.tsv: 1 pictures for 5 entities; one each"),
    ({"descriptions": ("", "", "a\tb", "", "")}, r"entities.tsv:4: 'a\\tb' holds '\\t'"),
    ({"descriptions": ("", "", "\ud800", "", "")}, r"entities.tsv:4: '\\ud800' holds"),
    ({"facts": {}}, r"splits are \[\]; train, valid, test are needed"),
]


@pytest.mark.parametrize(("fields", "words"), WRONG_FIELDS)
def test_the_constructor_refuses_what_open_would(small: Dataset, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        dataclasses.replace(small, **fields)


def test_facts_of_another_shape_are_refused(small: Dataset) -> None:
    wrong = {**small.facts, "valid": np.zeros((2, 2), dtype=np.int64)}
    with pytest.raises(
        DatasetError, match=r"valid.tsv: facts are int64\[2, 2\]; they must be int64\[num_facts"
    ):
        dataclasses.replace(small, facts=wrong)
