"""What a flag is painted on: plain areas of one colour, eight times too large, averaged in the end.

Lengths are in heights of the flag: x runs from 0 at the hoist to ``width`` at the fly, y from 0 at the top
to 1 at the bottom.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from momok.training.world.geometry import Point, Rgb

_OVERSAMPLING = 8


class Canvas:
    """An area of ``width`` x 1, drawn at ``height_px`` once it is finished."""

    def __init__(self, width: float, height_px: int) -> None:
        """``width`` in heights, so it is the flag's ratio."""
        self.width = width
        self.height_px = height_px
        self._scale = height_px * _OVERSAMPLING
        size = (round(width * height_px) * _OVERSAMPLING, self._scale)
        self._image = Image.new("RGB", size, (255, 255, 255))
        self._draw = ImageDraw.Draw(self._image)

    def finish(self) -> Image.Image:
        """The picture: every pixel the mean of what lies on it."""
        return self._image.reduce(_OVERSAMPLING)

    def box(self, colour: Rgb, first: Point, second: Point) -> None:
        """A rectangle between opposite corners; boxes that share an edge leave no gap and no overlap."""
        (left, right), (top, bottom) = (
            sorted(round(corner[axis] * self._scale) for corner in (first, second)) for axis in (0, 1)
        )
        if left < right and top < bottom:
            self._draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)

    def polygon(self, colour: Rgb, points: Sequence[Point]) -> None:
        self._draw.polygon([self._pixel(point) for point in points], fill=colour)

    def disc(self, colour: Rgb, centre: Point, size: float) -> None:
        """``size`` is the diameter."""
        self._draw.ellipse(self._round(centre, size), fill=colour)

    def ring(self, colour: Rgb, centre: Point, size: float, width: float) -> None:
        """``size`` is the outer diameter; what the ring surrounds stays as it is."""
        self.bitten_disc(colour, centre, size, centre, size - 2 * width)

    def bitten_disc(self, colour: Rgb, centre: Point, size: float, bite: Point, bite_size: float) -> None:
        """A disc without what another disc covers of it, and so a crescent."""
        mask = Image.new("1", self._image.size)
        draw = ImageDraw.Draw(mask)
        draw.ellipse(self._round(centre, size), fill=1)
        draw.ellipse(self._round(bite, bite_size), fill=0)
        self._image.paste(colour, mask=mask)

    def sector(self, colour: Rgb, centre: Point, size: float, start: float, end: float) -> None:
        """A slice of a disc, clockwise from ``start`` to ``end`` (degrees, 0 is up)."""
        self._draw.pieslice(self._round(centre, size), start - 90, end - 90, fill=colour)

    def inset(self, first: Point, second: Point) -> Canvas:
        """An empty canvas for the box between two corners; ``paste`` puts it there."""
        height_px = round((second[1] - first[1]) * self.height_px)
        return Canvas((second[0] - first[0]) / (second[1] - first[1]), height_px)

    def paste(self, other: Canvas, corner: Point) -> None:
        left, top = (round(coordinate * self._scale) for coordinate in corner)
        self._image.paste(other._image, (left, top))

    def _pixel(self, point: Point) -> Point:
        # Pillow counts from the middle of the first pixel.
        return point[0] * self._scale - 0.5, point[1] * self._scale - 0.5

    def _round(self, centre: Point, size: float) -> tuple[Point, Point]:
        radius = size / 2
        return (
            self._pixel((centre[0] - radius, centre[1] - radius)),
            self._pixel((centre[0] + radius, centre[1] + radius)),
        )
