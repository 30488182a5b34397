"""A pen for the sample's drawings: a few filled outlines in the unit square, moved, turned and squeezed as one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from curation.catalog.sample_dice import Dice

Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

COLOURS: Mapping[str, Colour] = {
    "black": (44, 44, 48),
    "white": (236, 234, 228),
    "grey": (138, 140, 144),
    "blue": (52, 92, 160),
    "red": (178, 48, 44),
    "green": (62, 118, 72),
    "brown": (112, 76, 50),
    "beige": (206, 186, 152),
    "orange": (220, 126, 48),
    "silver": (184, 188, 194),
    "gold": (204, 164, 72),
    "pink": (216, 138, 160),
    "wood": (168, 122, 76),
}
N_CORNERS = 28
"""Corners of a drawn circle: round enough at 200 pixels."""


def shaded(colour: Colour, factor: float) -> Colour:
    """Darker below 1, lighter above."""
    red, green, blue = (min(255, max(0, int(part * factor))) for part in colour)
    return red, green, blue


@dataclass(frozen=True, slots=True)
class Paint:
    """The colours of one thing."""

    main: Colour
    accent: Colour

    @property
    def dark(self) -> Colour:
        return shaded(self.main, 0.62)

    @property
    def light(self) -> Colour:
        return tuple(part + (255 - part) * 2 // 5 for part in self.main)  # type: ignore[return-value]

    @classmethod
    def mixed(cls, name: str, dice: Dice) -> "Paint":
        """A shade of the named colour, and an accent."""
        main = shaded(COLOURS[name], dice.uniform(0.85, 1.15))
        return cls(main, COLOURS[dice.pick(("black", "white", "red", "blue", "gold", "grey", "orange", "green"))])


INK: Colour = (34, 34, 38)
STEEL: Colour = (172, 176, 182)
GLASS: Colour = (86, 108, 126)
PAPER: Colour = (240, 236, 224)
TIMBER: Colour = (150, 106, 64)
RUBBER: Colour = (52, 52, 54)


class Pen:
    """Draws on an image. x runs right and y down, the thing fills about -1..1 of both."""

    def __init__(
        self, image: Image.Image, *, at: tuple[float, float], scale_px: float, turn: float, squeeze: float, lean: float
    ) -> None:
        """`at`: where (0, 0) comes, in pixels; `turn` in radians; `squeeze`: width by height; `lean`: shear."""
        cos, sin = math.cos(turn) * scale_px, math.sin(turn) * scale_px
        self._draw = ImageDraw.Draw(image)
        self._at = at
        self._matrix = (squeeze * cos, lean * cos - sin, squeeze * sin, lean * sin + cos)
        self._scale_px = scale_px

    def poly(self, points: Points, fill: Colour, *, edge: bool = True) -> None:
        self._draw.polygon(self._placed(points), fill, shaded(fill, 0.7) if edge else None)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour, *, cut: float = 0.0) -> None:
        """`cut`: how much of each corner is cut off."""
        if not cut:
            self.poly(((left, top), (right, top), (right, bottom), (left, bottom)), fill)
            return
        self.poly(
            (
                *((left + cut, top), (right - cut, top), (right - cut * 0.3, top + cut * 0.3), (right, top + cut)),
                *((right, bottom - cut), (right - cut * 0.3, bottom - cut * 0.3), (right - cut, bottom), (left + cut, bottom)),
                *(
                    (left + cut * 0.3, bottom - cut * 0.3),
                    (left, bottom - cut),
                    (left, top + cut),
                    (left + cut * 0.3, top + cut * 0.3),
                ),
            ),
            fill,
        )

    def disc(self, x: float, y: float, wide: float, fill: Colour, *, high: float | None = None, edge: bool = True) -> None:
        """`wide`, `high`: half axes."""
        self.poly(arc(x, y, wide, wide if high is None else high, 0, 1), fill, edge=edge)

    def ring(self, x: float, y: float, radius: float, width: float, fill: Colour) -> None:
        self.line([*arc(x, y, radius, radius, 0, 1), (x + radius, y)], width, fill)

    def line(self, points: Points, width: float, fill: Colour) -> None:
        self._draw.line(self._placed(points), fill, max(1, int(width * self._scale_px)), joint="curve")

    def _placed(self, points: Points) -> list[tuple[float, float]]:
        (a, b, c, d), (left, top) = self._matrix, self._at
        return [(left + a * x + b * y, top + c * x + d * y) for x, y in points]


def arc(x: float, y: float, wide: float, high: float, start: float, end: float) -> list[tuple[float, float]]:
    """Points on an ellipse; start and end in turns, clockwise from the right."""
    n = max(4, int(N_CORNERS * abs(end - start)))
    step = (end - start) * 2 * math.pi / n
    angles = [start * 2 * math.pi + step * at for at in range(n + (abs(end - start) < 1))]
    return [(x + wide * math.cos(angle), y + high * math.sin(angle)) for angle in angles]


def mirrored(points: Points) -> list[tuple[float, float]]:
    """A half outline (right side, top to bottom) and its mirror image."""
    return [*points, *((-x, y) for x, y in reversed(points))]


Shape = Callable[[Pen, Paint, Mapping[str, float], Dice], None]
