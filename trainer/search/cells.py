"""The space that is searched: cells of small 1-D operations (`curation.release.genotype`), drawn at random, changed, and what
is around them. Padding is zero in every state and counts in no mean, maximum or statistic.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from curation.errors import ConfigError, InputError, shorten
from curation.release.genotype import (
    AVERAGE,
    CONVOLUTIONS,
    MAX,
    MAX_NODES,
    N_INPUTS,
    OPERATIONS,
    READ_OUTS,
    SKIP,
    ZERO,
    Edge,
    Genotype,
    is_count,
    nodes_of,
)

__all__ = [
    "AVERAGE",
    "CONVOLUTIONS",
    "MAX",
    "MAX_NODES",
    "N_INPUTS",
    "OPERATIONS",
    "READ_OUTS",
    "SKIP",
    "ZERO",
    "Edge",
    "Genotype",
    "Skeleton",
    "check_inputs",
    "mutated",
    "pool_and_skip",
    "random_genotype",
]


def pool_and_skip(n_nodes: int = 4) -> Genotype:
    """Max pool and skip everywhere: what a collapsed search finds, and what every search must beat."""
    nodes = nodes_of(n_nodes)
    edges = tuple(Edge(at, node, op) for node in nodes for at, op in ((0, MAX), (1, SKIP)))
    return Genotype(n_nodes, edges, edges, nodes, "mean")


def random_genotype(rng: np.random.Generator, n_nodes: int = 4) -> Genotype:
    """Two edges a node; sources, operations (not zero) and read-out drawn evenly."""
    nodes = nodes_of(n_nodes)

    def cell() -> tuple[Edge, ...]:
        drawn = ((node, sorted(rng.choice(node, N_INPUTS, replace=False))) for node in nodes)
        return tuple(Edge(int(at), node, OPERATIONS[rng.integers(1, len(OPERATIONS))]) for node, ends in drawn for at in ends)

    return Genotype(n_nodes, cell(), cell(), nodes, READ_OUTS[rng.integers(len(READ_OUTS))])


def mutated(genotype: Genotype, rng: np.random.Generator) -> Genotype:
    """The same with one change drawn evenly: an edge's operation, an edge's source, or the read-out one time in eight."""
    if rng.random() < 1 / 8:
        return replace(genotype, read_out=_other(READ_OUTS, genotype.read_out, rng))
    name = ("normal", "reduction")[rng.integers(2)]
    edges: list[Edge] = list(getattr(genotype, name))
    at = int(rng.integers(len(edges)))
    edge, taken = edges[at], {one.source for one in edges if one.node == edges[at].node}
    free = [source for source in range(edge.node) if source not in taken]
    if free and rng.random() < 0.5:
        edges[at] = replace(edge, source=free[rng.integers(len(free))])
    else:
        edges[at] = replace(edge, op=_other(OPERATIONS[1:], edge.op, rng))
    return replace(genotype, **{name: tuple(sorted(edges, key=lambda one: (one.node, one.source)))})  # type: ignore[arg-type]


def _other(names: Sequence[str], name: str, rng: np.random.Generator) -> str:
    left = [one for one in names if one != name]
    return left[rng.integers(len(left))]


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What is around the cells: the same for the searched network and for the one that is built of a genotype."""

    width: int = 16  #: channels of a node before the first reduction, which doubles them, as does the second
    n_cells: int = 6
    stem_multiplier: int = 3  #: channels before the first cell, in widths
    drop_path: float = 0.0  #: share of a node's edges that is left out of a row in training
    drop_width: float = 0.0  #: share of a cell's output channels that is left out of a row in training

    def __post_init__(self) -> None:
        least = {"width": 2, "n_cells": 3, "stem_multiplier": 1}
        counts = {name: getattr(self, name) for name in least}
        bad = [f"{n}={shorten(v)} (from {least[n]})" for n, v in counts.items() if not is_count(v) or v < least[n]]
        shares = {"drop_path": self.drop_path, "drop_width": self.drop_width}
        bad += [f"{n}={shorten(v)} (in [0, 1))" for n, v in shares.items() if not 0 <= v < 1]
        bad += [] if bad or self.width % 2 == 0 else [f"width={self.width} (even)"]
        if bad:
            raise ConfigError(f"no network can be built with {', '.join(bad)}; change these values")

    @property
    def reductions(self) -> tuple[int, int]:
        """Cells that halve the length, at one third and two thirds."""
        return self.n_cells // 3, 2 * self.n_cells // 3

    def width_of(self, cell: int) -> int:
        """Channels of a node of this cell."""
        return self.width << sum(cell >= at for at in self.reductions)


def check_inputs(embedded: Tensor, mask: Tensor, n_in: int) -> None:
    """Raises InputError unless the shapes fit."""
    if embedded.ndim != 3 or embedded.shape[1] != n_in or mask.shape != (embedded.shape[0], embedded.shape[2]):
        raise InputError(
            f"embedded tokens {shorten(tuple(embedded.shape))} and mask {shorten(tuple(mask.shape))} do not fit; "
            f"give (B, {n_in}, L) and (B, L)"
        )
