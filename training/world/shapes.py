"""The vocabulary of flags: what each shape is called, what it needs, and how it is painted.

Lengths are in heights of the flag, x from the hoist and y from the top; sizes are diameters; angles are in
degrees, clockwise from up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import atan2, cos, degrees, pi
from typing import TYPE_CHECKING

from momok.training.world.geometry import Point, Rgb, around, bar, beyond, direction, stroke

if TYPE_CHECKING:  # So that tables of flags can be read where Pillow is not installed.
    from momok.training.world.canvas import Canvas

WHITE: Rgb = (0xFF, 0xFF, 0xFF)
UNION_BLUE: Rgb = (0x01, 0x21, 0x69)
UNION_RED: Rgb = (0xC8, 0x10, 0x2E)


@dataclass(frozen=True)
class Shape:
    """One shape of a flag, as its line in the table says it."""

    name: str
    colours: tuple[Rgb, ...] = ()
    weights: tuple[float, ...] = ()
    """Shares of the stripes, one for each colour; nothing else looks at them."""
    points: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def colour(self) -> Rgb:
        return self.colours[0]

    @property
    def at(self) -> tuple[Point, ...]:
        return self.points["at"]

    def paint(self, canvas: Canvas) -> None:
        KINDS[self.name].paint(canvas, self)


@dataclass(frozen=True)
class Kind:
    """How a shape is painted, and what its line has to say."""

    paint: Callable[[Canvas, Shape], None]
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    num_colours: tuple[int, int] = (1, 1)
    """Fewest and most."""
    num_at: tuple[int, int] = (1, 1)
    """Fewest and most points after ``at``, where it is needed."""


def _field(canvas: Canvas, shape: Shape) -> None:
    canvas.box(shape.colour, (0, 0), (canvas.width, 1))


def _horizontal(canvas: Canvas, shape: Shape) -> None:
    for colour, start, end in _stripes(shape):
        canvas.box(colour, (0, start), (canvas.width, end))


def _vertical(canvas: Canvas, shape: Shape) -> None:
    for colour, start, end in _stripes(shape):
        canvas.box(colour, (start * canvas.width, 0), (end * canvas.width, 1))


def _stripes(shape: Shape) -> list[tuple[Rgb, float, float]]:
    """Colour, start and end in 0…1 of every stripe."""
    total = sum(shape.weights)
    edges = pairwise(accumulate(shape.weights, initial=0.0))
    return [
        (colour, start / total, end / total)
        for colour, (start, end) in zip(shape.colours, edges, strict=True)
    ]


def _box(canvas: Canvas, shape: Shape) -> None:
    canvas.box(shape.colour, *shape.at)


def _polygon(canvas: Canvas, shape: Shape) -> None:
    canvas.polygon(shape.colour, shape.at)


def _triangle(canvas: Canvas, shape: Shape) -> None:
    canvas.polygon(shape.colour, [(0, 0), (shape.numbers["reach"], 0.5), (0, 1)])


def _line(canvas: Canvas, shape: Shape) -> None:
    before, after = (beyond(start, end) for start, end in (shape.at[1::-1], shape.at[-2:]))
    _strokes(canvas, shape, [before, *shape.at, after])


def _outline(canvas: Canvas, shape: Shape) -> None:
    _strokes(canvas, shape, [shape.at[-1], *shape.at, *shape.at[:2]])


def _strokes(canvas: Canvas, shape: Shape, points: Sequence[Point]) -> None:
    for piece in stroke(points, shape.numbers["width"]):
        canvas.polygon(shape.colour, piece)


def _rising(canvas: Canvas, shape: Shape) -> None:
    _band(canvas, shape, (0, 1), (canvas.width, 0))


def _falling(canvas: Canvas, shape: Shape) -> None:
    _band(canvas, shape, (0, 0), (canvas.width, 1))


def _saltire(canvas: Canvas, shape: Shape) -> None:
    _rising(canvas, shape)
    _falling(canvas, shape)


def _band(canvas: Canvas, shape: Shape, start: Point, end: Point) -> None:
    """A line that runs on beyond both corners, so that it fills them."""
    canvas.polygon(shape.colour, bar(beyond(end, start), beyond(start, end), shape.numbers["width"]))


def _cross(canvas: Canvas, shape: Shape) -> None:
    [(x, y)], half = shape.at, shape.numbers["width"] / 2
    canvas.box(shape.colour, (0, y - half), (canvas.width, y + half))
    canvas.box(shape.colour, (x - half, 0), (x + half, 1))


def _plus(canvas: Canvas, shape: Shape) -> None:
    size, width = shape.numbers["size"], shape.numbers["width"]
    end = shape.numbers.get("flare", width)
    for x, y in shape.at:
        half, inner, outer = size / 2, width / 2, end / 2
        across = [(-half, -outer), (0, -inner), (half, -outer), (half, outer), (0, inner), (-half, outer)]
        canvas.polygon(shape.colour, [(x + dx, y + dy) for dx, dy in across])
        canvas.polygon(shape.colour, [(x + dy, y + dx) for dx, dy in across])


def _disc(canvas: Canvas, shape: Shape) -> None:
    for centre in shape.at:
        canvas.disc(shape.colour, centre, shape.numbers["size"])


def _ring(canvas: Canvas, shape: Shape) -> None:
    canvas.ring(shape.colour, shape.at[0], shape.numbers["size"], shape.numbers["width"])


def _sector(canvas: Canvas, shape: Shape) -> None:
    numbers = shape.numbers
    canvas.sector(shape.colour, shape.at[0], numbers["size"], numbers["from"], numbers["to"])


def _crescent(canvas: Canvas, shape: Shape) -> None:
    [bite], numbers = shape.points["bite"], shape.numbers
    canvas.bitten_disc(shape.colour, shape.at[0], numbers["size"], bite, numbers["bite_size"])


def _star(canvas: Canvas, shape: Shape) -> None:
    for centre in shape.at:
        _one_star(canvas, shape, centre)


def _circlet(canvas: Canvas, shape: Shape) -> None:
    count = round(shape.numbers["count"])
    for index in range(count):
        _one_star(canvas, shape, around(shape.at[0], shape.numbers["radius"], 360 * index / count))


def _grid(canvas: Canvas, shape: Shape) -> None:
    [(x, y)], [(dx, dy)] = shape.at, shape.points["step"]
    for row in range(round(shape.numbers["rows"])):
        for column in range(round(shape.numbers["columns"])):
            _one_star(canvas, shape, (x + column * dx, y + row * dy))


def _one_star(canvas: Canvas, shape: Shape, centre: Point) -> None:
    numbers = shape.numbers
    tips = round(numbers.get("points", 5))
    # By default the edges of a star run on to the next tip but one, as in a pentagram.
    inner = numbers.get("inner", cos(2 * pi / tips) / cos(pi / tips))
    turn = numbers.get("turn", 0.0)
    if "facing" in shape.points:
        [(x, y)] = shape.points["facing"]
        turn = degrees(atan2(x - centre[0], centre[1] - y))
    radii = (numbers["size"] / 2, numbers["size"] / 2 * inner)
    corners = [around(centre, radii[half % 2], turn + 180 * half / tips) for half in range(2 * tips)]
    canvas.polygon(shape.colour, corners)


def _spokes(canvas: Canvas, shape: Shape) -> None:
    numbers, [centre] = shape.numbers, shape.at
    count = round(numbers["count"])
    for index in range(count):
        angle = numbers.get("turn", 0.0) + 360 * index / count
        start, end = (
            around(centre, radius / 2, angle) for radius in (numbers.get("hole", 0.0), numbers["size"])
        )
        canvas.polygon(shape.colour, bar(start, end, numbers["width"]))


def _serrated(canvas: Canvas, shape: Shape) -> None:
    low, high, count = shape.numbers["from"], shape.numbers["to"], round(shape.numbers["points"])
    edge = [((low, high)[half % 2], half / (2 * count)) for half in range(2 * count + 1)]
    canvas.polygon(shape.colour, [(0, 0), *edge, (0, 1)])


def _union(canvas: Canvas, shape: Shape) -> None:
    """The Union Flag, laid out for a box twice as wide as high, where 30 units are its height."""
    first, second = shape.at
    flag = canvas.inset(first, second)
    width, unit, centre = flag.width, 1 / 30, (flag.width / 2, 0.5)
    blank = Shape("union", (WHITE,), numbers={"width": 6 * unit})
    flag.box(UNION_BLUE, (0, 0), (width, 1))
    _saltire(flag, blank)
    # Seen from the centre, every red arm lies on the same side of its white arm's middle.
    for corner in ((0.0, 0.0), (width, 0.0), (width, 1.0), (0.0, 1.0)):
        tip = beyond(centre, corner)
        x, y = direction(centre, tip)
        dx, dy = y * 2 * unit, -x * 2 * unit
        flag.polygon(UNION_RED, [centre, tip, (tip[0] + dx, tip[1] + dy), (centre[0] + dx, centre[1] + dy)])
    for colour, thickness in ((WHITE, 10 * unit), (UNION_RED, 6 * unit)):
        _cross(flag, Shape("union", (colour,), points={"at": (centre,)}, numbers={"width": thickness}))
    canvas.paste(flag, first)


def _trigram(canvas: Canvas, shape: Shape) -> None:
    """Three bars, 1 whole and 0 broken, from the top one down before it is turned; ``size`` is their length.

    Bars are a sixth as thick as long, and apart by half of that.
    """
    [centre], size, turn = shape.at, shape.numbers["size"], shape.numbers["turn"]
    for row, kind in enumerate(f"{round(shape.numbers['lines']):03d}", start=-1):
        middle = around(centre, row * size / 4, turn + 180)
        for start, end in [(-1 / 2, 1 / 2)] if kind == "1" else [(-1 / 2, -1 / 24), (1 / 24, 1 / 2)]:
            left, right = (around(middle, size * reach, turn + 90) for reach in (start, end))
            canvas.polygon(shape.colour, bar(left, right, size / 6))


_MANY = 99
KINDS: dict[str, Kind] = {
    "field": Kind(_field),
    "horizontal": Kind(_horizontal, num_colours=(2, _MANY)),
    "vertical": Kind(_vertical, num_colours=(2, _MANY)),
    "box": Kind(_box, ("at",), num_at=(2, 2)),
    "polygon": Kind(_polygon, ("at",), num_at=(3, _MANY)),
    "triangle": Kind(_triangle, ("reach",)),
    "line": Kind(_line, ("width", "at"), num_at=(2, _MANY)),
    "outline": Kind(_outline, ("width", "at"), num_at=(3, _MANY)),
    "rising": Kind(_rising, ("width",)),
    "falling": Kind(_falling, ("width",)),
    "saltire": Kind(_saltire, ("width",)),
    "cross": Kind(_cross, ("width", "at")),
    "plus": Kind(_plus, ("size", "width", "at"), ("flare",), num_at=(1, _MANY)),
    "disc": Kind(_disc, ("size", "at"), num_at=(1, _MANY)),
    "ring": Kind(_ring, ("size", "width", "at")),
    "sector": Kind(_sector, ("size", "from", "to", "at")),
    "crescent": Kind(_crescent, ("size", "at", "bite_size", "bite")),
    "star": Kind(_star, ("size", "at"), ("points", "inner", "turn", "facing"), num_at=(1, _MANY)),
    "circlet": Kind(_circlet, ("count", "radius", "size", "at")),
    "grid": Kind(_grid, ("columns", "rows", "size", "at", "step")),
    "spokes": Kind(_spokes, ("count", "size", "width", "at"), ("hole", "turn")),
    "serrated": Kind(_serrated, ("points", "from", "to")),
    "union": Kind(_union, ("at",), num_colours=(0, 0), num_at=(2, 2)),
    "trigram": Kind(_trigram, ("lines", "size", "turn", "at")),
}
"""Every shape that a drawing may name."""
