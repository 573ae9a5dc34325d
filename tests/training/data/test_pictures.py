"""Pictures of a dataset: taken along, looked for where they should be, and never from outside."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

from momok.model.bundle.bundle import Bundle, BundleError
from momok.model.bundle.pictures import MAX_BYTES, PictureError, read_picture
from momok.training.data.dataset import Dataset, DatasetError
from momok.training.export.export import export_run
from momok.training.fit.run import Run
from tests.training.builders import CPU, make_dataset, make_recipe, start

ADDRESS = "https://example.org/a.png"


def draw(folder: Path, name: str, **options: str) -> bytes:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2), "red").save(path, **options)
    return path.read_bytes()


def illustrated(folder: Path, *names: str) -> Dataset:
    """The clubs, whose first entities have these pictures."""
    dataset = make_dataset()
    pictures = (*names, *[""] * (dataset.num_entities - len(names)))
    return dataclasses.replace(dataset, pictures=pictures, picture_folder=folder)


def test_files_are_taken_along_and_addresses_are_left_alone(tmp_path: Path) -> None:
    flat, deep = draw(tmp_path / "from", "a.png"), draw(tmp_path / "from", "deep/b.jpg")
    illustrated(tmp_path / "from", "a.png", "", "deep/b.jpg", ADDRESS).write(tmp_path / "data")
    opened = Dataset.open(tmp_path / "data")
    assert opened.pictures[:5] == ("a.png", "", "deep/b.jpg", ADDRESS, "")
    assert (tmp_path / "data" / "pictures" / "a.png").read_bytes() == flat
    assert (tmp_path / "data" / "pictures" / "deep" / "b.jpg").read_bytes() == deep


def test_a_dataset_without_pictures_has_no_folder_for_them(tmp_path: Path) -> None:
    illustrated(tmp_path, ADDRESS).write(tmp_path / "data")
    assert not (tmp_path / "data" / "pictures").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.png", r"entities.tsv:2: no picture 'gone.png' in .*; put it there, or leave the cell empty"),
        (
            "../secret.png",
            r"entities.tsv:2: picture '\.\./secret.png' is absolute or holds '\.\.'; give a plain",
        ),
        ("folder/../a.png", r"entities.tsv:2: picture 'folder/\.\./a.png' is absolute or holds '\.\.'"),
        ("/etc/hostname", r"entities.tsv:2: picture '/etc/hostname' is absolute"),
        ("link.png", r"entities.tsv:2: picture 'link.png' leads out of .*; give a file below it"),
        ("folder", r"entities.tsv:2: no picture 'folder'"),
        ("n" * 300, r"entities.tsv:2: picture 'n+…?.* cannot be looked for in .*; rename it"),
        ("circle.png", r"entities.tsv:2: (no )?picture 'circle.png' .*; (rename it|put it there)"),
    ],
)
def test_names_that_lead_nowhere_or_outside_are_refused(name: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "from"
    (folder / "folder").mkdir(parents=True)
    draw(tmp_path, "secret.png")
    draw(folder, "a.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    with pytest.raises(DatasetError, match=message):
        illustrated(folder, name)


def test_an_absolute_name_is_refused_even_where_it_leads_into_the_folder(tmp_path: Path) -> None:
    draw(tmp_path, "a.png")
    with pytest.raises(DatasetError, match=r"entities.tsv:2: picture .* is absolute"):
        illustrated(tmp_path, str(tmp_path / "a.png"))


def test_a_file_without_any_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"picture 'a.png' is a file, and there is no folder"):
        dataclasses.replace(make_dataset(), pictures=("a.png", *[""] * 40))


def test_opening_misses_a_picture_that_is_gone(tmp_path: Path) -> None:
    draw(tmp_path / "from", "a.png")
    illustrated(tmp_path / "from", "", "a.png").write(tmp_path / "data")
    (tmp_path / "data" / "pictures" / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"entities.tsv:3: no picture 'a.png'"):
        Dataset.open(tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of the clubs with pictures whose suffixes lie."""
    draw(tmp_path / "from", "a.jpg", format="PNG")
    draw(tmp_path / "from", "b", format="JPEG")
    draw(tmp_path / "from", "c.GIF")
    draw(tmp_path / "from", "d.webp")
    dataset = illustrated(tmp_path / "from", "a.jpg", "b", "", "c.GIF", "d.webp", ADDRESS)
    trainer = start(tmp_path, make_recipe(max_epochs=1), dataset)
    trainer.train()
    return trainer.run


def test_a_bundle_ships_them_named_by_entity_and_content(run: Run, tmp_path: Path) -> None:
    manifest = export_run(run, tmp_path / "bundle", dataset=run.dataset(), device=CPU)
    bundle = Bundle.open(tmp_path / "bundle")
    names = {entity: picture.path.name for entity, picture in bundle.pictures.items()}
    assert names == {0: "0.png", 1: "1.jpg", 3: "3.gif", 4: "4.webp"}
    assert [bundle.pictures[e].media_type for e in (0, 1, 3, 4)] == [
        f"image/{kind}" for kind in ("png", "jpeg", "gif", "webp")
    ]
    assert bundle.pictures[1].path.read_bytes() == (tmp_path / "from" / "b").read_bytes()
    assert manifest.files["pictures/1.jpg"].sha256 == bundle.pictures[1].sha256


@pytest.mark.parametrize("damage", ["changed", "gone", "cut"])
def test_a_bundle_with_a_damaged_picture_is_refused(damage: str, run: Run, tmp_path: Path) -> None:
    export_run(run, tmp_path / "bundle", dataset=run.dataset(), device=CPU)
    picture = tmp_path / "bundle" / "pictures" / "3.gif"
    data = picture.read_bytes()
    if damage == "gone":
        picture.unlink()
    else:
        picture.write_bytes(data[:-1] + (b"\0" if damage == "changed" else b""))
    with pytest.raises(BundleError, match=r"pictures/3.gif: "):
        Bundle.open(tmp_path / "bundle")


def test_what_is_no_picture_stops_the_export_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "dataset" / "pictures" / "b").write_text("<script>alert(1)</script>")
    with pytest.raises(PictureError, match=r"pictures/b: not a PNG, JPEG, GIF or WebP picture; convert"):
        export_run(run, tmp_path / "bundle", dataset=run.dataset(), device=CPU)
    assert not list(tmp_path.glob("*bundle*"))


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(PictureError, match="larger than 5 MB"):
        read_picture(tmp_path / "large.png")
    with pytest.raises(PictureError, match="cannot be read"):
        read_picture(tmp_path / "gone.png")
