"""Charts as inline SVG: readable in print and in the dark, with a title and a description, never by colour alone.

Colours come from classes of the style sheet. Beside each chart a page shows the table it was drawn from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from markupsafe import Markup, escape

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 12, 34
MARKS = ("circle", "square", "diamond", "triangle", "cross", "ring")
N_SHADES = 10
MAX_LABELS = 8


@dataclass(frozen=True, slots=True)
class Point:
    """`x` in [0, 1] across the chart; `low`, `high`: an interval around `y`, if it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    words: str = ""  #: said when a pointer rests on it


@dataclass(frozen=True, slots=True)
class Series:
    """A line and its name."""

    name: str
    points: Sequence[Point]


def lines(
    title: str,
    series: Sequence[Series],
    *,
    x_labels: Sequence[tuple[float, str]],
    y_max: float = 1.0,
    y_min: float = 0.0,
    is_share: bool = True,
    x_title: str = "",
    marked: Sequence[Point] = (),
) -> Markup:
    """Lines over a common axis; intervals as bands. x_labels : (place in [0, 1], words); `marked`: points set apart by a ring."""
    span = max(y_max - y_min, 1e-9)

    def at(x: float, y: float) -> tuple[float, float]:
        height = min(max((y - y_min) / span, 0.0), 1.0)
        return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - height * (HEIGHT - TOP - BOTTOM)

    parts = [_grid(y_min, y_max, is_share), *(_x_label(at(x, y_min), words) for x, words in _thinned(x_labels))]
    if x_title:
        parts.append(_text(WIDTH / 2, HEIGHT - 2, x_title, "axis middle"))
    for number, one in enumerate(series):
        shade, mark = number % len(MARKS), MARKS[number % len(MARKS)]
        banded = [point for point in one.points if point.low is not None and point.high is not None]
        if len(banded) > 1:
            edge = [at(p.x, p.high or 0.0) for p in banded] + [at(p.x, p.low or 0.0) for p in reversed(banded)]
            parts.append(Markup('<polygon class="band s{}" points="{}"/>').format(shade, _points(edge)))
        parts.append(
            Markup('<polyline class="line s{}" points="{}"/>').format(shade, _points([at(p.x, p.y) for p in one.points]))
        )
        if len(one.points) <= 60:
            parts += [_marker(mark, *at(p.x, p.y), shade, p.words or f"{one.name}: {_number(p.y, is_share)}") for p in one.points]
    parts += [_marker("ring", *at(p.x, p.y), 5, p.words) for p in marked]
    described = "; ".join(_described(one, is_share) for one in series)
    return _svg(title, described, WIDTH, HEIGHT, parts) + _legend([one.name for one in series])


def bars(title: str, rows: Sequence[tuple[str, float]], *, is_share: bool = False) -> Markup:
    """Horizontal bars, the longest as wide as the chart. rows : (label, value >= 0)"""
    most, step = max((value for _, value in rows), default=0.0) or 1.0, 26
    height, parts = step * len(rows) + 4, []
    for number, (label, value) in enumerate(rows):
        y = number * step + 4
        wide = (WIDTH - 260) * value / most
        parts.append(_text(190, y + 14, _short(label, 28), "end"))
        parts.append(
            Markup('<rect class="fill s0" x="200" y="{}" width="{}" height="18" rx="3"><title>{}: {}</title></rect>').format(
                y, _n(max(wide, 1.0)), label, _number(value, is_share)
            )
        )
        parts.append(_text(206 + wide, y + 14, _number(value, is_share), ""))
    described = "; ".join(f"{label} {_number(value, is_share)}" for label, value in rows[:20])
    return _svg(title, described, WIDTH, max(height, 20), parts)


def heat(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Mapping[tuple[int, int], float],
    *,
    links: Mapping[tuple[int, int], str] | None = None,
    is_share: bool = True,
) -> Markup:
    """A matrix of shaded cells, each with its number. values : (row, column) → value in [0, 1]; missing = not shown."""
    wide, tall, left, top, links = 44, 26, 200, 116, links or {}
    parts = [_text(left - 8, top + at * tall + 17, _short(name, 30), "end") for at, name in enumerate(rows)]
    for at, name in enumerate(columns):
        x, y = left + at * wide + wide / 2, top - 8
        parts.append(
            Markup('<text x="{}" y="{}" transform="rotate(-45 {} {})">{}</text>').format(
                _n(x), _n(y), _n(x), _n(y), _short(name, 22)
            )
        )
    for (row, column), value in sorted(values.items()):
        cell = _cell(left + column * wide, top + row * tall, wide, tall, value, f"{rows[row]} → {columns[column]}", is_share)
        link = links.get((row, column))
        said = f"{rows[row]} → {columns[column]}: {_number(value, is_share)}"
        parts.append(Markup('<a href="{}" aria-label="{}">{}</a>').format(link, said, cell) if link else cell)
    width, height = left + wide * len(columns) + 90, top + tall * len(rows) + 8
    most = sorted(values.items(), key=lambda item: -item[1])[:10]
    described = "; ".join(f"{rows[row]} to {columns[column]} {_number(value, is_share)}" for (row, column), value in most)
    return _svg(title, described, width, height, parts, role="group" if links else "img")


