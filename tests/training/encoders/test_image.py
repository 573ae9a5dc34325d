"""Pictures: alike in colour and layout is near, whatever the size and the file; broken files are reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from momok.model.networks.modality import Modality
from momok.training.data.files import DatasetError
from momok.training.encoders.base import Options
from momok.training.encoders.image import IMAGE, describe
from momok.training.encoders.jobs import ItemJob, JobOptions
from tests.training.builders import make_dataset


def stripes(*colours: str, size: tuple[int, int] = (120, 80), upright: bool = False) -> Image.Image:
    picture = Image.new("RGB", size)
    for place, colour in enumerate(colours):
        if upright:
            left, right = place * size[0] // len(colours), (place + 1) * size[0] // len(colours)
            picture.paste(colour, (left, 0, right, size[1]))
        else:
            top, bottom = place * size[1] // len(colours), (place + 1) * size[1] // len(colours)
            picture.paste(colour, (0, top, size[0], bottom))
    return picture


def distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.linalg.norm(describe(one) - describe(other)))


def test_alike_pictures_are_nearer_than_others() -> None:
    dutch, luxembourg = stripes("#AE1C28", "white", "#21468B"), stripes("#EF3340", "white", "#00A3E0")
    french = stripes("#21468B", "white", "#AE1C28", upright=True)
    german = stripes("black", "red", "gold")
    assert distance(dutch, luxembourg) < distance(dutch, french) < distance(dutch, german)


def test_colour_layout_and_edges_each_tell_pictures_apart() -> None:
    assert distance(stripes("red", "white"), stripes("white", "red")) > 0.5  # layout alone
    assert distance(stripes("red", "white"), stripes("green", "white")) > 0.5  # colour alone
    assert distance(stripes(*["red", "white"] * 4), stripes(*["red", "white"] * 4, upright=True)) > 0.1


def test_size_and_mode_hardly_matter() -> None:
    small, large = (stripes("red", "white", "blue", size=size) for size in ((120, 90), (1200, 900)))
    assert distance(small, large) < 0.1
    for mode in ("P", "RGBA", "CMYK"):
        assert distance(small, small.convert(mode)) < 0.15, mode
    assert np.isfinite(describe(small.convert("L"))).all()
    assert np.isfinite(describe(Image.new("1", (1, 1)))).all()


def test_transparent_parts_count_as_white() -> None:
    clear = Image.new("RGBA", (30, 20), (255, 0, 0, 0))
    assert distance(clear, Image.new("RGB", (30, 20), "white")) < 1e-6


def job_of(folder: Path) -> ItemJob:
    started = IMAGE.start(make_dataset(), str(folder), Options())
    assert isinstance(started, ItemJob)
    return started


def encode(job: ItemJob) -> tuple[Modality, list[tuple[str, str]]]:
    work = JobOptions()
    modality = job.run("image", work)
    assert modality is not None
    return modality, work.left_out


def test_files_several_an_entity_and_what_all_share_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / "e1").mkdir()
    files = [tmp_path / name for name in ("e1/a.png", "e1/b.png", "e4.png")]
    for file, colour in zip(files, ("red", "white", "blue"), strict=True):
        Image.new("RGB", (9, 6), colour).save(file)
    modality, _ = encode(job_of(tmp_path))
    assert modality.rows is not None
    assert modality.rows.tolist() == [1, 4]
    assert modality.features is not None
    assert modality.features.dtype == np.float16
    described = [describe(Image.open(file)) for file in files]
    expected = np.stack([(described[0] + described[1]) / 2, described[2]])
    np.testing.assert_allclose(modality.features, expected - expected.mean(axis=0), atol=2e-3)
    assert np.abs(modality.features.astype(np.float64).sum(axis=0)).max() < 2e-3


def test_broken_files_are_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / "e0").mkdir()
    cut, good, text, gone = (tmp_path / name for name in ("e0/cut.png", "e0/good.png", "e1.png", "e2.png"))
    Image.effect_noise((60, 40), 50).save(good)
    cut.write_bytes(good.read_bytes()[:200])
    text.write_text("not a picture")
    gone.write_text("removed before it is read")
    job = job_of(tmp_path)
    gone.unlink()
    modality, left_out = encode(job)
    assert modality.rows is not None
    assert modality.rows.tolist() == [0]
    assert [Path(item).name for item, _ in left_out] == ["cut.png", "e1.png", "e2.png"]
    assert all(reason for _, reason in left_out)
    good.unlink()
    with pytest.raises(DatasetError, match="no picture can be read"):
        encode(job)


def test_a_picture_made_to_exhaust_memory_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("momok.training.encoders.image.MAX_PIXELS", 1000)
    Image.new("1", (100, 11)).save(tmp_path / "e0.png")
    work = JobOptions()
    with pytest.raises(DatasetError):
        job_of(tmp_path).run("image", work)
    assert "1000 are allowed" in work.left_out[0][1]
