"""Pictures: alike in colour and layout is near, whatever the size and the file; broken files are reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from momok.training.data.files import DatasetError
from momok.training.encoders import encode_pictures
from momok.training.encoders.image import describe


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


def test_files_several_an_entity_and_what_all_share_is_taken_away(tmp_path: Path) -> None:
    files = []
    for index, colour in enumerate(("red", "white", "blue")):
        files.append(tmp_path / f"{index}.png")
        Image.new("RGB", (9, 6), colour).save(files[-1])
    modality = encode_pictures("image", [(4, files[:2]), (1, files[2:])])
    assert modality.rows is not None
    assert modality.rows.tolist() == [4, 1]
    assert modality.features is not None
    assert modality.features.dtype == np.float16
    described = [describe(Image.open(file)) for file in files]
    expected = np.stack([(described[0] + described[1]) / 2, described[2]])
    np.testing.assert_allclose(modality.features, expected - expected.mean(axis=0), atol=2e-3)
    assert np.abs(modality.features.astype(np.float64).sum(axis=0)).max() < 2e-3


def test_broken_files_are_left_out_and_told(tmp_path: Path) -> None:
    good, cut, text = tmp_path / "good.png", tmp_path / "cut.png", tmp_path / "text.png"
    Image.effect_noise((60, 40), 50).save(good)
    cut.write_bytes(good.read_bytes()[:200])
    text.write_text("not a picture")
    left_out: list[tuple[str, str]] = []
    modality = encode_pictures(
        "image", [(0, [cut, good]), (1, [text]), (2, [tmp_path / "gone.png"])], left_out=left_out
    )
    assert modality.rows is not None
    assert modality.rows.tolist() == [0]
    assert [Path(item).name for item, _ in left_out] == ["cut.png", "text.png", "gone.png"]
    assert all(reason for _, reason in left_out)
    with pytest.raises(DatasetError, match="no picture can be read"):
        encode_pictures("image", [(1, [text])])


def test_a_picture_made_to_exhaust_memory_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("momok.training.encoders.pictures.MAX_PIXELS", 1000)
    Image.new("1", (100, 11)).save(tmp_path / "bomb.png")
    left_out: list[tuple[str, str]] = []
    with pytest.raises(DatasetError):
        encode_pictures("image", [(0, [tmp_path / "bomb.png"])], left_out=left_out)
    assert "1000 are allowed" in left_out[0][1]
