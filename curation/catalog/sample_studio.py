"""What the sample's photos share: floors and walls to lie on, light, and camera noise. Made once a catalog."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.catalog.sample_dice import Dice

SIDE_PX = 640
"""Side of a background: room for a crop at twice the size of a photo."""

LIGHT_PX = 256
N_BACKGROUNDS, N_LIGHTS, N_GRAINS = 28, 14, 6

Plane = NDArray[np.floating[Any]]


class Studio:
    """Ready-made pictures; photos only crop and combine them."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 0x5A])
        kinds = (_planks, _carpet, _corner, _sheet, _tiles, _lawn, _carpet)
        self.backgrounds = [_picture(kinds[at % len(kinds)](rng), _tone(at % len(kinds), rng)) for at in range(N_BACKGROUNDS)]
        self.white = _picture(np.full((SIDE_PX, SIDE_PX), 1.0, np.float32), (246.0, 246.0, 244.0))
        self._lights = [_light(rng) for _ in range(N_LIGHTS)]
        self._grains = [_grain(rng, 1.5 + 0.9 * at) for at in range(N_GRAINS)]

    def background(self, size: tuple[int, int], room: int, dice: Dice) -> Image.Image:
        """A place in this seller's home: one of two backgrounds, cropped at random to `size`."""
        picture = self.backgrounds[(room + dice.randrange(2) * 5) % N_BACKGROUNDS]
        return _cropped(picture, size, dice)

    def light(self, size: tuple[int, int], dice: Dice) -> Image.Image:
        """To multiply a photo with: brightness falling off to one side, warm or cold."""
        return dice.pick(self._lights).resize(size, Image.Resampling.NEAREST)

    def grain(self, size: tuple[int, int], dice: Dice) -> Image.Image:
        """Noise around 128, to add to a photo less 128."""
        return _cropped(dice.pick(self._grains), size, dice)


def _cropped(picture: Image.Image, size: tuple[int, int], dice: Dice) -> Image.Image:
    left, top = (dice.randrange(full - part + 1) for full, part in zip(picture.size, size, strict=True))
    return picture.crop((left, top, left + size[0], top + size[1]))


def _picture(brightness: Plane, tone: Sequence[float]) -> Image.Image:
    """A grey plane around 1 in one tone (R, G, B)."""
    return Image.fromarray((brightness[:, :, None] * np.array(tone, np.float32)).clip(0, 255).astype(np.uint8))


def _tone(kind: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Wood is brown, a lawn green; carpets and walls have any pale colour."""
    red, green, blue = {0: (172, 132, 92), 5: (104, 138, 76)}.get(
        kind, (rng.uniform(140, 205) + rng.uniform(-18, 18, 3)).tolist()
    )
    lightness = rng.uniform(0.8, 1.1)
    return red * lightness, green * lightness, blue * lightness


def _smooth(rng: np.random.Generator, cells: tuple[int, int], strength: float) -> Plane:
    """Random blobs around 1, `cells` of them down and across."""
    coarse = rng.normal(128, 40, cells).clip(0, 255).astype(np.uint8)
    fine = Image.fromarray(coarse).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    plane: Plane = 1 + strength * (np.asarray(fine, np.float32) / 128 - 1)
    return plane


def _planks(rng: np.random.Generator) -> Plane:
    high = int(rng.integers(60, 120))
    rows = np.arange(SIDE_PX)
    plank: Plane = rng.uniform(0.85, 1.1, SIDE_PX // high + 1)[rows // high] * np.where(rows % high < 4, 0.6, 1.0)
    planks: Plane = plank[:, None] * _smooth(rng, (160, 8), 0.12)
    return planks


def _carpet(rng: np.random.Generator) -> Plane:
    return _smooth(rng, (320, 320), 0.16) * _smooth(rng, (6, 6), 0.08)


def _corner(rng: np.random.Generator) -> Plane:
    """A wall above a floor."""
    edge = int(rng.integers(380, 520))
    rows = np.where(np.arange(SIDE_PX) < edge, 1.1, 0.72)
    rows[edge - 12 : edge] *= 0.8
    return (rows[:, None] * _smooth(rng, (4, 4), 0.1)).astype(np.float32)


def _sheet(rng: np.random.Generator) -> Plane:
    """Folds of cloth."""
    return _smooth(rng, (7, 14), 0.28)


def _tiles(rng: np.random.Generator) -> Plane:
    side = int(rng.integers(90, 160))
    joints = (np.arange(SIDE_PX) % side < 5).astype(np.float32)
    return ((1 - 0.25 * np.maximum(joints[:, None], joints[None, :])) * _smooth(rng, (12, 12), 0.08)).astype(np.float32)


def _lawn(rng: np.random.Generator) -> Plane:
    return _smooth(rng, (200, 260), 0.4)


def _light(rng: np.random.Generator) -> Image.Image:
    across, down = np.meshgrid(np.linspace(-1, 1, LIGHT_PX), np.linspace(-1, 1, LIGHT_PX))
    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.28)
    brightness = rng.uniform(0.8, 1.06) * (1 - fall * (0.5 + 0.5 * (np.cos(angle) * across + np.sin(angle) * down)))
    warmth = rng.uniform(-0.07, 0.09)
    return _picture(brightness.astype(np.float32), (255.0, 255 * (1 - abs(warmth) / 3), 255 * (1 - max(warmth, 0))))


def _grain(rng: np.random.Generator, deviation: float) -> Image.Image:
    noise = rng.normal(128, deviation, (SIDE_PX // 2, SIDE_PX // 2, 1)) + rng.normal(
        0, deviation / 2, (SIDE_PX // 2, SIDE_PX // 2, 3)
    )
    return Image.fromarray(noise.clip(0, 255).astype(np.uint8))
