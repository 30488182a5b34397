"""Drawings of things at home: furniture, kitchen, tools, decoration, pets."""

from collections.abc import Mapping

from curation.catalog.sample_dice import Dice
from curation.catalog.sample_pen import GLASS, INK, PAPER, STEEL, TIMBER, Paint, Pen, arc, mirrored

Look = Mapping[str, float]


def sofa(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    seats, back = dice.randint(2, int(look["seats"])), dice.uniform(0.35, 0.6)
    for x in (-0.85, 0.85):
        pen.box(x - 0.05, 0.5, x + 0.05, 0.66, INK)
    pen.box(-0.9, -back, 0.9, 0.3, paint.dark, cut=0.1)
    for at in range(seats):
        left = -0.78 + 1.56 * at / seats
        pen.box(left, -back + 0.1, left + 1.5 / seats, 0.15, paint.main, cut=0.06)
        pen.box(left, 0.1, left + 1.5 / seats, 0.36, paint.light, cut=0.06)
    pen.box(-0.9, 0.33, 0.9, 0.54, paint.main, cut=0.04)
    for x in (-0.9, 0.9):
        pen.box(x - 0.13, -0.12, x + 0.13, 0.56, paint.main, cut=0.08)
    if dice.hit(0.5):
        pen.poly(((-0.6, -0.2), (-0.25, -0.12), (-0.33, 0.2), (-0.68, 0.12)), paint.accent)


def chair(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    back, is_office = dice.uniform(0.6, 0.9), dice.hit(0.3)
    if is_office:
        pen.line(((0, 0.1), (0, 0.6)), 0.1, INK)
        for x in (-0.4, 0, 0.4):
            pen.line(((0, 0.6), (x, 0.85)), 0.07, INK)
            pen.disc(x, 0.87, 0.07, INK)
    else:
        for x in (-0.42, -0.3, 0.3, 0.42):
            pen.box(x - 0.04, 0.1, x + 0.04, 0.9 if abs(x) > 0.4 else 0.75, paint.dark)
    pen.box(-0.42, -back, 0.42, -0.1 if dice.hit(0.5) else 0.05, paint.main, cut=0.1)
    for at in range(dice.randint(0, 3)):
        pen.box(-0.3 + 0.24 * at, -back + 0.1, -0.2 + 0.24 * at, -0.15, paint.dark)
    pen.poly(((-0.45, 0.02), (0.45, 0.02), (0.55, 0.2), (-0.55, 0.2)), paint.light)


def table(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    top, is_round = dice.uniform(-0.4, -0.1), dice.hit(0.25)
    if is_round:
        pen.box(-0.08, top, 0.08, 0.6, paint.dark)
        pen.disc(0, 0.62, 0.4, paint.dark, high=0.1)
        pen.disc(0, top, 0.9, paint.main, high=0.3)
        return
    for x, end in ((-0.72, 0.55), (0.72, 0.55), (-0.85, 0.8), (0.85, 0.8)):
        pen.box(x - 0.05, top, x + 0.05, end, paint.dark)
    pen.poly(((-0.72, top - 0.25), (0.72, top - 0.25), (0.95, top + 0.1), (-0.95, top + 0.1)), paint.main)
    pen.box(-0.95, top + 0.1, 0.95, top + 0.2, paint.dark)
    if dice.hit(0.4):
        pen.box(0.3, top + 0.2, 0.8, top + 0.45, paint.light)
        pen.disc(0.55, top + 0.32, 0.04, INK)


def cabinet(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    wide, high = dice.uniform(0.45, 0.75), dice.uniform(0.7, 0.95)
    pen.box(-wide, -high, wide, high, paint.main)
    pen.poly(((wide, -high), (wide + 0.15, -high + 0.08), (wide + 0.15, high - 0.08), (wide, high)), paint.dark)
    if look["doors"]:
        n, is_drawers = dice.randint(2, 3), dice.hit(0.35)
        for at in range(n + is_drawers):
            n_parts = n + is_drawers
            if is_drawers:
                top = -high + 0.06 + (2 * high - 0.1) * at / n_parts
                pen.box(-wide + 0.05, top, wide - 0.05, top + 1.85 * high / n_parts, paint.light)
                pen.line(((-0.12, top + 0.15), (0.12, top + 0.15)), 0.04, INK)
            else:
                left = -wide + 0.04 + (2 * wide - 0.06) * at / n_parts
                pen.box(left, -high + 0.06, left + 1.85 * wide / n_parts, high - 0.08, paint.light)
                pen.disc(left + 0.08, 0, 0.035, INK)
        return
    n = dice.randint(3, 6)
    for at in range(n):
        top = -high + 0.06 + (2 * high - 0.08) * at / n
        pen.box(-wide + 0.06, top, wide - 0.06, top + 1.8 * high / n, paint.dark)
        for book in range(dice.randint(0, 6)):
            left = -wide + 0.1 + 0.1 * book
            pen.box(
                left,
                top + dice.uniform(0.02, 0.12),
                left + 0.09,
                top + 1.78 * high / n,
                dice.pick((paint.accent, paint.light, PAPER)),
            )


def lamp(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    wide, top = dice.uniform(0.3, 0.55), dice.uniform(0.12, 0.35)
    if dice.hit(0.3):
        pen.line(((0, -1), (0, -0.3)), 0.03, INK)
        pen.poly(((-top * 0.6, -0.3), (top * 0.6, -0.3), (wide, 0.3), (-wide, 0.3)), paint.main)
        pen.disc(0, 0.32, wide * 0.6, (250, 236, 180), high=0.1)
        return
    pen.line(((0, -0.3), (dice.uniform(-0.1, 0.1), 0.85)), 0.06, STEEL)
    pen.disc(0, 0.87, 0.32, paint.dark, high=0.09)
    pen.poly(((-top, -0.9), (top, -0.9), (wide, -0.25), (-wide, -0.25)), paint.main)
    pen.disc(0, -0.25, wide, (250, 236, 180), high=0.06)


def appliance(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    kind = dice.randrange(3)
    if kind == 0:  # kettle
        pen.line(arc(0.5, 0, 0.35, 0.5, -0.25, 0.25), 0.1, INK)
        pen.poly(mirrored(((0.3, -0.6), (0.55, 0.7))), paint.main)
        pen.poly(((-0.35, -0.4), (-0.7, -0.5), (-0.42, -0.1)), paint.dark)
        pen.disc(0, -0.62, 0.3, paint.dark, high=0.1)
    elif kind == 1:  # machine with a cup
        pen.box(-0.6, -0.8, 0.6, -0.2, paint.main, cut=0.08)
        pen.box(0.1, -0.3, 0.6, 0.75, paint.dark)
        pen.box(-0.6, 0.6, 0.6, 0.8, paint.main, cut=0.05)
        pen.poly(((-0.45, 0.15), (-0.05, 0.15), (-0.1, 0.6), (-0.4, 0.6)), PAPER)
        for x in (-0.4, -0.2, 0.3):
            pen.disc(x, -0.5, 0.07, paint.accent)
    else:  # oven or toaster
        pen.box(-0.85, -0.5, 0.85, 0.55, paint.main, cut=0.08)
        pen.box(-0.7, -0.35, 0.35, 0.38, GLASS, cut=0.05)
        for y in (-0.25, 0.02, 0.28):
            pen.disc(0.6, y, 0.09, paint.dark)
        pen.line(((-0.6, -0.4), (0.25, -0.4)), 0.05, STEEL)


def pot(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    kind = dice.randrange(3)
    if kind == 0:  # pan
        pen.line(((0.3, 0.1), (1.0, -0.35)), 0.13, INK)
        pen.disc(-0.2, 0.15, 0.68, paint.dark, high=0.4)
        pen.disc(-0.2, 0.12, 0.58, paint.main, high=0.32)
    elif kind == 1:  # pot
        pen.box(-0.95, -0.1, 0.95, 0.05, INK)
        pen.poly(mirrored(((0.7, -0.3), (0.66, 0.6))), paint.main)
        pen.disc(0, -0.3, 0.7, paint.light, high=0.16)
        pen.disc(0, -0.5, 0.1, INK)
    else:  # plates
        for at in range(dice.randint(2, 5)):
            pen.disc(0, 0.35 - 0.14 * at, 0.85, paint.light, high=0.3)
        pen.disc(0, 0.3 - 0.14 * at, 0.5, PAPER, high=0.16)
        pen.ring(0, 0.3 - 0.14 * at, 0.12, 0.03, paint.accent)


def tool(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    if look["head"] == 2:  # garden: a long handle
        pen.line(((0.6, -0.95), (-0.4, 0.5)), 0.09, TIMBER)
        if dice.hit(0.5):
            pen.poly(((-0.5, 0.3), (-0.2, 0.5), (-0.5, 0.95), (-0.75, 0.7)), paint.main)
        else:
            pen.line(((-0.75, 0.25), (-0.05, 0.75)), 0.1, paint.main)
            for at in range(5):
                pen.line(((-0.7 + 0.15 * at, 0.3 + 0.1 * at), (-0.82 + 0.15 * at, 0.55 + 0.1 * at)), 0.05, STEEL)
        return
    kind = dice.randrange(3)
    if kind == 0:  # hammer
        pen.line(((0, -0.5), (0.1, 0.9)), 0.15, TIMBER)
        pen.poly(((-0.5, -0.7), (0.35, -0.75), (0.5, -0.55), (0.35, -0.4), (-0.5, -0.4)), STEEL)
    elif kind == 1:  # case with sockets
        pen.box(-0.9, -0.5, 0.9, 0.6, paint.dark, cut=0.08)
        pen.box(-0.8, -0.4, 0.8, 0.5, paint.main)
        for at in range(12):
            pen.disc(-0.65 + 0.26 * (at % 6), -0.2 + 0.4 * (at // 6), 0.04 + 0.012 * (at % 6), STEEL)
    else:  # screwdrivers
        for x in (-0.5, -0.1, 0.3):
            pen.line(((x, 0.0), (x + 0.15, 0.9)), 0.06, STEEL)
            pen.box(x - 0.12, -0.75, x + 0.12, 0.05, paint.main, cut=0.07)


def drill(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    pen.line(((-0.6, -0.35), (-1.0, -0.35)), 0.05, STEEL)
    pen.box(-0.68, -0.45, -0.4, -0.25, INK)
    pen.box(-0.45, -0.6, 0.65, -0.1, paint.main, cut=0.12)
    pen.poly(((0.1, -0.15), (0.5, -0.15), (0.65, 0.55), (0.3, 0.55)), paint.dark)
    pen.box(0.12, 0.5, 0.85, 0.8, INK, cut=0.06)
    pen.disc(0.15, -0.35, 0.12, paint.accent)


def vase(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    neck, belly = dice.uniform(0.12, 0.35), dice.uniform(0.35, 0.62)
    if dice.hit(0.6):
        for at in range(dice.randint(3, 6)):
            end = (dice.uniform(-0.6, 0.6), dice.uniform(-1.0, -0.7))
            pen.line(((0, -0.4), end), 0.03, (88, 110, 66))
            pen.disc(*end, 0.09, paint.accent if at % 2 else (222, 200, 150))
    outline = ((neck, -0.5), (neck * 0.8, -0.3), (belly, 0.15), (belly * 0.9, 0.5), (belly * 0.55, 0.85))
    pen.poly(mirrored(outline), paint.main)
    pen.disc(0, -0.5, neck, paint.dark, high=0.06)
    for at in range(int(look.get("ornate", 0)) * 3):
        pen.line(((-belly * 0.8, 0.05 + 0.2 * at), (belly * 0.8, 0.05 + 0.2 * at)), 0.05, (196, 158, 74))


def crate(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    n = dice.randint(1, 3)
    for at in range(n):
        top = 0.75 - (at + 1) * 0.5
        pen.poly(((-0.75, top), (0.75, top), (0.65, top + 0.48), (-0.65, top + 0.48)), paint.main)
        pen.box(-0.8, top - 0.06, 0.8, top + 0.06, paint.dark)
        pen.line(((-0.2, top + 0.25), (0.2, top + 0.25)), 0.07, INK)


def frame(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    high = dice.uniform(0.55, 0.9)
    pen.box(-0.85, -high, 0.85, high, dice.pick(((176, 138, 62), TIMBER, INK, paint.dark)))
    pen.box(-0.72, -high + 0.13, 0.72, high - 0.13, (170, 196, 214))
    pen.poly(
        ((-0.72, high - 0.13), (-0.72, 0.2), (-0.2, dice.uniform(-0.4, 0)), (0.2, 0.15), (0.72, 0.0), (0.72, high - 0.13)),
        paint.main,
    )
    pen.poly(((-0.72, high - 0.13), (-0.1, 0.25), (0.72, 0.35), (0.72, high - 0.13)), paint.accent)
    pen.disc(dice.uniform(-0.5, 0.5), -high + 0.35, 0.11, (244, 214, 130))


def cage(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    if dice.hit(0.45):  # a bed
        pen.disc(0, 0.3, 0.95, paint.main, high=0.5)
        pen.disc(0, 0.22, 0.72, paint.light, high=0.32)
        return
    pen.box(-0.75, -0.6, 0.75, 0.7, (214, 216, 214))
    for at in range(9):
        x = -0.75 + 1.5 * at / 8
        pen.line(((x, -0.6), (x, 0.5)), 0.03, STEEL)
    pen.box(-0.8, 0.45, 0.8, 0.75, paint.main, cut=0.05)
    pen.line(arc(0, -0.6, 0.25, 0.25, 0.5, 1.0), 0.05, STEEL)
    pen.line(((-0.75, -0.1), (0.75, -0.1)), 0.03, STEEL)


def bowl(pen: Pen, paint: Paint, look: Look, dice: Dice) -> None:
    if dice.hit(0.5):  # a lead
        pen.line([*arc(-0.2, 0.1, 0.5, 0.5, 0, 0.9), (0.3, -0.5), (0.8, -0.7)], 0.08, paint.main)
        pen.ring(0.82, -0.72, 0.12, 0.05, STEEL)
        return
    pen.poly(((-0.6, -0.1), (0.6, -0.1), (0.85, 0.5), (-0.85, 0.5)), paint.main)
    pen.disc(0, -0.1, 0.6, STEEL, high=0.2)
    pen.disc(0, -0.1, 0.48, (120, 84, 56), high=0.14)
    for x in (-0.2, 0, 0.2):
        pen.disc(x, 0.25, 0.07, paint.light)


SHAPES = (sofa, chair, table, cabinet, lamp, appliance, pot, tool, drill, vase, crate, frame, cage, bowl)
