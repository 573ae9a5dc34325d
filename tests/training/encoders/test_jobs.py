"""Items in batches, means over an entity's items, and resuming after an interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from momok.cli import main
from momok.model.arrays import Float32
from momok.model.networks.modality import Modality
from momok.training.data.dataset import Dataset
from momok.training.data.files import DatasetError
from momok.training.encoders import image, jobs
from momok.training.encoders.base import About, Describer, Unreadable
from momok.training.encoders.encode import ENCODERS, partial_of
from momok.training.encoders.jobs import ItemJob, JobOptions
from tests.training.builders import NUM_ENTITIES, write_dataset


class Squares:
    """Items are lists of numbers, None where one cannot be read; a part's vector is (x, x²)."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def parts(self, item: Sequence[float | None]) -> Iterator[float]:
        for part in item:
            if part is None:
                raise Unreadable("it breaks off")
            yield part

    def describe(self, parts: Sequence[float]) -> Float32:
        self.batches.append(len(parts))
        return np.array([(part, part * part) for part in parts], dtype=np.float32)


def job(items: dict[int, Any], squares: Squares) -> ItemJob:
    describer = Describer(About({}, ()), squares.parts, squares.describe, batch_size=3)
    return ItemJob(describer, items, "nothing there")


def run(items: dict[int, Any], describer: Squares | None = None, **work: Any) -> tuple[Modality, JobOptions]:
    kept = JobOptions(**work)
    made = job(items, describer or Squares()).run("squares", kept)
    assert made is not None
    return made, kept


def test_an_entity_is_the_mean_of_its_items_and_an_item_the_mean_of_its_parts() -> None:
    describer = Squares()
    made, _ = run({7: [[1.0, 3.0], [5.0]], 2: [[4.0]], 5: [[0.0, 0.0, 6.0]]}, describer)
    assert made.rows is not None
    assert made.features is not None
    assert made.rows.tolist() == [7, 2, 5]
    assert made.features.tolist() == [[3.5, 15.0], [4.0, 16.0], [2.0, 12.0]]
    assert made.features.dtype == np.float16
    assert describer.batches == [3, 3, 1], "batches go across items and entities"


def test_what_breaks_off_or_is_empty_is_left_out_whole() -> None:
    made, work = run(
        {1: [[1.0, 1.0, 1.0, 9.0, None], [2.0]], 2: [[None]], 3: [[]], 4: [[np.inf]], 5: [[3.0]]}
    )
    assert made.rows is not None
    assert made.features is not None
    assert made.rows.tolist() == [1, 5]
    assert made.features.tolist() == [[2.0, 4.0], [3.0, 9.0]]
    assert [reason for _, reason in work.left_out] == [
        "it breaks off",
        "it breaks off",
        "there is nothing in it",
        "its features are not finite numbers",
    ]
    with pytest.raises(DatasetError, match="nothing there"):
        run({1: [[None]]})


def test_features_too_large_for_float16_are_kept_in_float32() -> None:
    made, _ = run({1: [[300.0]], 2: [[1.0]]})
    assert made.features is not None
    assert made.features.dtype == np.float32
    assert made.features.tolist() == [[300.0, 90_000.0], [1.0, 1.0]]


def test_it_stops_after_a_batch_and_keeps_whole_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PIECE", 4)
    items = {entity: [[float(entity)]] for entity in range(10)}
    straight, _ = run(items)
    describer, partial = Squares(), tmp_path / "partial"
    asked: list[bool] = []

    def third() -> bool:
        asked.append(True)
        return len(asked) == 4

    work = JobOptions(partial=partial, stop=third)
    assert job(items, describer).run("squares", work) is None
    assert sorted(path.name for path in partial.iterdir()) == ["000000.safetensors", "encoding.json"]
    again = Squares()
    made, _ = run(items, again, partial=partial, resume=True)
    assert sum(again.batches) == 6, "the first piece was not made again"
    assert straight.features is not None
    assert made.features is not None
    assert made.features.tobytes() == straight.features.tobytes()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for entity in range(NUM_ENTITIES):
        Image.new("RGB", (8, 8), (entity, 2 * entity, 255 - entity)).save(folder / f"e{entity}.png")
    (folder / "e3.png").write_bytes(b"broken")
    return folder


