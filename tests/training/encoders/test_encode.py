"""momok encode: sources as people have them, one more modality in the dataset, nothing half-written."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from PIL import Image

from momok.cli import main
from momok.model.networks.modality import Modality
from momok.model.runtime.directory import sync
from momok.training.data.dataset import Dataset, DatasetError
from momok.training.data.directory import Header, locked, write_header
from momok.training.encoders.encode import encode as run_encode
from tests.training.builders import make_dataset, write_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path)


def encode(data: Path, name: str, encoder: str, source: Path | str, *more: str) -> int:
    return main(["encode", str(data), "--modality", name, "--encoder", encoder, "--from", str(source), *more])


def modality(data: Path, name: str) -> Modality:
    return next(one for one in Dataset.open(data).modalities if one.name == name)


def test_a_table_of_texts(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "texts.tsv"
    source.write_text("e3\tred club\ne1\tblue club, with\ttabs\ne7\tgreen\n", encoding="utf-8")
    before = Dataset.open(data)
    assert encode(data, "words", "text", source, "--width", "2") == 0
    assert "words, 2 features of 3 of 41 entities" in capsys.readouterr().out
    after = Dataset.open(data)
    made = modality(data, "words")
    assert made.rows is not None
    assert made.rows.tolist() == [1, 3, 7]
    assert [one.name for one in after.modalities] == [*(one.name for one in before.modalities), "words"]
    assert after.fingerprint == before.fingerprint
    about = after.provenance["encoders"]["words"]
    assert (about["encoder"], about["source"]) == ("text", str(source))
    assert about["settings"] == {"width": 2, "seed": 0}
    assert set(about["versions"]) == {"scikit-learn", "numpy"}


def test_the_datasets_own_labels_and_descriptions(tmp_path: Path) -> None:
    dataset = make_dataset()
    texts = tuple(f"description of {key}" if key < "e2" else "" for key in dataset.entities.keys)
    data = write_dataset(tmp_path, dataclasses.replace(dataset, descriptions=texts))
    assert encode(data, "about", "text", "descriptions") == 0
    about = modality(data, "about")
    assert about.rows is not None
    assert len(about.rows) == sum(map(bool, texts))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wide.tsv", "key\tsize\tage\ne0\t1\t\ne2\t3.5\t-2e3\ne5\t\t4\n"),
        ("wide.csv", 'key,size,age\ne0,1,\n"e2",3.5,-2e3\ne5,,4\n'),
        ("old-mac.csv", "key,size,age\re0,1,\re2,3.5,-2e3\re5,,4\r"),
        ("lines.csv", 'key,size,age\r\ne0,"1\n",\r\ne2,3.5,-2e3\r\n\r\ne5,,4\r\n'),
        ("long.tsv", "key\tattribute\tvalue\ne0\tsize\t1\ne2\tsize\t3.5\ne2\tage\t-2e3\ne5\tage\t4\n"),
        (
            "empty.tsv",
            "key\tattribute\tvalue\ne0\tsize\t1\ne0\tage\t\ne2\tsize\t3.5\ne2\tage\t-2e3\ne5\tage\t4\n"
            "e5\tsize\t \n",
        ),
    ],
)
def test_a_table_of_numbers_wide_or_as_facts(name: str, text: str, tmp_path: Path, data: Path) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert encode(data, "sizes", "numeric", tmp_path / name) == 0
    made = modality(data, "sizes")
    assert made.rows is not None
    assert made.features is not None
    assert made.rows.tolist() == [0, 2, 5]
    assert made.features.shape == (3, 4)  # Two attributes, and both are missing somewhere.
    assert made.features[:, 2:].tolist() == [[0, 1], [0, 0], [1, 0]]
    assert Dataset.open(data).provenance["encoders"]["sizes"]["settings"] == {"attributes": ["size", "age"]}


def test_a_folder_of_pictures(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pictures"
    (folder / "e4").mkdir(parents=True)
    for name, colour in (
        ("e1.png", "red"),
        ("e%30.JPG", "blue"),
        ("e4/a.webp", "red"),
        ("e4/b.gif", "white"),
    ):
        Image.new("RGB", (12, 8), colour).save(folder / name)
    (folder / "e9.png").write_bytes(b"broken")
    (folder / "notes.txt").write_text("not a picture, and not meant as one")
    assert encode(data, "image", "image", folder) == 0
    output = capsys.readouterr()
    assert "148 features of 3 of 41 entities" in output.out
    assert f"left out {folder / 'e9.png'}: not a picture" in output.err
    made = modality(data, "image")
    assert made.rows is not None
    assert sorted(made.rows.tolist()) == [0, 1, 4]


def test_a_modality_is_replaced_only_when_that_is_meant(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = modality(data, "text")
    assert encode(data, "text", "text", "labels") == 2
    assert "has a modality 'text' already; choose another name, or --replace it" in capsys.readouterr().err
    source = tmp_path / "texts.tsv"
    source.write_text("e3\tred club\ne1\tblue club\n")
    assert encode(data, "text", "text", source, "--replace") == 0
    after = modality(data, "text")
    assert before.features is not None
    assert after.features is not None
    assert len(after.features) == 2
    assert [one.name for one in Dataset.open(data).modalities] == ["structure", "text", "numeric"]
    assert encode(data, "structure", "text", source, "--replace") == 2


BAD: list[tuple[str, str, str, str]] = [
    ("text", "t.tsv", "e1 no tab\n", r"t.tsv:1: 'e1 no tab' is one column; a key, a tab and a text"),
    ("text", "t.tsv", "e1\ta\ne99\tb\n", r"t.tsv:2: 'e99' is not the key of any entity \(nearest: .*correct"),
    ("text", "t.tsv", "e1\ta\ne1\tb\n", r"t.tsv:2: 'e1' stands there twice"),
    ("text", "t.tsv", "e1\ta\n", r"1 entities have a text"),
    ("text", "gone.tsv", "", r"gone.tsv: no such file"),
    ("numeric", "n.tsv", "key\n", r"n.tsv:1: the first line must name the key and the attributes"),
    ("numeric", "n.tsv", "key\ta\ta\n", r"n.tsv:1: .* repeats a name"),
    ("numeric", "n.tsv", "key\ta\ne1\t1\t2\n", r"n.tsv:2: 3 columns; the first line names 2"),
    ("numeric", "n.tsv", "key\ta\ne1\ttall\n", r"n.tsv:2: a 'tall' is not a finite number; leave it empty"),
    ("numeric", "n.tsv", "key\ta\ne1\tinf\n", r"n.tsv:2: a 'inf' is not a finite number"),
    ("numeric", "n.tsv", "key\ta\ne1\t1\ne1\t\n", r"n.tsv:3: 'e1' stands there twice"),
    ("numeric", "n.tsv", "key\ta\ne99\t1\n", r"n.tsv:2: 'e99' is not the key"),
    ("numeric", "n.csv", 'key,a\n"e1\n', r"n.csv:2: .*columns"),
    (
        "numeric",
        "long.csv",
        'key,a\ne1,1\ne2,"' + 140_000 * "3",
        r"long.csv:3: not readable as CSV \(field larger than .*\); is a quotation mark not closed\?",
    ),
    ("numeric", "n.tsv", "key\tattribute\tvalue\ne1\ta\ttall\n", r"n.tsv:2: a 'tall' is not a finite number"),
    (
        "numeric",
        "n.tsv",
        "key\tattribute\tvalue\ne1\ta\t1\ne1\ta\t2\n",
        r"n.tsv:3: 'a' of 'e1' stands there twice",
    ),
    ("numeric", "n.tsv", "key\tattribute\tvalue\ne1\ta\n", r"n.tsv:2: 2 columns; a key, an attribute"),
    ("image", "pictures", "", r"pictures: no such folder"),
]


@pytest.mark.parametrize(("encoder", "name", "text", "message"), BAD, ids=[bad[-1] for bad in BAD])
def test_bad_sources_are_explained_and_change_nothing(
    encoder: str,
    name: str,
    text: str,
    message: str,
    tmp_path: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / name
    if text:
        source.write_text(text)
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert encode(data, "made", encoder, source) == 2
    assert re.search(message, capsys.readouterr().err)
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_pictures_of_nobody_are_named(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    assert encode(data, "image", "image", folder) == 2
    assert "holds no .png" in capsys.readouterr().err
    Image.new("RGB", (2, 2)).save(folder / "nobody.png")
    assert encode(data, "image", "image", folder) == 2
    assert "'nobody' is not the key of any entity" in capsys.readouterr().err


def test_a_failed_write_leaves_the_dataset_as_it_was(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever step the disk fails at, the dataset opens, with the new modality or without."""
    source = tmp_path / "texts.tsv"
    source.write_text("e3\tred club\ne1\tblue club\n")
    for allowed in range(4):
        calls: list[int] = []

        def failing(descriptor: int, allowed: int = allowed, calls: list[int] = calls) -> None:
            calls.append(descriptor)
            if len(calls) > allowed:
                raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            assert encode(data, "text", "text", source, "--replace") == 2
        assert "No space left on device" in capsys.readouterr().err
        assert len(Dataset.open(data).modalities) == 3
        assert not list(data.rglob("*.partial"))


