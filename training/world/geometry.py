"""Points, colours and lines of flags; lengths in heights, y from the top, angles clockwise from up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import cos, hypot, radians, sin

Point = tuple[float, float]
Rgb = tuple[int, int, int]


def stroke(points: Sequence[Point], width: float) -> list[list[Point]]:
    """The corners of every piece of a line from the second to the last point but one.

    The outer two points say how its ends are cut.
    """
    corners = [
        _mitre(before, corner, after, width)
        for before, corner, after in zip(points, points[1:], points[2:], strict=False)
    ]
    return [
        [left, next_left, next_right, right] for (left, right), (next_left, next_right) in pairwise(corners)
    ]


def bar(start: Point, end: Point, width: float) -> list[Point]:
    """The corners of a straight line."""
    x, y = direction(start, end)
    dx, dy = y * width / 2, -x * width / 2
    return [
        (start[0] + dx, start[1] + dy),
        (end[0] + dx, end[1] + dy),
        (end[0] - dx, end[1] - dy),
        (start[0] - dx, start[1] - dy),
    ]


def direction(start: Point, end: Point) -> Point:
    x, y = end[0] - start[0], end[1] - start[1]
    return x / hypot(x, y), y / hypot(x, y)


def beyond(start: Point, end: Point) -> Point:
    """A point one height further on in the same direction."""
    x, y = direction(start, end)
    return end[0] + x, end[1] + y


def around(centre: Point, radius: float, angle: float) -> Point:
    return centre[0] + radius * sin(radians(angle)), centre[1] - radius * cos(radians(angle))


def _mitre(before: Point, corner: Point, after: Point, width: float) -> tuple[Point, Point]:
    """Where the two sides of a line meet at a corner of it."""
    towards, onwards = direction(before, corner), direction(corner, after)
    x, y = towards[0] + onwards[0], towards[1] + onwards[1]
    # The half width is what the offset measures across the line, not along the bisector.
    scale = width / 2 / ((x * x + y * y) / 2)
    return (corner[0] + y * scale, corner[1] - x * scale), (corner[0] - y * scale, corner[1] + x * scale)