def _cell(x: float, y: float, wide: float, tall: float, value: float, words: str, is_share: bool) -> Markup:
    shade = min(N_SHADES - 1, int(min(max(value, 0.0), 1.0) ** 0.5 * N_SHADES))
    rect = Markup('<rect class="heat h{}" x="{}" y="{}" width="{}" height="{}"><title>{}: {}</title></rect>').format(
        shade, _n(x), _n(y), _n(wide - 2), _n(tall - 2), words, _number(value, is_share)
    )
    said = f"{value:.0%}" if is_share else f"{value:g}"
    return rect + _text(x + wide / 2 - 1, y + tall / 2 + 4, said, f"middle small on{'dark' if shade >= 6 else 'light'}")


def _svg(title: str, described: str, width: float, height: float, parts: Sequence[Markup], role: str = "img") -> Markup:
    """`role`: ``img``, or ``group`` where something inside can be chosen."""
    name = uuid4().hex[:8]
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="{role}" aria-labelledby="t{n} d{n}" width="{w}" height="{h}">'
        '<title id="t{n}">{t}</title><desc id="d{n}">{d}</desc>{p}</svg>'
    ).format(w=_n(width), h=_n(height), role=role, n=name, t=title, d=described or "no values yet", p=Markup("").join(parts))


def _grid(y_min: float, y_max: float, is_share: bool) -> Markup:
    parts = []
    for quarter in range(5):
        y = HEIGHT - BOTTOM - quarter / 4 * (HEIGHT - TOP - BOTTOM)
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, _n(y), _n(y)))
        parts.append(_text(LEFT - 6, y + 4, _number(y_min + quarter / 4 * (y_max - y_min), is_share), "axis end"))
    return Markup("").join(parts)


def _x_label(place: tuple[float, float], words: str) -> Markup:
    side = "end" if place[0] > WIDTH - 60 else "middle"
    return _text(min(place[0], WIDTH - RIGHT), place[1] + 16, words, f"axis {side}")


def _thinned(labels: Sequence[tuple[float, str]]) -> Sequence[tuple[float, str]]:
    return labels[:: max(1, -(-len(labels) // MAX_LABELS))]


def _text(x: float, y: float, words: str, css: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(css, _n(x), _n(y), words)


SHAPES = {
    "square": "M-3.5 -3.5h7v7h-7z",
    "diamond": "M0 -5L5 0L0 5L-5 0z",
    "triangle": "M0 -5L5 4H-5z",
    "cross": "M-4 -4L4 4M-4 4L4 -4",
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "ring": "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0z",
}


def _marker(mark: str, x: float, y: float, shade: int, words: str) -> Markup:
    css = "hollow" if mark in ("cross", "ring") else "fill"
    return Markup('<path class="{} s{}" transform="translate({} {})" d="{}"><title>{}</title></path>').format(
        css, shade, _n(x), _n(y), SHAPES[mark], words
    )


def _legend(names: Sequence[str]) -> Markup:
    if len(names) < 2:
        return Markup("")
    items = [
        Markup('<li><svg viewBox="-8 -8 16 16" width="16" height="16" aria-hidden="true">{}</svg> {}</li>').format(
            _marker(MARKS[at % len(MARKS)], 0, 0, at % len(MARKS), name), escape(name)
        )
        for at, name in enumerate(names)
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def _described(one: Series, is_share: bool) -> str:
    if not one.points:
        return f"{one.name}: no values yet"
    first, last = one.points[0], one.points[-1]
    return f"{one.name}: from {_number(first.y, is_share)} to {_number(last.y, is_share)} over {len(one.points)} points"


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in places)


def _number(value: float, is_share: bool) -> str:
    return (
        f"{value:.0%}"
        if is_share and float(f"{value:.2f}") == round(value, 6)
        else f"{value:.1%}"
        if is_share
        else f"{value:,.4g}"
    )


def _short(words: str, n_chars: int) -> str:
    return words if len(words) <= n_chars else f"{words[: n_chars - 1]}…"


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
