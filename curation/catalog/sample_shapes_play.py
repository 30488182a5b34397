"""Drawings of things to play, read and collect: toys, games, books, records, instruments, coins."""

from collections.abc import Mapping

from curation.catalog.sample_dice import Dice
from curation.catalog.sample_pen import INK, PAPER, TIMBER, Paint, Pen, arc, mirrored

Look = Mapping[str, float]


def figure(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    skin, is_bear = (224, 182, 148), dice.hit(0.4)
    if is_bear:
        skin = paint.main
        for x in (-0.28, 0.28):
            pen.disc(x, -0.82, 0.14, paint.dark)
    for x in (-0.2, 0.2):
        pen.line(((x, 0.4), (x * 1.5, 0.92)), 0.2, skin if is_bear else paint.dark)
        pen.line(((x, -0.1), (x * 3.2, dice.uniform(0.0, 0.4))), 0.16, skin)
    pen.poly(mirrored(((0.22, -0.25), (0.4, 0.5))), skin if is_bear else paint.main)
    pen.disc(0, -0.52, 0.34, skin)
    if not is_bear:
        pen.poly(arc(0, -0.55, 0.38, 0.38, 0.5, 1.0), paint.accent)
    for x in (-0.12, 0.12):
        pen.disc(x, -0.5, 0.045, INK)


def blocks(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    colours = (paint.main, paint.accent, (204, 44, 40), (240, 200, 40), (44, 96, 176), (60, 140, 70))
    for _ in range(dice.randint(5, 9)):
        x, y, n = dice.uniform(-0.8, 0.4), dice.uniform(-0.6, 0.6), dice.randint(2, 4)
        fill = dice.pick(colours)
        for at in range(n):
            pen.box(x + 0.04 + 0.17 * at, y - 0.08, x + 0.13 + 0.17 * at, y, fill)
        pen.box(x, y, x + 0.17 * n, y + 0.24, fill)


def box(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    high, depth = dice.uniform(0.5, 0.8), look["depth"]
    pen.box(-0.8, -high, 0.75, high, paint.main)
    pen.poly(((0.75, -high), (0.75 + depth, -high + 0.1), (0.75 + depth, high - 0.1), (0.75, high)), paint.dark)
    pen.box(-0.65, -high + 0.12, 0.6, -high + 0.4, paint.accent)
    for _ in range(dice.randint(3, 6)):
        x, y = dice.uniform(-0.55, 0.45), dice.uniform(-0.05, high - 0.2)
        pen.disc(x, y, dice.uniform(0.06, 0.18), dice.pick((paint.light, paint.accent, PAPER)))


def book(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    high, thick = look["tall"] * 0.6, look["thick"]
    for at in reversed(range(dice.randint(1, 3))):
        x, y = 0.12 * at, -0.1 * at
        cover = (paint.main, paint.accent, paint.dark)[at]
        pen.poly(
            ((x + 0.5, y - high), (x + 0.5 + thick, y - high + 0.08), (x + 0.5 + thick, y + high), (x + 0.5, y + high)), PAPER
        )
        pen.box(x - 0.6, y - high, x + 0.5, y + high, cover)
        pen.box(x - 0.6, y - high, x - 0.5, y + high, paint.dark)
    pen.line(((-0.35, -high * 0.6), (0.3, -high * 0.6)), 0.1, PAPER)
    pen.line(((-0.35, -high * 0.4), (0.1, -high * 0.4)), 0.05, PAPER)
    if high < 0.7:
        pen.disc(-0.05, high * 0.3, 0.28, paint.light)


def case(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    high = look["tall"] * 0.6
    for at in reversed(range(dice.randint(1, 4))):
        x = 0.16 * at
        pen.box(x - 0.6, -high, x + 0.45, high, INK if look["tall"] > 1.3 else (58, 88, 168))
        pen.box(
            x - 0.53,
            -high + 0.07 + 0.12 * (look["tall"] <= 1.3),
            x + 0.4,
            high - 0.07,
            paint.main if at % 2 == 0 else paint.accent,
        )
    pen.line(((-0.4, -high * 0.45), (0.25, -high * 0.45)), 0.11, PAPER)
    pen.poly(((-0.4, high * 0.7), (-0.05, -high * 0.1), (0.3, high * 0.7)), paint.light)


def record(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    pen.disc(0.3, 0, 0.68, INK)
    for radius in (0.3, 0.42, 0.54):
        pen.ring(0.3, 0, radius, 0.012, (74, 74, 78))
    pen.disc(0.3, 0, 0.2, paint.accent)
    pen.disc(0.3, 0, 0.03, PAPER)
    pen.box(-0.95, -0.72, 0.35, 0.72, dice.pick(((152, 70, 60), (72, 96, 120), (206, 180, 120), (96, 120, 90))))
    pen.disc(-0.3, 0.1, dice.uniform(0.2, 0.4), paint.accent)
    pen.line(((-0.8, -0.5), (0.1, -0.5)), 0.08, PAPER)


def coins(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    if dice.hit(0.4):  # an album of stamps
        pen.box(-0.9, -0.8, 0.9, 0.8, (64, 58, 56))
        for at in range(12):
            left, top = -0.8 + 0.42 * (at % 4), -0.68 + 0.5 * (at // 4)
            pen.box(left, top, left + 0.3, top + 0.36, dice.pick((PAPER, paint.main, paint.accent, (150, 176, 160))))
        return
    for _ in range(dice.randint(3, 8)):
        x, y, radius = dice.uniform(-0.65, 0.65), dice.uniform(-0.6, 0.6), dice.uniform(0.16, 0.32)
        pen.disc(x, y, radius, paint.main)
        pen.ring(x, y, radius * 0.82, 0.025, paint.dark)
        pen.disc(x, y, radius * 0.4, paint.dark, high=radius * 0.5)


def console(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    if dice.hit(0.4):  # a handheld
        pen.box(-0.95, -0.42, 0.95, 0.42, paint.main, cut=0.18)
        pen.box(-0.6, -0.34, 0.6, 0.34, INK)
        for x, y in ((-0.78, -0.15), (0.78, 0.12)):
            pen.disc(x, y, 0.1, paint.dark)
        return
    pen.poly(((-0.9, -0.25), (0.8, -0.35), (0.95, 0.3), (-0.85, 0.4)), paint.main)
    pen.poly(((-0.9, -0.25), (0.8, -0.35), (0.8, -0.1), (-0.88, 0.0)), paint.dark)
    pen.line(((-0.6, 0.18), (0.3, 0.14)), 0.04, INK)
    pen.disc(0.7, 0.1, 0.06, paint.accent)


def pad(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    for x in (-0.62, 0.62):
        pen.disc(x, 0.3, 0.3, paint.main, high=0.5)
    pen.box(-0.8, -0.42, 0.8, 0.3, paint.main, cut=0.22)
    for x in (-0.32, 0.32):
        pen.disc(x, 0.12, 0.17, INK)
        pen.disc(x, 0.12, 0.1, paint.dark)
    for x, y in ((0.56, -0.27), (0.68, -0.15), (0.56, -0.03), (0.44, -0.15)):
        pen.disc(x, y, 0.06, paint.accent)
    pen.box(-0.68, -0.19, -0.44, -0.11, INK)
    pen.box(-0.6, -0.27, -0.52, -0.03, INK)


def guitar(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    pen.box(-0.07, -0.9, 0.07, 0.1, TIMBER)
    pen.box(-0.12, -1.0, 0.12, -0.8, paint.dark)
    pen.disc(0, 0.15, dice.uniform(0.3, 0.36), paint.main, high=0.3)
    pen.disc(0, 0.58, dice.uniform(0.42, 0.52), paint.main, high=0.4)
    pen.box(-0.25, 0.2, 0.25, 0.5, paint.main)
    if dice.hit(0.6):
        pen.disc(0, 0.35, 0.14, INK)
    else:
        pen.poly(((0.02, 0.2), (0.35, 0.3), (0.3, 0.7), (0.05, 0.6)), paint.accent)
    for x in (-0.03, 0, 0.03):
        pen.line(((x, -0.9), (x, 0.7)), 0.008, PAPER)
    pen.box(-0.14, 0.66, 0.14, 0.72, INK)


def keys(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    high = dice.uniform(0.3, 0.42)
    pen.box(-0.98, -high, 0.98, high, paint.main, cut=0.04)
    pen.box(-0.92, 0.0, 0.92, high - 0.04, PAPER)
    for at in range(14):
        x = -0.86 + 1.75 * at / 14
        pen.line(((x + 0.06, 0.0), (x + 0.06, high - 0.05)), 0.012, INK)
        if at % 7 not in (2, 6):
            pen.box(x + 0.02, 0.0, x + 0.1, high * 0.55, INK)
    for at in range(dice.randint(2, 5)):
        pen.disc(-0.75 + 0.2 * at, -high * 0.5, 0.05, paint.accent)
    if dice.hit(0.4):
        for points in (((-0.7, high), (0.6, 0.95)), ((0.7, high), (-0.6, 0.95))):
            pen.line(points, 0.06, INK)


SHAPES = (figure, blocks, box, book, case, record, coins, console, pad, guitar, keys)