def encode(data: Path, pictures: Path, *more: str) -> int:
    flags = ["--modality", "image", "--encoder", "image", "--from", str(pictures), *more]
    return main(["encode", str(data), *flags])


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """A Ctrl-C while the ``after``-th picture is described."""
    describe, seen = image.describe, [0]

    def noting(picture: Image.Image) -> Any:
        seen[0] += 1
        if seen[0] == after:
            os.kill(os.getpid(), signal.SIGINT)
        return describe(picture)

    monkeypatch.setattr(image, "describe", noting)


def test_an_interrupted_command_goes_on_to_the_same_bytes(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "PIECE", 10)
    data, other = write_dataset(tmp_path), tmp_path / "other"
    shutil.copytree(data, other)
    assert encode(other, pictures) == 0
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        interrupt(patch, after=25)
        assert encode(data, pictures) == 130
    assert "the same command with --resume goes on" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
    assert len(list(partial_of(data, "image").glob("*.safetensors"))) == 2

    assert encode(data, pictures) == 2
    assert "of an encoding that did not end; --resume it, or remove" in capsys.readouterr().err
    assert encode(data, pictures, "--resume") == 0
    said = capsys.readouterr()
    assert "40 of 41 entities" in said.out
    assert f"left out {pictures / 'e3.png'}" in said.err, "reported by the run that ended"
    assert not partial_of(data, "image").exists()
    file = Path("modalities", "image.safetensors")
    assert (data / file).read_bytes() == (other / file).read_bytes()
    assert Dataset.open(data).provenance == Dataset.open(other).provenance


def test_only_the_same_encoding_is_resumed(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "PIECE", 10)
    data = write_dataset(tmp_path)
    assert encode(data, pictures, "--resume") == 2
    assert "nothing to resume here; leave --resume out" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        interrupt(patch, after=25)
        assert encode(data, pictures) == 130
    partial = partial_of(data, "image")
    moved = tmp_path / "moved"
    shutil.copytree(pictures, moved)
    assert encode(data, moved, "--resume") == 2
    assert "begun with source" in capsys.readouterr().err
    Image.new("RGB", (9, 9)).save(pictures / "e1.png")
    assert encode(data, pictures, "--resume") == 2
    assert "begun with items" in capsys.readouterr().err
    record = json.loads((partial / "encoding.json").read_text())
    (partial / "encoding.json").write_text("{")
    assert encode(data, pictures, "--resume") == 2
    assert "encoding.json: damaged" in capsys.readouterr().err
    for name in record:
        (partial / "encoding.json").write_text(json.dumps(record | {name: "another"}))
        assert encode(data, pictures, "--resume") == 2
        assert "or remove" in capsys.readouterr().err


def test_a_damaged_piece_is_named(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "PIECE", 10)
    data = write_dataset(tmp_path)
    with monkeypatch.context() as patch:
        interrupt(patch, after=25)
        assert encode(data, pictures) == 130
    piece = partial_of(data, "image") / "000001.safetensors"
    piece.write_bytes(piece.read_bytes()[:100])
    assert encode(data, pictures, "--resume") == 2
    assert f"{piece}: damaged" in capsys.readouterr().err
    piece.unlink()
    assert encode(data, pictures, "--resume") == 0


def test_light_encoders_have_nothing_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--modality", "words", "--encoder", "text", "--from", "labels", "--resume"]
    assert main(["encode", str(write_dataset(tmp_path)), *flags]) == 2
    assert "leave --resume out" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("width", "3"), ("seed", "1"), ("every", "2"), ("model", "m")])
def test_an_encoder_refuses_options_that_it_does_not_take(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path)
    for name, encoder in ENCODERS.items():
        if option not in encoder.takes:
            flags = ["--modality", "made", "--encoder", name, "--from", str(tmp_path), f"--{option}", value]
            assert main(["encode", str(data), *flags]) == 2
            assert f"the {name} encoder has no --{option}; leave out --{option}" in capsys.readouterr().err


def test_options_out_of_range_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--modality", "made", "--encoder", "video", "--from", str(tmp_path), "--every", "0"]
    assert main(["encode", str(write_dataset(tmp_path)), *flags]) == 2
    assert "every: Input should be greater than or equal to 1" in capsys.readouterr().err


def test_a_modality_is_named_as_datasets_want_it(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path)
    for name, reason in (("../up", "must be a-z"), ("joint", "is reserved")):
        flags = ["--modality", name, "--encoder", "image", "--from", str(pictures)]
        assert main(["encode", str(data), *flags]) == 2
        assert reason in capsys.readouterr().err
