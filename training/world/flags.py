"""Flags of countries, drawn from a table that says in words what is on them.

A line of ``tables/flags.tsv`` holds a country (ISO 3166 alpha-2, lower case), the ratio of its flag
(``width:height``), a drawing, and maybe a note for whoever reads the table. A drawing is a list of shapes
apart by ``;``, painted in this order: a name, colours, then keys with their values, as in
``field white; disc #BC002D size 3/5 at 3/4,1/2``.

- Shapes and their keys are listed in ``momok.training.world.shapes.KINDS``.
- A colour is a name of ``COLOURS`` or ``#RRGGBB``; stripes take ``2:red`` for one twice as wide as ``red``.
- A number is ``12``, ``0.5`` or ``3/5``; a point is two of them, ``x,y``; ``at`` takes several points.
- Lengths are in heights of the flag, x from the hoist, y from the top; ``size`` is a diameter; angles are in
  degrees, clockwise from up.

Members of the UN without a flag stand in ``tables/flags_left_out.tsv`` with what these shapes cannot draw.
``python -m training.world.flags SHEET.png`` paints all flags on one sheet, to be looked at.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from momok.model.bundle.names import shorten
from momok.training.data.files import DatasetError, read_lines
from momok.training.world.geometry import Point, Rgb
from momok.training.world.shapes import KINDS, Kind, Shape

if TYPE_CHECKING:  # Reading the table needs no Pillow, drawing does.
    from PIL import Image

TABLE = Path(__file__).parent / "tables" / "flags.tsv"
HEADER = ("alpha2", "ratio", "drawing", "note")

COLOURS: Mapping[str, str] = {
    "white": "#FFFFFF",
    "black": "#000000",
    "red": "#CE1126",
    "scarlet": "#DA291C",
    "crimson": "#C8102E",
    "maroon": "#8A1538",
    "orange": "#FF8200",
    "gold": "#FFC72C",
    "yellow": "#FCD116",
    "green": "#007A3D",
    "emerald": "#009E49",
    "forest": "#006233",
    "lime": "#1EB53A",
    "blue": "#0038A8",
    "navy": "#002868",
    "midnight": "#012169",
}
"""Shades that several flags share, near enough to tell one flag from another; the rest are in the table."""

_NUMBER = re.compile(r"-?(?:\d+(?:\.\d+)?|\.\d+)(?:/\d*[1-9]\d*)?")
_POINT_KEYS = frozenset({"at", "bite", "facing", "step"})
_POSITIVE_KEYS = frozenset({"size", "width", "points", "count", "columns", "rows", "reach", "radius"})


@dataclass(frozen=True)
class Flag:
    """The flag of a country."""

    alpha2: str
    ratio: tuple[float, float]
    """Width and height, as they are told: (3, 2)."""
    shapes: tuple[Shape, ...]

    @property
    def width(self) -> float:
        """In heights."""
        return self.ratio[0] / self.ratio[1]


def read_flags(path: Path = TABLE) -> dict[str, Flag]:
    """Every flag of the table by its country, in its order; ``DatasetError`` says what is wrong where."""
    header, *lines = read_lines(path) or [""]
    if tuple(header.split("\t")) != HEADER:
        message = f"the header is {shorten(header)!r}; it must be {', '.join(HEADER)}, apart by tabs"
        raise DatasetError(message, file=path, line=1)
    flags: dict[str, Flag] = {}
    for number, line in enumerate(lines, start=2):
        try:
            flag = parse_flag(line)
            if flag.alpha2 in flags:
                raise DatasetError(f"{flag.alpha2!r} has a flag already; keep one of the two lines")
        except DatasetError as error:
            raise DatasetError(error.message, file=path, line=number) from None
        flags[flag.alpha2] = flag
    return flags


def parse_flag(line: str) -> Flag:
    """The flag of one line; ``DatasetError`` without a place."""
    cells = line.split("\t")
    if not len(HEADER) - 1 <= len(cells) <= len(HEADER):
        raise DatasetError(f"{len(cells)} cells; {', '.join(HEADER[:-1])} are needed, apart by tabs")
    alpha2, ratio, drawing = cells[:3]
    if not re.fullmatch(r"[a-z]{2}", alpha2):
        raise DatasetError(
            f"{shorten(alpha2)!r} is no country; two lower-case letters are needed, as in 'fr'"
        )
    sides = ratio.split(":")
    if len(sides) != 2 or not all(_NUMBER.fullmatch(side) and _number(side) > 0 for side in sides):
        raise DatasetError(f"{shorten(ratio)!r} is no ratio; width:height is needed, as in '3:2'")
    width, height = map(_number, sides)
    return Flag(alpha2, (width, height), tuple(map(_shape, drawing.split(";"))))


def draw(flag: Flag, height: int = 120) -> Image.Image:
    """The flag in RGB, ``height`` pixels high and as wide as its ratio asks; the same pixels every time."""
    from momok.training.world.canvas import Canvas

    canvas = Canvas(flag.width, height)
    for shape in flag.shapes:
        shape.paint(canvas)
    return canvas.finish()


def draw_sheet(flags: Mapping[str, Flag], *, columns: int = 8, height: int = 120) -> Image.Image:
    """All flags in their order on one picture, each ``height`` pixels high above its code."""
    from PIL import Image, ImageDraw

    column, row = max(round(flag.width * height) for flag in flags.values()) + 10, height + 30
    rows = -(-len(flags) // columns)
    sheet = Image.new("RGB", (columns * column, rows * row), (200, 200, 200))
    for index, flag in enumerate(flags.values()):
        left, top = index % columns * column + 5, index // columns * row + 5
        sheet.paste(draw(flag, height), (left, top))
        ImageDraw.Draw(sheet).text((left, top + height + 5), flag.alpha2, fill=(0, 0, 0))
    return sheet


def _shape(text: str) -> Shape:
    name, *words = text.split() or [""]
    if name not in KINDS:
        raise DatasetError(f"unknown shape {shorten(name)!r}; one of {', '.join(KINDS)} is needed")
    kind = KINDS[name]
    known = {*kind.needs, *kind.options}
    first_key = next((index for index, word in enumerate(words) if word in known), len(words))
    stripes = [_stripe(word, name) for word in words[:first_key]]
    points: dict[str, tuple[Point, ...]] = {}
    numbers: dict[str, float] = {}
    for key, values in _keys(words[first_key:]):
        if key not in known or key in points or key in numbers:
            right = f"its keys, each once, are {', '.join([*kind.needs, *kind.options]) or 'none'}"
            raise DatasetError(f"{name}: unexpected key {shorten(key)!r}; {right}")
        if key in _POINT_KEYS:
            points[key] = _points(name, kind, key, values)
        else:
            numbers[key] = _value(name, key, values)
    missing = [key for key in kind.needs if key not in points and key not in numbers]
    if missing:
        raise DatasetError(f"{name}: lacks {', '.join(missing)}; it needs {', '.join(kind.needs)}")
    _check_count(f"{name}: {{}} colours", len(stripes), kind.num_colours)
    colours, weights = zip(*stripes, strict=True) if stripes else ((), ())
    return Shape(name, colours, weights, points, numbers)


def _keys(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Every key with the values that follow it, at least one; ``words`` begin with a key."""
    groups: list[list[str]] = []
    for word in words:
        if groups and (len(groups[-1]) == 1 or not word[0].isalpha()):
            groups[-1].append(word)
        else:
            groups.append([word])
    yield from ((key, values) for key, *values in groups)