def pictures(folder: Path) -> Path:
    folder.mkdir()
    for name in ("e1.png", "e2.png"):
        Image.new("RGB", (4, 4), "red").save(folder / name)
    return folder


def while_pictures_are_encoded(tmp_path: Path, data: Path, interlude: Callable[[], object]) -> None:
    """Encode pictures as ``image``; ``interlude`` happens after they were begun and before they are done."""
    times = count()

    def stop() -> bool:
        if next(times) == 0:
            interlude()
        return False

    assert run_encode(data, "image", str(pictures(tmp_path / "pictures")), "image", stop=stop)


def test_modalities_encoded_at_the_same_time_all_arrive(tmp_path: Path, data: Path) -> None:
    source = tmp_path / "texts.tsv"
    source.write_text("e3\tred club\ne1\tblue club\n")
    while_pictures_are_encoded(tmp_path, data, lambda: encode(data, "words", "text", source))
    after = Dataset.open(data)
    names = ["structure", "text", "numeric", "words", "image"]
    assert [one.name for one in after.modalities] == names
    assert set(after.provenance["encoders"]) == {"words", "image"}


def test_what_another_has_added_under_the_same_name_is_kept(tmp_path: Path, data: Path) -> None:
    source = tmp_path / "sizes.tsv"
    source.write_text("key\tsize\ne0\t1\ne2\t3\n")
    with pytest.raises(DatasetError, match=r"has a modality 'image' already; .*--replace"):
        while_pictures_are_encoded(tmp_path, data, lambda: encode(data, "image", "numeric", source))
    assert Dataset.open(data).provenance["encoders"]["image"]["encoder"] == "numeric"
    assert encode(data, "image", "image", tmp_path / "pictures", "--replace", "--resume") == 0
    assert Dataset.open(data).provenance["encoders"]["image"]["encoder"] == "image"


