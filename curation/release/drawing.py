"""A genotype as a picture: both cells as one inline SVG, in the colour of the text around it and described in words."""

import hashlib
from html import escape

from curation.release.genotype import CONVOLUTIONS, Edge, Genotype, nodes_of

ROW, BOX, MARGIN = 56, 150, 8
"""Pixels between two states, of a state's width, and around."""

BOW, LABEL = 84, 70
"""Pixels that an edge reaches further out for each state that it passes, and of an operation's name."""


def drawing(genotype: Genotype) -> str:
    """Both cells as one `<svg>` element that may stand inside a page.

    It has no style sheet and takes `currentColor`, so it suits light and dark pages; convolutions are drawn thicker, what has
    no parameters thinner. Its title and description, which a screen reader says, name every edge and the collapse alarm.
    """
    names = ["cell before last", "last cell", *(f"node {node}" for node in nodes_of(genotype.n_nodes))]
    parts, top = [], 0
    for cell, edges in genotype.cells:
        shown = [f'<text x="{MARGIN}" y="20" font-weight="600">{cell} cell</text>', *map(_bow, edges)]
        shown += [_box(at, name + (" → out" if at in genotype.concat else "")) for at, name in enumerate(names)]
        parts.append(f'<g transform="translate(0 {top})">{"".join(shown)}</g>')
        top += ROW * len(names) + 40
    name = f"cells-{hashlib.sha256(genotype.to_json().encode()).hexdigest()[:8]}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_width(genotype)} {top}" width="{_width(genotype)}" role="img" '
        f'aria-labelledby="{name}-title {name}-text" font-family="system-ui, sans-serif" font-size="13" fill="currentColor">'
        f'<title id="{name}-title">Searched cells, read-out {escape(genotype.read_out)}</title>'
        f'<desc id="{name}-text">{escape(_described(genotype, names))}</desc>{"".join(parts)}</svg>\n'
    )


def _described(genotype: Genotype, names: list[str]) -> str:
    found = [
        f"{cell} cell: " + ", ".join(f"{edge.op} from {names[edge.source]} to {names[edge.node]}" for edge in edges)
        for cell, edges in genotype.cells
    ]
    return ". ".join([*found, f"Alarm: {genotype.alarm}"] if genotype.alarm else found) + "."


def _width(genotype: Genotype) -> int:
    longest = max(edge.node - edge.source for _, edges in genotype.cells for edge in edges)
    return MARGIN + BOX + _reach(longest) * 3 // 4 + LABEL


def _reach(n_states: int) -> int:
    return 60 + BOW * n_states


def _box(state: int, shown: str) -> str:
    y, middle = 36 + ROW * state, MARGIN + BOX // 2
    box = f'<rect x="{MARGIN}" y="{y}" width="{BOX}" height="28" rx="6" fill="none" stroke="currentColor"/>'
    return f'{box}<text x="{middle}" y="{y + 19}" text-anchor="middle">{shown}</text>'


def _bow(edge: Edge) -> str:
    """A bow to the right of the states, the wider the further it goes, with its operation's name at its middle."""
    start, end, x = 55 + ROW * edge.source, 45 + ROW * edge.node, MARGIN + BOX
    bow = x + _reach(edge.node - edge.source)
    width = 2.5 if edge.op in CONVOLUTIONS else 1
    path = (
        f'<path fill="none" stroke="currentColor" stroke-width="{width}" d="M{x} {start}C{bow} {start} {bow} {end} {x} {end}"/>'
    )
    return f'{path}<text x="{(x + 3 * bow) // 4 + 4}" y="{(start + end) // 2 + 4}">{edge.op}</text>'
