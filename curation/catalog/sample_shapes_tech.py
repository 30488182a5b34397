"""Drawings of devices: phones, computers, audio, cameras."""

import math
from collections.abc import Mapping

from curation.catalog.sample_dice import Dice
from curation.catalog.sample_pen import GLASS, INK, RUBBER, STEEL, Paint, Pen, arc

Look = Mapping[str, float]


def slab(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    wide, high = look["aspect"] * 0.9, 0.9
    pen.box(-wide, -high, wide, high, paint.main, cut=0.12)
    if look["screen"] and dice.hit(0.6):
        pen.box(-wide + 0.05, -high + 0.08, wide - 0.05, high - 0.08, dice.pick((INK, GLASS, (120, 150, 190))), cut=0.05)
        for at in range(dice.randint(0, 8)):
            pen.box(
                -wide + 0.14 + 0.2 * (at % 3),
                0.1 + 0.2 * (at // 3),
                -wide + 0.28 + 0.2 * (at % 3),
                0.24 + 0.2 * (at // 3),
                paint.accent,
            )
        return
    pen.box(-wide + 0.08, -high + 0.08, -wide + 0.32, -high + 0.45, paint.dark, cut=0.06)
    for at in range(int(look["lenses"])):
        pen.disc(-wide + 0.2, -high + 0.17 + 0.1 * at, 0.055, INK)
    if not look["screen"] and dice.hit(0.5):
        pen.disc(0, 0.15, 0.22, paint.accent)


def cable(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    turns = dice.uniform(1.0, 2.2)
    curl = [
        (0.55 * (1 - at / 60) * math.cos(at / 6 * turns) - 0.1, 0.5 * math.sin(at / 6 * turns) * (1 - at / 80) + 0.1)
        for at in range(40)
    ]
    pen.line(curl, 0.06, paint.main)
    pen.line((curl[0], (0.75, -0.5)), 0.06, paint.main)
    pen.box(0.55, -0.85, 0.98, -0.38, paint.light, cut=0.06)
    for x in (0.68, 0.84):
        pen.line(((x, -0.85), (x, -1.02)), 0.05, STEEL)
    x, y = curl[-1]
    pen.box(x - 0.07, y - 0.12, x + 0.07, y + 0.12, paint.accent)


def laptop(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    wide = dice.uniform(0.7, 0.85)
    pen.box(-wide, -0.75, wide, 0.22, paint.dark, cut=0.05)
    pen.box(-wide + 0.06, -0.68, wide - 0.06, 0.14, dice.pick((INK, GLASS, (96, 132, 178), (150, 170, 150))))
    pen.poly(((-wide, 0.22), (wide, 0.22), (wide + 0.14, 0.72), (-wide - 0.14, 0.72)), paint.main)
    for row in range(4):
        y = 0.29 + 0.08 * row
        pen.line(((-wide + 0.08 - 0.02 * row, y), (wide - 0.08 + 0.02 * row, y)), 0.05, INK)
    pen.box(-0.2, 0.6, 0.2, 0.69, paint.light)


def panel(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    wide = 0.58 * look["wide"]
    if look["stand"] == 1:
        pen.box(-0.08, 0.4, 0.08, 0.75, STEEL)
        pen.disc(0, 0.77, 0.35, paint.dark, high=0.08)
    else:
        for x in (-wide * 0.7, wide * 0.7):
            pen.line(((x, 0.45), (x * 1.12, 0.7)), 0.05, INK)
    pen.box(-wide, -0.6, wide, 0.5, INK, cut=0.03)
    pen.box(-wide + 0.05, -0.55, wide - 0.05, 0.43, dice.pick(((24, 26, 32), GLASS, (88, 128, 172), (112, 150, 120))))
    if dice.hit(0.4):
        pen.disc(dice.uniform(-0.5, 0.5), dice.uniform(-0.3, 0.2), 0.2, paint.accent)


def board(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    high = dice.uniform(0.3, 0.7)
    pen.box(-0.9, -high, 0.9, high, dice.pick(((34, 96, 62), (30, 48, 92), (40, 40, 44))))
    for _ in range(dice.randint(4, 8)):
        x, y = dice.uniform(-0.8, 0.5), dice.uniform(-high + 0.05, high - 0.25)
        pen.box(x, y, x + dice.uniform(0.1, 0.3), y + 0.16, dice.pick((INK, STEEL, paint.main)))
    if dice.hit(0.6):
        pen.disc(0.35, 0, high * 0.7, paint.dark)
        for at in range(6):
            pen.line(((0.35, 0), (0.35 + high * 0.6 * math.cos(at), high * 0.6 * math.sin(at))), 0.06, STEEL)
    pen.box(-0.6, high, 0.3, high + 0.08, (204, 164, 72))


def headphones(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    if dice.hit(0.3):  # earbuds in a case
        pen.box(-0.5, -0.2, 0.5, 0.7, paint.light, cut=0.22)
        for x in (-0.28, 0.28):
            pen.disc(x, -0.35, 0.17, paint.main)
            pen.line(((x, -0.3), (x, 0.15)), 0.12, paint.main)
        return
    wide = dice.uniform(0.6, 0.72)
    pen.line(arc(0, 0.1, wide, 0.85, 0.5, 1.0), 0.13, paint.main)
    for x in (-wide, wide):
        pen.disc(x, 0.3, 0.2, paint.dark, high=0.36)
        pen.disc(x * 0.88, 0.3, 0.12, paint.accent, high=0.28)


def speaker(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    if dice.hit(0.35):  # a portable one
        pen.box(-0.9, -0.38, 0.9, 0.42, paint.main, cut=0.3)
        for x in (-0.6, 0.6):
            pen.disc(x, 0.02, 0.25, paint.dark)
        pen.box(-0.2, -0.1, 0.2, 0.1, paint.accent)
        return
    wide, n = dice.uniform(0.35, 0.5), dice.randint(1, 2)
    for x in (-0.5, 0.5)[2 - n :] if n == 2 else (0.0,):
        pen.box(x - wide * 0.9, -0.85, x + wide * 0.9, 0.85, paint.main)
        pen.disc(x, -0.45, wide * 0.45, INK)
        pen.disc(x, 0.3, wide * 0.75, INK)
        pen.disc(x, 0.3, wide * 0.35, paint.light)


def camera(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    radius = dice.uniform(0.35, 0.5)
    pen.poly(((-0.3, -0.45), (-0.2, -0.75), (0.2, -0.75), (0.3, -0.45)), paint.dark)
    pen.box(-0.9, -0.5, 0.9, 0.55, paint.main, cut=0.1)
    pen.box(-0.9, -0.15, -0.6, 0.5, INK)
    pen.disc(0.1, 0.05, radius, INK)
    pen.disc(0.1, 0.05, radius * 0.75, (70, 74, 80))
    pen.disc(0.1, 0.05, radius * 0.45, (54, 70, 110))
    pen.disc(0.02, -0.03, radius * 0.12, (200, 214, 230), edge=False)
    pen.disc(-0.65, -0.55, 0.1, paint.accent, high=0.06)


def gadget(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    high = dice.uniform(0.35, 0.6)
    if look["antenna"]:
        pen.line(((0.6, -high), (0.75, -high - 0.45)), 0.04, STEEL)
    pen.box(-0.85, -high, 0.85, high, paint.main, cut=0.1)
    pen.box(-0.7, -high + 0.12, 0.2, high - 0.15, GLASS if look.get("screen") else (168, 184, 160), cut=0.03)
    for at in range(int(look["dials"])):
        pen.disc(0.42 + 0.24 * (at % 2), -high * 0.4 + 0.3 * (at // 2), 0.1, paint.accent if at % 2 else INK)
    if look.get("wheels"):
        for x in (-0.5, 0.5):
            pen.disc(x, high + 0.05, 0.22, RUBBER)
            pen.disc(x, high + 0.05, 0.1, STEEL)


SHAPES = (slab, cable, laptop, panel, board, headphones, speaker, camera, gadget)
