"""Drawings of things to wear, ride and go out with: clothes, bags, bikes, sports, baby and car things."""

import math
from collections.abc import Mapping

from curation.catalog.sample_dice import Dice
from curation.catalog.sample_pen import GLASS, INK, PAPER, RUBBER, STEEL, Paint, Pen, arc, mirrored

Look = Mapping[str, float]


def garment(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    small = 0.75 if look.get("small") else 1.0
    chest, hem = 0.42 * small, 0.42 * small + look["flare"] * dice.uniform(0.6, 1.1)
    bottom, sleeve = -0.2 + look["length"] * 1.05 + 0.2 * small, look["sleeves"] * dice.uniform(0.8, 1.1)
    for side in (-1, 1):
        wrist = side * (chest + 0.3 * sleeve + 0.08), -0.65 + sleeve * 1.1
        pen.poly(
            (
                (side * 0.3, -0.8),
                (side * chest, -0.72),
                wrist,
                (wrist[0] - side * 0.22, wrist[1] + 0.1),
                (side * chest * 0.9, -0.35),
            ),
            paint.dark,
        )
    pen.poly(mirrored(((0.16, -0.85), (chest, -0.74), (chest * 0.9, -0.1), (hem, bottom))), paint.main)
    pen.poly(arc(0, -0.85, 0.17, 0.15, 0, 0.5), paint.dark)
    if look.get("front"):
        pen.line(((0, -0.72), (0, bottom)), 0.04, paint.dark)
        for at in range(4):
            pen.disc(0.07, -0.5 + 0.25 * at, 0.03, paint.accent)
    elif dice.hit(0.5):
        for at in range(3):
            pen.line(((-chest * 0.85, -0.4 + 0.22 * at), (chest * 0.85, -0.4 + 0.22 * at)), 0.06, paint.accent)


def shoe(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    heel, shaft = look["heel"] * dice.uniform(0.5, 1.3), look["shaft"] + dice.pick((0.0, 0.0, 0.45))
    for at in (1, 0):
        x, y = 0.16 * at, -0.25 * at
        fill = paint.dark if at else paint.main
        ankle = y - 0.15 - shaft
        pen.poly(
            (
                (x - 0.8, ankle),
                (x - 0.3, ankle),
                (x - 0.1, y),
                (x + 0.6, y + 0.2),
                (x + 0.82, y + 0.42),
                (x - 0.8, y + 0.42 - heel),
            ),
            fill,
        )
        pen.poly(((x - 0.8, y + 0.4 - heel), (x - 0.55, y + 0.4 - heel), (x - 0.62, y + 0.52), (x - 0.78, y + 0.52)), INK)
        pen.poly(
            ((x - 0.4, y + 0.42 - heel * 0.6), (x + 0.2, y + 0.42), (x + 0.84, y + 0.42), (x + 0.8, y + 0.52), (x, y + 0.52)),
            PAPER if heel < 0.1 else INK,
        )
        for lace in range(3 if heel < 0.12 else 0):
            pen.line(
                ((x - 0.22 + 0.15 * lace, y - 0.02 + 0.07 * lace), (x - 0.08 + 0.15 * lace, y + 0.1 + 0.05 * lace)),
                0.04,
                paint.accent,
            )


def bag(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    wide, top = dice.uniform(0.55, 0.75), -0.15 if look["handle"] else -0.6
    if look["handle"]:
        pen.line(arc(0, top, wide * 0.6, dice.uniform(0.45, 0.75), 0.5, 1.0), 0.06, paint.dark)
        pen.poly(((-wide, top), (wide, top), (wide + 0.15, 0.75), (-wide - 0.15, 0.75)), paint.main)
        pen.poly(((-wide, top), (wide, top), (wide * 0.8, 0.25), (-wide * 0.8, 0.25)), paint.light)
        pen.box(-0.1, 0.15, 0.1, 0.32, (204, 164, 72))
        return
    pen.line(arc(0, top, 0.2, 0.25, 0.5, 1.0), 0.06, INK)
    pen.box(-wide * 0.85, top, wide * 0.85, 0.85, paint.main, cut=0.18)
    pen.box(-wide * 0.6, 0.15, wide * 0.6, 0.75, paint.dark, cut=0.08)
    pen.line(((-wide * 0.55, 0.25), (wide * 0.55, 0.25)), 0.03, STEEL)
    pen.line(((-wide * 0.7, -0.2), (wide * 0.7, -0.2)), 0.03, paint.accent)


def watch(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    strap, radius = dice.pick((paint.dark, (86, 58, 40), INK, STEEL)), dice.uniform(0.36, 0.46)
    pen.poly(((-0.22, -1.0), (0.22, -1.0), (0.27, 0), (0.22, 1.0), (-0.22, 1.0), (-0.27, 0)), strap)
    for y in (-0.85, -0.7, 0.7, 0.85):
        pen.line(((-0.2, y), (0.2, y)), 0.03, paint.light)
    pen.disc(0, 0, radius, paint.main)
    pen.disc(0, 0, radius * 0.82, dice.pick((PAPER, INK, (30, 50, 90))))
    for at in range(12):
        pen.disc(radius * 0.68 * math.cos(at * math.pi / 6), radius * 0.68 * math.sin(at * math.pi / 6), 0.025, paint.accent)
    turn = dice.uniform(0, 6.28)
    pen.line(((0, 0), (0.22 * math.cos(turn), 0.22 * math.sin(turn))), 0.05, STEEL)
    pen.line(((0, 0), (0.05, -radius * 0.65)), 0.03, STEEL)


def necklace(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    if dice.hit(0.35):  # a ring
        pen.ring(0, 0.25, 0.5, 0.12, paint.main)
        pen.poly(((-0.2, -0.35), (0, -0.6), (0.2, -0.35), (0, -0.15)), (188, 214, 232))
        return
    for x, y in arc(0, -0.5, 0.65, 1.0, 0.02, 0.48)[::1]:
        pen.disc(x, y, 0.05, paint.main)
    pen.line(arc(0, -0.5, 0.65, 1.0, 0, 0.5), 0.03, paint.main)
    pen.poly(((0, 0.45), (0.18, 0.68), (0, 0.95), (-0.18, 0.68)), dice.pick((paint.accent, (150, 200, 220), paint.main)))


def bike(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    radius, tyre = look["wheel"] * dice.uniform(0.92, 1.05), look["tyre"]
    hub, seat, bar = 0.5, -0.35 if not look.get("small") else -0.15, -0.45 if not look.get("small") else -0.3
    for x in (-0.58, 0.58):
        pen.ring(x, hub - 0.1, radius, 0.04 + tyre, RUBBER)
        for at in range(8):
            end = x + radius * math.cos(at * 0.785), hub - 0.1 + radius * math.sin(at * 0.785)
            pen.line(((x, hub - 0.1), end), 0.012, STEEL)
    pedals, saddle, head = (-0.05, hub), (-0.22, seat), (0.42, bar + 0.18)
    for points in (((-0.58, hub - 0.1), pedals, head), ((-0.58, hub - 0.1), saddle, pedals), ((0.58, hub - 0.1), head)):
        pen.line(points, 0.06, paint.main)
    pen.line((saddle, (head[0], head[1] + 0.1 + 0.2 * (1 - look["bar"]))), 0.06, paint.main)
    pen.line((head, (0.38, bar)), 0.05, STEEL)
    pen.line(((0.22, bar - 0.05), (0.5, bar)), 0.06, INK)
    pen.disc(-0.24, seat - 0.05, 0.17, INK, high=0.06)
    pen.disc(*pedals, 0.09, STEEL)


def wheel(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    pen.disc(0, 0, 0.88, RUBBER)
    inner = 0.88 - look["tyre"]
    is_solid = look["spokes"] < 10
    pen.disc(0, 0, inner, (120, 122, 126) if is_solid else (206, 208, 206))
    n = int(look["spokes"]) + dice.randrange(3) * is_solid
    for at in range(n):
        end = inner * math.cos(at * 6.283 / n), inner * math.sin(at * 6.283 / n)
        pen.line(((0, 0), end), 0.16 if is_solid else 0.015, paint.main if is_solid else STEEL)
    pen.disc(0, 0, 0.16 if is_solid else 0.08, paint.dark)


def weights(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    if dice.hit(0.3):  # a rolled mat
        pen.box(-0.8, -0.1, 0.75, 0.5, paint.main, cut=0.05)
        pen.disc(0.75, 0.2, 0.2, paint.dark, high=0.3)
        pen.ring(0.75, 0.2, 0.1, 0.04, paint.light)
        return
    for y in (0.4, -0.35)[: dice.randint(1, 2)]:
        pen.line(((-0.8, y), (0.8, y)), 0.1, STEEL)
        for side in (-1, 1):
            pen.box(min(side * 0.35, side * 0.6), y - 0.33, max(side * 0.35, side * 0.6), y + 0.33, paint.main, cut=0.06)
            pen.box(min(side * 0.6, side * 0.78), y - 0.24, max(side * 0.6, side * 0.78), y + 0.24, paint.dark, cut=0.05)


def tent(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    top = dice.uniform(-0.7, -0.4)
    pen.poly(((-0.3, top), (0.5, top + 0.1), (0.98, 0.6), (-0.1, 0.7)), paint.dark)
    pen.poly(((-0.3, top), (0.25, 0.7), (-0.95, 0.65)), paint.main)
    pen.poly(((-0.3, top + 0.35), (-0.05, 0.69), (-0.55, 0.67)), INK)
    for start, end in (((-0.95, 0.65), (-1.05, 0.8)), ((0.98, 0.6), (1.08, 0.75))):
        pen.line((start, end), 0.03, PAPER)


def skis(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    if dice.hit(0.3):  # a snowboard
        pen.poly(arc(0, 0, 0.3, 0.98, 0, 1), paint.main)
        for y in (-0.35, 0.35):
            pen.box(-0.24, y - 0.1, 0.24, y + 0.1, INK, cut=0.05)
        return
    for x in (-0.2, 0.12):
        pen.poly(((x, -0.98), (x + 0.12, -0.85), (x + 0.12, 0.95), (x - 0.06, 0.95), (x - 0.06, -0.85)), paint.main)
        pen.box(x - 0.08, -0.1, x + 0.14, 0.3, INK)
        pen.line(((x + 0.03, -0.7), (x + 0.03, -0.25)), 0.06, paint.accent)
    if dice.hit(0.5):
        for x in (-0.55, 0.5):
            pen.line(((x, -0.7), (x, 0.85)), 0.04, STEEL)


def pram(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    pen.line(((0.35, 0.1), (0.75, -0.6), (0.95, -0.62)), 0.06, INK)
    pen.line(((-0.5, 0.6), (0.35, 0.1)), 0.05, STEEL)
    pen.line(((0.5, 0.6), (-0.35, 0.1)), 0.05, STEEL)
    pen.poly(((-0.65, -0.15), (0.55, -0.15), (0.4, 0.25), (-0.5, 0.25)), paint.main)
    pen.poly([*arc(-0.1, -0.15, 0.58, 0.6, 0.5, 0.8), (-0.1, -0.15)], paint.dark)
    for x in (-0.5, 0.5):
        pen.ring(x, 0.68, 0.2, 0.07, RUBBER)
        pen.disc(x, 0.68, 0.06, STEEL)


def bucket(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    pen.poly(((-0.5, -0.9), (0.15, -0.95), (0.35, 0.0), (0.85, 0.15), (0.8, 0.6), (-0.3, 0.75), (-0.6, 0.3)), paint.dark)
    pen.poly(((-0.35, -0.75), (0.05, -0.8), (0.22, 0.1), (0.7, 0.25), (0.65, 0.45), (-0.2, 0.5)), paint.main)
    pen.line(((-0.2, -0.5), (0.15, 0.3)), 0.06, INK)
    pen.line(((0.02, -0.55), (0.2, 0.25)), 0.06, INK)
    pen.disc(0.18, 0.28, 0.07, (190, 40, 36))
    if dice.hit(0.4):
        pen.line(arc(0.1, 0.1, 0.75, 0.75, 0.55, 0.95), 0.07, INK)


def helmet(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    if dice.hit(0.3):
        garment(pen, Paint(INK, paint.accent), {"sleeves": 0.85, "length": 0.5, "flare": 0.04, "front": 1}, dice)
        return
    pen.poly([*arc(0, -0.05, 0.8, 0.8, 0.45, 1.05), (0.6, 0.65), (-0.55, 0.7)], paint.main)
    pen.poly(((0.0, -0.3), (0.78, -0.25), (0.8, 0.15), (0.05, 0.1)), GLASS)
    pen.line(((-0.7, -0.35), (0.2, -0.62)), 0.1, paint.accent)
    pen.poly(((0.1, 0.35), (0.7, 0.3), (0.6, 0.65), (0.1, 0.68)), paint.dark)


SHAPES = (garment, shoe, bag, watch, necklace, bike, wheel, weights, tent, skis, pram, bucket, helmet)
