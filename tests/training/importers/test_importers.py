"""Importers: the three public layouts with their quirks, labels, and the graphs as published."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from momok.training.data.dataset import Dataset, DatasetError
from momok.training.data.report import report
from momok.training.importers import import_dataset

SPLITS = ("train", "valid", "test")


def lay_out(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content.encode())
    return folder


OPENKE = {
    "entity2id.txt": "3\nNew York\t1\n<http://Paris> 0\nfull . stop  2\n",
    "relation2id.txt": "2\nis near\t0\nin 1\n",
    "train2id.txt": "2\n0 1 0\n2 1 1\n",
    "valid2id.txt": "1\r\n1 2 0\r\n",
    "test2id.txt": "0\n",
}
MOMOK = {
    "entity2id.txt": "Paris 0\nNew York\t1\nMr .\t2\n",
    "relation2id.txt": "near 0\nis in\t1\n",
    "train.txt": "Paris near Paris .\nNew York\tis in\tParis .\nParis\tnear\tMr .\nParis\tnear\tMr . .\n",
    "valid.txt": "Paris\tnear\tNew York\t.\r\n\r\n",
    "test.txt": "Paris   near Paris\n",
}
TSV = {
    "train.tsv": "head\trelation\ttail\nParis\tin\tFrance\nNew York\tnear\tParis\n\n",
    "test.txt": "Rome\tin\tItaly .\n",
}


def triples(dataset: Dataset, split: str) -> list[tuple[str, str, str]]:
    entities, relations = dataset.entities.keys, dataset.relations.keys
    return [(entities[h], relations[r], entities[t]) for h, r, t in dataset.facts[split].tolist()]


def test_openke_holds_counts_and_facts_as_head_tail_relation(tmp_path: Path) -> None:
    dataset = import_dataset(lay_out(tmp_path, OPENKE), "openke", name="small")
    assert dataset.name == "small"
    assert dataset.entities.keys == dataset.entities.labels == ("<http://Paris>", "New York", "full . stop")
    assert dataset.relations.keys == ("is near", "in")
    assert dataset.facts["train"].tolist() == [[0, 0, 1], [2, 1, 1]]
    assert dataset.facts["valid"].tolist() == [[1, 0, 2]]
    assert dataset.facts["test"].shape == (0, 3)
    assert [modality.name for modality in dataset.modalities] == ["structure"]
    assert (dataset.provenance["source"], dataset.provenance["layout"]) == (str(tmp_path), "openke")


def test_momok_holds_names_and_a_full_stop(tmp_path: Path) -> None:
    dataset = import_dataset(lay_out(tmp_path, MOMOK), "momok")
    assert dataset.name == tmp_path.name
    assert dataset.entities.keys == ("Paris", "New York", "Mr .")
    assert dataset.facts["train"].tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 2], [0, 0, 2]]
    assert dataset.facts["valid"].tolist() == [[0, 0, 1]]
    assert dataset.facts["test"].tolist() == [[0, 0, 0]]


def test_tsv_numbers_names_as_they_appear(tmp_path: Path) -> None:
    dataset = import_dataset(lay_out(tmp_path, TSV), "tsv")
    assert dataset.entities.keys == ("Paris", "France", "New York", "Rome", "Italy .")
    assert dataset.relations.keys == ("in", "near")
    assert triples(dataset, "train") == [("Paris", "in", "France"), ("New York", "near", "Paris")]
    assert triples(dataset, "test") == [("Rome", "in", "Italy .")]
    assert not len(dataset.facts["valid"])


def as_openke(dataset: Dataset) -> dict[str, str]:
    files = {}
    for kind, names in (("entity", dataset.entities), ("relation", dataset.relations)):
        rows = "".join(f"{key}\t{index}\n" for index, key in enumerate(names.keys))
        files[f"{kind}2id.txt"] = f"{len(names)}\n{rows}"
    for split, facts in dataset.facts.items():
        files[f"{split}2id.txt"] = f"{len(facts)}\n" + "".join(f"{h} {t} {r}\n" for h, r, t in facts.tolist())
    return files


def as_momok(dataset: Dataset) -> dict[str, str]:
    counted = as_openke(dataset)
    files = {name: counted[name].partition("\n")[2] for name in ("entity2id.txt", "relation2id.txt")}
    for split in SPLITS:
        files[f"{split}.txt"] = "".join("\t".join(fact) + "\t.\n" for fact in triples(dataset, split))
    return files


def as_tsv(dataset: Dataset) -> dict[str, str]:
    return {
        f"{split}.tsv": "".join("\t".join(fact) + "\n" for fact in triples(dataset, split))
        for split in SPLITS
    }


@pytest.mark.parametrize("layout", ["openke", "momok", "tsv"])
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_importing_what_was_exported_gives_the_same_graph(
    data: st.DataObject, datasets: st.SearchStrategy[Dataset], layout: str
) -> None:
    dataset = data.draw(datasets)
    keys = dataset.entities.keys + dataset.relations.keys
    assume(
        not any(key.startswith("\ufeff") for key in keys)
    )  # a byte order mark, where a file begins with it
    exporter = {"openke": as_openke, "momok": as_momok, "tsv": as_tsv}[layout]
    with tempfile.TemporaryDirectory() as folder:
        found = import_dataset(lay_out(Path(folder), exporter(dataset)), layout)
    assert [triples(found, split) for split in SPLITS] == [triples(dataset, split) for split in SPLITS]
    if layout != "tsv":
        assert found.fingerprint == dataset.fingerprint


def test_labels_beside_the_graph_are_found(tmp_path: Path) -> None:
    lay_out(tmp_path, TSV)
    lay_out(tmp_path, {"entity_labels.tsv": "Rome\tRoma\ta city\trome.png\n\nParis\t\tanother\n"})
    lay_out(tmp_path, {"relation_labels.tsv": "near\tis near to\r\n"})
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "rome.png").touch()
    dataset = import_dataset(tmp_path, "tsv")
    assert dataset.entities.labels == ("Paris", "France", "New York", "Roma", "Italy .")
    assert dataset.descriptions == ("another", "", "", "a city", "")
    assert dataset.pictures == ("", "", "", "rome.png", "")
    assert dataset.relations.labels == ("in", "is near to")
    assert dataset.provenance["labels"] == str(tmp_path / "entity_labels.tsv")


def test_given_labels_replace_those_beside_the_graph(tmp_path: Path) -> None:
    lay_out(tmp_path, TSV | {"entity_labels.tsv": "Rome\tRoma\n", "mine.tsv": "Paris\tLutetia\n"})
    dataset = import_dataset(tmp_path, "tsv", labels=tmp_path / "mine.tsv")
    assert dataset.entities.labels == ("Lutetia", "France", "New York", "Rome", "Italy .")


Change = tuple[str, str, str]
ERRORS: list[tuple[str, Change, str]] = [
    ("openke", ("entity2id.txt", "3\n", ""), r"entity2id.txt:1: the first line must count .*see --layout"),
    ("openke", ("entity2id.txt", "3\n", "4\n"), r"entity2id.txt:1: says 4 lines follow, but there are 3"),
    ("openke", ("entity2id.txt", "\t1\n", "\t0\n"), r"entity2id.txt:3: id 0 is given twice; .*0 to 2"),
    ("openke", ("entity2id.txt", "\t1\n", "\t7\n"), r"entity2id.txt:2: id 7 is too large; 3 lines give"),
    ("openke", ("entity2id.txt", "\t1\n", "\n"), r"entity2id.txt:2: 'New York' is not a name and an id"),
    ("openke", ("entity2id.txt", "\t1\n", "\t１\n"), r"entity2id.txt:2: .* is not a name and an id"),
    ("openke", ("relation2id.txt", "is near", "in"), r"relation2id.txt:.*relation key 'in' stands on line"),
    ("openke", ("train2id.txt", "2\n", ""), r"train2id.txt:1: the first line must count"),
    ("openke", ("train2id.txt", "2\n", "1\n"), r"train2id.txt:1: says 1 lines follow, but there are 2"),
    ("openke", ("train2id.txt", "2 1 1", "2 1 2"), r"train2id.txt:3: relation 2 is not .*say head, tail"),
    ("openke", ("train2id.txt", "2 1 1", "2 9 1"), r"train2id.txt:3: tail 9 is not an entity id"),
    ("openke", ("train2id.txt", "2 1 1", "2 1 1 1"), r"train2id.txt:3: '2 1 1 1' is not a fact; three ids"),
    ("momok", ("entity2id.txt", "Paris 0", "2\nParis 0"), r"entity2id.txt:1: '2' is not a name .*count"),
    ("momok", ("train.txt", "Paris near", "Pariss near"), r"train.txt:1: 'Pariss' is not .*\(nearest: 'P"),
    ("momok", ("train.txt", "is in", "isin"), r"train.txt:2: 'isin' .*\(nearest: 'is in'\); add it"),
    ("momok", ("valid.txt", "New York", "Nowhere"), r"valid.txt:1: 'Nowhere' is not the key of any entity"),
    ("momok", ("test.txt", "Paris   near", "near"), r"test.txt:1: 'near Paris' is not a fact; head"),
    ("tsv", ("train.tsv", "Paris\tin", "Paris in"), r"train.tsv:2: .* is not a fact; .* apart by tabs"),
    ("tsv", ("train.tsv", "Paris\tin", "Paris\t "), r"train.tsv:2: .* is not a fact"),
    ("tsv", ("train.tsv", "New York", "New\0York"), r"train.tsv:3: .* holds '\\x00'"),
    ("tsv", ("test.txt", "Rome", "Rome\tLazio"), r"test.txt:1: .* is not a fact"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "change", "words"), ERRORS, ids=[words[:50] for *_, words in ERRORS])
def test_a_broken_layout_is_named(tmp_path: Path, layout: str, change: Change, words: str) -> None:
    files = {"openke": OPENKE, "momok": MOMOK, "tsv": TSV}[layout]
    name, old, new = change
    assert old in files[name]
    lay_out(tmp_path, files | {name: files[name].replace(old, new, 1)})
    with pytest.raises(DatasetError, match=words):
        import_dataset(tmp_path, layout)


def test_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    lay_out(tmp_path, TSV)
    (tmp_path / "train.tsv").write_bytes(b"a\tb\tc\nK\xf6ln\tb\tc\n")
    with pytest.raises(DatasetError, match=r"train.tsv:2: not UTF-8 \(byte 0xf6\); convert"):
        import_dataset(tmp_path, "tsv")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("Romme\tRoma\n", r"mine.tsv:1: 'Romme' is not the key of any entity \(nearest: 'Rome'\); correct"),
        ("Paris\tA\nRome\n", r"mine.tsv:2: 1 columns; key, tab, label is needed"),
        ("Rome\ta\tb\tc\td\n", r"mine.tsv:1: 5 columns; .*2 to 4"),
        ("Rome\ta\nRome\tb\n", r"mine.tsv:2: entity 'Rome' has a label already"),
        ("Rome\ta\0\n", r"mine.tsv:1: .* holds '\\x00'"),
        ("\n", r"mine.tsv: labels no entity; give one"),
        (None, r"mine.tsv: no such file"),
    ],
)
def test_broken_labels_are_named(tmp_path: Path, labels: str | None, words: str) -> None:
    lay_out(tmp_path, TSV if labels is None else TSV | {"mine.tsv": labels})
    with pytest.raises(DatasetError, match=words):
        import_dataset(tmp_path, "tsv", labels=tmp_path / "mine.tsv")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda src: import_dataset(src, "csv"),
            r"layout 'csv' is unknown; choose one of openke, momok, tsv",
        ),
        (lambda src: import_dataset(src / "x", "tsv"), r"x: no such directory; name the one"),
        (lambda src: import_dataset(src, "openke"), r"entity2id.txt: no such file; .*layout"),
        (
            lambda src: import_dataset(src.parent / "empty", "tsv"),
            r"empty: neither train.tsv nor train.txt; is",
        ),
        (
            lambda src: import_dataset(src, "tsv", rows={"a": "b"}),
            r"rows are given for \['a'\].*add --features a=",
        ),
        (lambda src: import_dataset(src, "tsv", features={"joint": "b"}), r"'joint' is reserved"),
        (lambda src: import_dataset(src, "tsv", features={"A": "b"}), r"modality name 'A' must be"),
        (lambda src: import_dataset(src, "tsv", features={"structure": "b"}), r"'structure' is learned per"),
    ],
)
def test_a_wrong_call_is_explained(tmp_path: Path, call: Callable[[Path], Any], words: str) -> None:
    for folder in ("graph", "empty"):
        (tmp_path / folder).mkdir()
    with pytest.raises(DatasetError, match=words):
        call(lay_out(tmp_path / "graph", TSV))


# entities, relations, lines of train, valid, test
COUNTS = {
    "DB15K": (12_842, 279, 79_222, 9_904, 9_902),
    "MKG-W": (15_000, 169, 34_196, 4_276, 4_274),
    "MKG-Y": (15_000, 28, 21_310, 2_665, 2_663),
    "MKG-Y-momok-layout": (15_000, 28, 21_310, 2_665, 2_663),
    "KVC16K": (16_015, 4, 180_190, 22_523, 22_525),
    "TIVA": (11_858, 16, 20_071, 2_000, 2_000),
}


@pytest.mark.parametrize("graph", COUNTS)
def test_published_graphs_import_whole(shared: Path, graph: str) -> None:
    layout = "momok" if graph.endswith("momok-layout") else "openke"
    dataset = import_dataset(shared / "data" / graph, layout)
    sizes = [len(dataset.facts[split]) for split in SPLITS]
    assert (dataset.num_entities, dataset.num_relations, *sizes) == COUNTS[graph]


def test_both_copies_of_mkg_y_are_one_graph(shared: Path) -> None:
    openke = import_dataset(shared / "data" / "MKG-Y", "openke")
    momok = import_dataset(shared / "data" / "MKG-Y-momok-layout", "momok")
    assert openke.fingerprint == momok.fingerprint


def test_published_flaws_are_reported(shared: Path) -> None:
    """Faults of the published files, counted once by hand."""
    found = {
        graph: report(import_dataset(shared / "data" / graph, "openke"))
        for graph in ("DB15K", "MKG-W", "MKG-Y", "KVC16K", "TIVA")
    }
    splits = {graph: {split.name: split for split in one.splits} for graph, one in found.items()}
    pairs = {graph: {(p.first, p.second): p.num_facts for p in one.shared} for graph, one in found.items()}
    assert splits["DB15K"]["valid"].num_distinct == 7_481
    assert pairs["DB15K"] == {("train", "valid"): 6_584, ("train", "test"): 0, ("valid", "test"): 824}
    assert splits["MKG-W"]["test"].num_with_unseen_entity == 306
    assert splits["MKG-Y"]["test"].num_with_unseen_entity == 388
    assert (
        "notice: test facts that hold an entity never seen in train: 388 of 2,663 (14.6%)"
        in found["MKG-Y"].lines()
    )
    assert pairs["KVC16K"]["train", "test"] == 48
    assert splits["TIVA"]["train"].num_distinct == 11_652
    assert (pairs["TIVA"]["train", "test"], splits["TIVA"]["test"].num_distinct) == (1_664, 1_906)
    assert [len(found[graph].problems) for graph in ("MKG-W", "MKG-Y")] == [0, 0]


def test_published_features_and_labels_import(shared: Path) -> None:
    source = shared / "data" / "MKG-Y"
    dataset = import_dataset(source, "openke", features={"text": source / "name_text.safetensors"})
    text = dataset.modalities[1]
    assert text.features is not None and text.rows is not None
    assert text.features.shape == (15_000, 384)
    assert text.features.dtype == np.float16
    assert text.rows.tolist() == list(range(15_000))
    assert dataset.entities.labels[:2] == ("Gilles Mbang Ondo", "Libreville")
    assert dataset.relations.labels[0] == "was born in"