def test_a_graph_that_changes_meanwhile_is_told(tmp_path: Path, data: Path) -> None:
    other = make_dataset()
    facts = other.facts | {"valid": other.facts["valid"][1:]}

    def exchange() -> None:
        shutil.rmtree(data)
        dataclasses.replace(other, facts=facts).write(data)

    with pytest.raises(DatasetError, match="its graph was changed while 'image' was made; encode again"):
        while_pictures_are_encoded(tmp_path, data, exchange)
    assert [one.name for one in Dataset.open(data).modalities] == ["structure", "text", "numeric"]


def test_nobody_else_has_the_dataset_while_it_is_written(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "texts.tsv"
    source.write_text("e3\tred club\ne1\tblue club\n")
    refused: list[str] = []
    fsync = os.fsync

    def checked(handle: int) -> None:
        with (data / "dataset.json").open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                refused.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", checked)
    assert encode(data, "words", "text", source) == 0
    assert refused == ["words.safetensors.partial", "modalities", "dataset.json.partial"]
    refused.clear()
    sync(data)
    assert not refused, "the lock outlived the encoding"


def test_a_lock_is_on_the_header_that_stands_there(data: Path) -> None:
    """Some wait for a header that is replaced before they have it; no two of them are ever inside."""
    inside, most = 0, []

    def change(number: int) -> None:
        nonlocal inside
        for _ in range(20):
            with locked(data):
                inside += 1
                most.append(inside)
                header = json.loads((data / "dataset.json").read_text())
                header["provenance"][str(number)] = header["provenance"].get(str(number), 0) + 1
                inside -= 1
                write_header(data, Header.model_validate(header))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(8)))
    assert set(most) == {1}
    assert Dataset.open(data).provenance == {str(number): 20 for number in range(8)}


def test_what_cannot_be_locked_is_told_before_any_work(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(tmp_path / "nowhere", "words", "text", "labels") == 2
    assert "dataset.json: no such file; a dataset directory has one" in capsys.readouterr().err


def test_width_is_the_text_encoders_alone(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert encode(data, "image", "image", "pictures", "--width", "3") == 2
    assert "leave out --width" in capsys.readouterr().err


def test_encoded_modalities_train(tmp_path: Path, data: Path) -> None:
    (tmp_path / "n.tsv").write_text("key\ta\n" + "".join(f"e{i}\t{i}\n" for i in range(30)))
    assert encode(data, "sizes", "numeric", tmp_path / "n.tsv") == 0
    run = tmp_path / "run"
    options = ["--set", "training.max_epochs=1", "--set", "training.batch_size=8", "--device", "cpu"]
    assert main(["train", str(data), "--out", str(run), *options]) == 0
