"""Flags: what the table may say, what it does say, and what comes out of it, probed by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from momok.training.data.files import DatasetError, read_lines
from momok.training.world import flags as module
from momok.training.world.flags import COLOURS, HEADER, TABLE, Flag, draw, draw_sheet, parse_flag, read_flags
from momok.training.world.geometry import Rgb
from momok.training.world.shapes import KINDS

UN_MEMBERS = """
ad ae af ag al am ao ar at au az ba bb bd be bf bg bh bi bj bn bo br bs bt bw by bz ca cd cf cg ch
ci cl cm cn co cr cu cv cy cz de dj dk dm do dz ec ee eg er es et fi fj fm fr ga gb gd ge gh gm gn
gq gr gt gw gy hn hr ht hu id ie il in iq ir is it jm jo jp ke kg kh ki km kn kp kr kw kz la lb lc
li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mr mt mu mv mw mx my mz na ne ng ni nl no np
nr nz om pa pe pg ph pk pl pt pw py qa ro rs ru rw sa sb sc sd se sg si sk sl sm sn so sr ss st sv
sy sz td tg th tj tl tm tn to tr tt tv tz ua ug us uy uz vc ve vn vu ws ye za zm zw
"""
HEIGHT = 240
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


@pytest.fixture(scope="module")
def flags() -> dict[str, Flag]:
    return read_flags()


def rgb(colour: str) -> Rgb:
    red, green, blue = bytes.fromhex(COLOURS.get(colour, colour)[1:])
    return red, green, blue


def drawn(drawing: str, ratio: str = "2:1") -> Flag:
    return parse_flag(f"xx\t{ratio}\t{drawing}")


def column(flag: Flag, across: float) -> list[Rgb]:
    """The colours from top to bottom at a share of the width, each once a run; blends at edges left out."""
    picture = draw(flag, HEIGHT)
    x = int(across * picture.width)
    runs = [
        (colour, len(list(run))) for colour, run in groupby(picture.getpixel((x, y)) for y in range(HEIGHT))
    ]
    return [_rgb(colour) for colour, length in runs if length > 1]


def at(flag: Flag, across: float, down: float) -> Rgb:
    """The colour at a share of the width and of the height."""
    picture = draw(flag, HEIGHT)
    return _rgb(picture.getpixel((int(across * picture.width), int(down * picture.height))))


def _rgb(pixel: object) -> Rgb:
    assert isinstance(pixel, tuple)
    red, green, blue = pixel
    return red, green, blue


def test_every_country_has_a_flag_or_a_reason_to_have_none(flags: dict[str, Flag]) -> None:
    members = set(UN_MEMBERS.split())
    assert len(members) == 193
    header, *lines = read_lines(TABLE.with_name("flags_left_out.tsv"))
    left_out = dict(line.split("\t") for line in lines)
    assert header == "alpha2\treason"
    assert len(left_out) == len(lines) and all(left_out.values())
    assert not flags.keys() & left_out.keys()
    assert flags.keys() | left_out.keys() == members
    assert list(flags) == sorted(flags) and list(left_out) == sorted(left_out)


def test_the_vocabulary_holds_nothing_that_no_flag_needs(flags: dict[str, Flag]) -> None:
    shapes = [shape for flag in flags.values() for shape in flag.shapes]
    assert {shape.name for shape in shapes} == KINDS.keys()
    for name, kind in KINDS.items():
        said = {key for shape in shapes if shape.name == name for key in (*shape.points, *shape.numbers)}
        assert said == {*kind.needs, *kind.options}, name
    text = TABLE.read_text(encoding="utf-8").replace(":", " ").replace(";", " ").split()
    assert [colour for colour in COLOURS if colour not in text] == []


def test_flags_are_as_wide_as_the_table_says(flags: dict[str, Flag]) -> None:
    for flag in flags.values():
        picture = draw(flag, 40)
        assert (picture.mode, picture.height) == ("RGB", 40)
        assert picture.width == round(40 * flag.ratio[0] / flag.ratio[1]), flag.alpha2
    assert draw(flags["ch"]).size == (120, 120)
    assert draw(flags["us"]).size == (228, 120)


def test_drawing_twice_gives_the_same_bytes(flags: dict[str, Flag]) -> None:
    for flag in flags.values():
        assert draw(flag, 30).tobytes() == draw(flag, 30).tobytes()


def test_no_two_flags_look_the_same(flags: dict[str, Flag]) -> None:
    # Those of Indonesia and Monaco, or of Chad and Romania, are told apart by their ratio or shade.
    pictures = {(picture := draw(flag)).tobytes() + bytes(picture.width) for flag in flags.values()}
    assert len(pictures) == len(flags)


STRIPES = {
    "de": (1 / 2, [BLACK, rgb("#DD0000"), rgb("#FFCC00")]),
    "pl": (1 / 2, [WHITE, rgb("#DC143C")]),
    "id": (1 / 2, [rgb("red"), WHITE]),
    "mc": (1 / 2, [rgb("red"), WHITE]),
    "us": (9 / 10, [rgb("#B22234"), WHITE] * 6 + [rgb("#B22234")]),
    "gr": (9 / 10, [rgb("#0D5EAF"), WHITE] * 4 + [rgb("#0D5EAF")]),
    "th": (1 / 2, [rgb("#A51931"), WHITE, rgb("#2D2A4A"), WHITE, rgb("#A51931")]),
    "my": (9 / 10, [rgb("#CC0000"), WHITE] * 7),
    "uz": (9 / 10, [rgb("#0099B5"), rgb("red"), WHITE, rgb("red"), rgb("lime")]),
    "no": (7 / 8, [rgb("#BA0C2F"), WHITE, rgb("#00205B"), WHITE, rgb("#BA0C2F")]),
    "gb": (1 / 2, [rgb("crimson")]),
}


@pytest.mark.parametrize("alpha2", STRIPES)
def test_columns(flags: dict[str, Flag], alpha2: str) -> None:
    across, colours = STRIPES[alpha2]
    assert column(flags[alpha2], across) == colours


PROBES = {
    "fr": [(1 / 6, 1 / 2, "#000091"), (1 / 2, 1 / 2, "white"), (5 / 6, 1 / 2, "#E1000F")],
    "ie": [(1 / 6, 1 / 2, "#169B62"), (1 / 2, 1 / 2, "white"), (5 / 6, 1 / 2, "#FF883E")],
    "ci": [(1 / 6, 1 / 2, "orange"), (1 / 2, 1 / 2, "white"), (5 / 6, 1 / 2, "#009A44")],
    "jp": [
        (1 / 2, 1 / 2, "#BC002D"),
        (0.01, 0.01, "white"),
        (1 / 2, 0.18, "white"),
        (1 / 2, 0.22, "#BC002D"),
    ],
    "no": [(8 / 22, 1 / 2, "#00205B"), (1 / 2, 1 / 2, "#00205B"), (0.01, 0.01, "#BA0C2F")],
    "ch": [(1 / 2, 1 / 2, "white"), (0.1, 1 / 2, "scarlet"), (0.3, 0.3, "scarlet")],
    "us": [
        (0.005, 0.005, "#3C3B6E"),
        (1 / 30, 0.0538, "white"),
        (0.39, 0.5, "#3C3B6E"),
        (0.39, 0.56, "white"),
    ],
    # At the upper hoist the broad white edge lies above the red arm, at the upper fly below it.
    "gb": [(0.1, 0.08, "white"), (0.1, 0.13, "crimson"), (0.9, 0.08, "crimson"), (0.9, 0.13, "white")],
    "kr": [
        (1 / 2, 0.3, "#CD2E3A"),
        (1 / 2, 0.7, "#0047A0"),
        (0.43, 0.5, "#CD2E3A"),
        (0.57, 0.5, "#0047A0"),
        (0.754, 0.246, "black"),
        (0.246, 0.246, "black"),
        (0.246, 0.754, "white"),
        (0.754, 0.754, "white"),
    ],
    "tr": [(0.2, 0.5, "white"), (0.39, 0.5, "#E30A17"), (0.547, 0.5, "white"), (0.9, 0.5, "#E30A17")],
    "bh": [(0.1, 0.5, "white"), (0.3, 0.02, "scarlet"), (0.3, 0.1, "white"), (0.5, 0.5, "scarlet")],
    "sc": [(0.1, 0.1, "#003F87"), (0.5, 0.1, "#FCD856"), (0.9, 0.1, "#D62828"), (0.95, 0.5, "white")],
    "tt": [(0.005, 0.01, "black"), (1 / 2, 1 / 2, "black"), (0.1, 0.9, "#DA1A35"), (0.9, 0.1, "#DA1A35")],
    "tz": [(0.1, 0.1, "lime"), (0.9, 0.9, "#00A3DD"), (1 / 2, 1 / 2, "black"), (0.005, 0.99, "black")],
    "jm": [
        (1 / 2, 0.1, "#009B3A"),
        (0.1, 1 / 2, "black"),
        (1 / 2, 1 / 2, "#FED100"),
        (0.005, 0.01, "#FED100"),
    ],
    "il": [(1 / 2, 1 / 2, "white"), (1 / 2, 0.395, "blue"), (1 / 2, 0.29, "blue"), (1 / 2, 0.2, "blue")],
    "za": [(0.02, 1 / 2, "black"), (0.9, 1 / 2, "#007749"), (0.9, 0.1, "#E03C31"), (0.9, 0.36, "white")],
    "in": [(1 / 2, 1 / 2, "#06038D"), (1 / 2, 0.36, "#06038D"), (0.9, 0.5, "white"), (0.9, 0.1, "#FF671F")],
    "kp": [(0.26, 0.35, "white"), (1 / 3, 1 / 2, "#ED1C27"), (1 / 3, 0.9, "#024FA2")],
    "cv": [(3 / 8, 0.375, "#F7D116"), (3 / 8, 0.875, "#F7D116"), (3 / 8, 0.625, "#CF2027")],
    "na": [(0.2, 0.2723, "#FFCE00"), (0.2, 0.2723 - 0.0915, "#003580"), (0.2, 0.14, "#FFCE00")],
    "cz": [(0.3, 1 / 2, "#11457E"), (0.6, 1 / 4, "white"), (0.6, 3 / 4, "#D7141A")],
    "to": [(5 / 24, 1 / 4, "#C10000"), (0.3, 0.1, "white"), (0.9, 0.1, "#C10000")],
    "kw": [(0.1, 1 / 2, "black"), (0.9, 1 / 2, "white"), (0.24, 0.1, "green")],
    "ma": [(1 / 2, 1 / 2, "#C1272D"), (1 / 2, 0.443, "forest")],
}


@pytest.mark.parametrize("alpha2", PROBES)
def test_pixels(flags: dict[str, Flag], alpha2: str) -> None:
    for across, down, colour in PROBES[alpha2]:
        assert at(flags[alpha2], across, down) == rgb(colour), (across, down)


def test_ireland_is_no_cote_divoire_turned_over(flags: dict[str, Flag]) -> None:
    # Green is at the hoist of the one and at the fly of the other; the shades are different too.
    assert at(flags["ie"], 0.1, 0.5)[1] > at(flags["ie"], 0.1, 0.5)[0]
    assert at(flags["ci"], 0.1, 0.5)[0] > at(flags["ci"], 0.1, 0.5)[1]


def test_the_usa_has_fifty_stars(flags: dict[str, Flag]) -> None:
    grids = [shape.numbers for shape in flags["us"].shapes if shape.name == "grid"]
    assert sum(numbers["columns"] * numbers["rows"] for numbers in grids) == 50


EVERY_SHAPE: dict[str, list[tuple[str, float, float, bool]]] = {
    "field black": [("inside", 0.5, 0.5, True)],
    "horizontal 3:black 1:white": [("above", 0.5, 0.74, True), ("below", 0.5, 0.76, False)],
    "vertical 3:black 1:white": [("left", 0.74, 0.5, True), ("right", 0.76, 0.5, False)],
    "box black at 1,0.5 0.5,0.25": [("inside", 0.26, 0.26, True), ("outside", 0.24, 0.26, False)],
    "polygon black at 0,0 2,0 2,1": [("above", 0.6, 0.5, True), ("below", 0.4, 0.5, False)],
    "triangle black reach 1": [("inside", 0.48, 0.5, True), ("outside", 0.48, 0.4, False)],
    "line black width 0.2 at 0.5,0.5 1,0.5": [("inside", 0.26, 0.41, True), ("before", 0.24, 0.5, False)],
    "outline black width 0.1 at 0.5,0.1 1.5,0.1 1.5,0.9 0.5,0.9": [
        ("mitred corner", 0.23, 0.06, True),
        ("hole", 0.5, 0.5, False),
        ("beyond the corner", 0.22, 0.06, False),
        ("last edge", 0.25, 0.5, True),
    ],
    "rising black width 0.2": [("corner", 0.002, 0.995, True), ("other corner", 0.01, 0.01, False)],
    "falling black width 0.2": [("corner", 0.002, 0.005, True), ("other corner", 0.01, 0.99, False)],
    "saltire black width 0.2": [("corner", 0.002, 0.005, True), ("side", 0.5, 0.1, False)],
    "cross black width 0.2 at 0.5,0.5": [
        ("upright", 0.25, 0.1, True),
        ("bar", 0.9, 0.41, True),
        ("no", 0.5, 0.3, False),
    ],
    "plus black size 0.8 width 0.2 flare 0.4 at 1,0.5": [
        ("flared end", 0.41, 0.11, True),
        ("beside it", 0.39, 0.11, False),
        ("waist", 0.58, 0.3, False),
    ],
    "disc black size 0.8 at 1,0.5": [("inside", 0.5, 0.11, True), ("outside", 0.5, 0.09, False)],
    "ring black size 0.8 width 0.1 at 1,0.5": [("rim", 0.5, 0.12, True), ("hole", 0.5, 0.22, False)],
    "sector black size 0.8 from 0 to 90 at 1,0.5": [
        ("inside", 0.55, 0.4, True),
        ("outside", 0.45, 0.4, False),
    ],
    "crescent black size 0.8 at 1,0.5 bite_size 0.8 bite 1.2,0.5": [
        ("horn", 0.35, 0.5, True),
        ("bite", 0.45, 0.5, False),
    ],
    "star black points 4 inner 0.5 size 0.8 turn 45 at 1,0.5": [
        ("tip", 0.635, 0.23, True),
        ("notch", 0.5, 0.28, False),
    ],
    "star black size 0.8 facing 2,0.5 at 1,0.5": [("tip", 0.69, 0.5, True), ("other side", 0.32, 0.5, False)],
    "circlet black count 4 radius 0.4 size 0.1 at 1,0.5": [
        ("top", 0.5, 0.1, True),
        ("right", 0.7, 0.5, True),
    ],
    "grid black columns 3 rows 2 size 0.2 at 0.2,0.2 step 0.5,0.4": [
        ("first", 0.1, 0.2, True),
        ("last", 0.6, 0.6, True),
        ("beyond", 0.85, 0.2, False),
    ],
    "spokes black count 4 hole 0.2 size 0.8 width 0.1 turn 45 at 1,0.5": [
        ("spoke", 0.6, 0.3, True),
        ("hole", 0.5, 0.5, False),
        ("between", 0.5, 0.2, False),
    ],
    "serrated black points 2 from 0.5 to 1": [("tip", 0.49, 0.25, True), ("notch", 0.3, 0.5, False)],
    "trigram black lines 101 size 0.8 turn 90 at 1,0.5": [
        ("broken bar", 0.5, 0.5, False),
        ("its half", 0.5, 0.3, True),
        ("whole bar", 0.6, 0.5, True),
    ],
}


@pytest.mark.parametrize("drawing", EVERY_SHAPE)
def test_shapes_cover_what_they_say(drawing: str) -> None:
    for what, across, down, black in EVERY_SHAPE[drawing]:
        assert (at(drawn(drawing), across, down) == BLACK) is black, what


def test_every_shape_is_tested() -> None:
    tested = {drawing.split()[0] for drawing in EVERY_SHAPE}
    assert tested | {"union"} == KINDS.keys()  # The union is probed above, in the flag of gb.


ERRORS = {
    "blob red": "unknown shape 'blob'; one of field, horizontal,",
    "field red;": "unknown shape ''; one of",
    "field reddish": "field: unknown colour 'reddish'; one of white, black,",
    "field #ff0000": "or #RRGGBB in capitals is needed",
    "field": "field: 0 colours; 1 needed",
    "vertical red": "vertical: 1 colours; 2 to",
    "vertical 0:red white": "vertical: '0' is no share; a positive number is needed, as in '2:red'",
    "union white at 0,0 1,1": "union: 1 colours; 0 needed",
    "disc red size big at 1,1/2": "disc: 'big' is no size; one number is needed, as in 2, 0.5 or 1/3",
    "disc red size 1/0 at 1,1/2": "disc: '1/0' is no size; one number is needed",
    "disc red size 0 at 1,1/2": "disc: size is 0; it must be above 0",
    "disc red size 1": "disc: lacks at; it needs size, at",
    "disc red size 1 at 1": "disc: '1' is no point; x,y is needed, as in '1/2,0.25'",
    "disc red size 1 at 1,1/2 size 2": "disc: unexpected key 'size'; its keys, each once, are size, at",
    "disc red size 1 at 1,1/2 shine 2": "disc: unexpected key 'shine'; its keys, each once, are size, at",
    "field red size 1": "field: unknown colour 'size'",
    "box red at 0,0": "box: 1 points after 'at'; 2 needed",
}


@pytest.mark.parametrize("drawing", ERRORS)
def test_a_wrong_drawing_is_told_with_its_place_and_remedy(tmp_path: Path, drawing: str) -> None:
    file = _table(tmp_path, "fr\t3:2\tfield red", f"de\t5:3\t{drawing}")
    with pytest.raises(DatasetError) as caught:
        read_flags(file)
    assert str(caught.value).startswith(f"{file}:3: ")
    assert ERRORS[drawing] in str(caught.value)


WRONG_LINES = {
    "fra\t3:2\tfield red": "'fra' is no country; two lower-case letters are needed, as in 'fr'",
    "fr\t3/2\tfield red": "'3/2' is no ratio; width:height is needed, as in '3:2'",
    "fr\t3:0\tfield red": "'3:0' is no ratio",
    "fr\t3:2": "2 cells; alpha2, ratio, drawing are needed, apart by tabs",
}


@pytest.mark.parametrize("line", WRONG_LINES)
def test_a_wrong_line_is_told(tmp_path: Path, line: str) -> None:
    file = _table(tmp_path, line)
    with pytest.raises(DatasetError) as caught:
        read_flags(file)
    assert str(caught.value).startswith(f"{file}:2: {WRONG_LINES[line]}")


def test_a_country_has_one_flag(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r":3: 'fr' has a flag already; keep one of the two lines"):
        read_flags(_table(tmp_path, *["fr\t3:2\tfield red"] * 2))


def test_the_header_is_needed(tmp_path: Path) -> None:
    for text in ("", "fr\t3:2\tfield red\n"):
        (tmp_path / "flags.tsv").write_text(text, encoding="utf-8")
        with pytest.raises(DatasetError, match=r":1: the header is .* must be alpha2, ratio, drawing, note"):
            read_flags(tmp_path / "flags.tsv")


def _table(directory: Path, *lines: str) -> Path:
    file = directory / "flags.tsv"
    file.write_text("\n".join(["\t".join(HEADER), *lines, ""]), encoding="utf-8")
    return file


def test_the_sheet_holds_every_flag(flags: dict[str, Flag]) -> None:
    few = {alpha2: flags[alpha2] for alpha2 in ("fr", "qa", "ch")}
    sheet = draw_sheet(few, columns=2, height=44)
    # Qatar's is the widest, 28:11; two columns of it, two rows, and their margins.
    assert sheet.size == (2 * (112 + 10), 2 * (44 + 30))
    assert sheet.getpixel((5 + 112 + 10 + 100, 25)) == rgb("maroon")
    assert sheet.getpixel((5 + 22, 44 + 30 + 5 + 22)) == WHITE


@pytest.fixture
def no_pillow(tmp_path: Path) -> Iterator[dict[str, str]]:
    (tmp_path / "PIL.py").write_text("raise ImportError('no Pillow here')", encoding="utf-8")
    yield {"PYTHONPATH": str(tmp_path)}


def test_reading_needs_no_pillow(no_pillow: dict[str, str]) -> None:
    script = "from training.world.flags import read_flags; assert read_flags()"
    root = Path(module.__file__).parents[2]
    subprocess.run([sys.executable, "-c", script], cwd=root, env=no_pillow, check=True)
