"""The flags of the demo: one readable picture for a country that the tables know, in both directions."""

from __future__ import annotations

from PIL import Image

from momok.training.world.atlas import read_atlas
from momok.training.world.world import FLAGS

HEIGHT = 120


def test_every_flag_is_a_picture_of_a_country() -> None:
    countries = read_atlas().entities
    paths = sorted(FLAGS.glob("*.png"))
    assert len(paths) == 131
    for path in paths:
        assert countries[path.stem].kind == "country"
        with Image.open(path) as picture:
            picture.load()
            assert (picture.mode, picture.height) == ("RGB", HEIGHT)
            assert HEIGHT / 2 < picture.width < 3 * HEIGHT


def test_flags_differ_from_each_other() -> None:
    """A flag drawn twice would tell a model that two countries are one."""
    pixels = {Image.open(path).convert("RGB").tobytes() for path in FLAGS.glob("*.png")}
    assert len(pixels) == 131


def test_flags_are_small() -> None:
    assert sum(path.stat().st_size for path in FLAGS.glob("*.png")) < 300_000