def _stripe(word: str, name: str) -> tuple[Rgb, float]:
    """Colour and weight of ``red`` or ``2:red``."""
    weight, colon, colour = word.rpartition(":")
    if colon and not (_NUMBER.fullmatch(weight) and _number(weight) > 0):
        raise DatasetError(
            f"{name}: {shorten(weight)!r} is no share; a positive number is needed, as in '2:red'"
        )
    code = COLOURS.get(colour, colour)
    if not re.fullmatch(r"#[0-9A-F]{6}", code):
        right = f"one of {', '.join(COLOURS)} or #RRGGBB in capitals is needed here, before the keys"
        raise DatasetError(f"{name}: unknown colour {shorten(colour)!r}; {right}")
    red, green, blue = bytes.fromhex(code[1:])
    return (red, green, blue), _number(weight) if colon else 1.0


def _points(name: str, kind: Kind, key: str, values: list[str]) -> tuple[Point, ...]:
    _check_count(f"{name}: {{}} points after {key!r}", len(values), kind.num_at if key == "at" else (1, 1))
    found: list[Point] = []
    for value in values:
        x, _, y = value.partition(",")
        if not (_NUMBER.fullmatch(x) and _NUMBER.fullmatch(y)):
            raise DatasetError(f"{name}: {shorten(value)!r} is no point; x,y is needed, as in '1/2,0.25'")
        found.append((_number(x), _number(y)))
    return tuple(found)


def _value(name: str, key: str, values: list[str]) -> float:
    text = " ".join(values)
    if not _NUMBER.fullmatch(text):
        raise DatasetError(
            f"{name}: {shorten(text)!r} is no {key}; one number is needed, as in 2, 0.5 or 1/3"
        )
    value = _number(text)
    if key in _POSITIVE_KEYS and value <= 0:
        raise DatasetError(f"{name}: {key} is {shorten(text)}; it must be above 0")
    return value


def _number(text: str) -> float:
    over, _, under = text.partition("/")
    return float(over) / float(under or 1)


def _check_count(what: str, found: int, allowed: tuple[int, int]) -> None:
    low, high = allowed
    if not low <= found <= high:
        right = f"{low}" if low == high else f"{low} to {high}"
        raise DatasetError(f"{what.format(found)}; {right} needed")


if __name__ == "__main__":
    draw_sheet(read_flags()).save(sys.argv[1])
