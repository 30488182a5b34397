"""A searched text branch on paper: which operation stands on which edge of its cells, as readable JSON. No torch.

A cell has two inputs, states 0 and 1 (the outputs of the two cells before it), and nodes 2 and up; a node is the sum of its
edges, each one operation on an earlier state, and the cell's output is some nodes side by side (Liu, Simonyan and Yang,
DARTS, ICLR 2019, section 2.1). A normal cell keeps the length of its sequence; a reduction cell halves it: its edges from
the inputs take every second position.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curation.errors import ConfigError, shorten

VERSION = 1
FORMAT = "refurbish-genotype"
ZERO, SKIP, MAX, AVERAGE = "zero", "skip", "max3", "average3"
CONVOLUTIONS = {"conv3": (3, 1), "conv5": (5, 1), "dilated3": (3, 2), "dilated5": (5, 2)}
"""Kernel width and dilation, by operation."""

OPERATIONS = (ZERO, SKIP, MAX, AVERAGE, *CONVOLUTIONS)
READ_OUTS = ("mean", "max", "attention")
N_INPUTS = 2
MAX_NODES = 12
KEYS = ("format", "version", "n_nodes", "normal", "reduction", "concat", "read_out")


@dataclass(frozen=True, slots=True)
class Edge:
    """One operation from an earlier state to a node."""

    source: int  #: state, 0 and 1 are the cell's inputs
    node: int  #: state, from 2
    op: str  #: one of OPERATIONS


@dataclass(frozen=True, slots=True)
class Genotype:
    """Which operation stands on which edge. Raises ConfigError where it describes no network."""

    n_nodes: int
    normal: tuple[Edge, ...]
    reduction: tuple[Edge, ...]
    concat: tuple[int, ...]  #: nodes that are the cell's output
    read_out: str  #: one of READ_OUTS: how a sequence becomes one vector
    version: int = VERSION

    def __post_init__(self) -> None:
        check_version(self.version)
        if not is_count(self.n_nodes) or not 1 <= self.n_nodes <= MAX_NODES:
            raise ConfigError(f"genotype: n_nodes is {shorten(self.n_nodes)}; a cell has 1 to {MAX_NODES} nodes")
        for name, edges in self.cells:
            check_cell(name, edges, self.n_nodes)
        nodes = nodes_of(self.n_nodes)
        if not self.concat or not all(is_count(n) and n in nodes for n in self.concat) or len({*self.concat}) < len(self.concat):
            raise ConfigError(
                f"genotype: concat is {shorten(self.concat)}; name each output node once, of {nodes[0]}…{nodes[-1]}"
            )
        if self.read_out not in READ_OUTS:
            raise ConfigError(f"genotype: read-out {shorten(self.read_out)} is unknown; choose of {', '.join(READ_OUTS)}")

    @property
    def cells(self) -> tuple[tuple[str, tuple[Edge, ...]], ...]:
        """Both cells by name."""
        return ("normal", self.normal), ("reduction", self.reduction)

    @property
    def parameter_free(self) -> float:
        """Share of edges without a convolution, in [0, 1]."""
        edges = self.normal + self.reduction
        return sum(edge.op not in CONVOLUTIONS for edge in edges) / len(edges)

    @property
    def is_collapsed(self) -> bool:
        """Whether one of the cells is nothing but pooling and skips."""
        return bool(self.alarm)

    @property
    def alarm(self) -> str:
        """Which cells have no convolution left and what they are made of, in words; empty when all is well."""
        found = []
        for name, edges in self.cells:
            if all(edge.op not in CONVOLUTIONS for edge in edges):
                ops = ", ".join(f"{n} {op}" for op, n in Counter(edge.op for edge in edges).most_common())
                found.append(f"the {name} cell is nothing but pooling and skips ({len(edges)} edges: {ops})")
        advice = "; either word order does not matter here or the search collapsed: compare with random cells and a TextCNN"
        return " and ".join(found) + advice if found else ""

    def to_json(self) -> str:
        """Readable JSON, one edge a line."""
        lines = [f'"format": "{FORMAT}"', f'"version": {self.version}', f'"n_nodes": {self.n_nodes}']
        for name, edges in self.cells:
            shown = (json.dumps({"from": edge.source, "to": edge.node, "op": edge.op}) for edge in edges)
            lines.append(f'"{name}": [\n    ' + ",\n    ".join(shown) + "\n  ]")
        lines += [f'"concat": {list(self.concat)}', f'"read_out": "{self.read_out}"']
        return "{\n  " + ",\n  ".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """What `to_json` wrote, or a person. Raises ConfigError saying what is wrong with it."""
        try:
            values = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"genotype: {shorten(text)} cannot be read: {error}; write JSON, or search again") from error
        if not isinstance(values, Mapping) or values.get("format") != FORMAT:
            raise ConfigError(f'{shorten(values)} is no genotype; it must be an object with "format": "{FORMAT}"')
        check_version(values.get("version"))
        wrong = sorted(set(values) ^ set(KEYS))
        if wrong:
            raise ConfigError(f"genotype: keys {shorten(wrong)} are missing or unknown; there must be exactly {', '.join(KEYS)}")
        lists = [name for name in ("normal", "reduction", "concat") if not isinstance(values[name], list)]
        if lists:
            raise ConfigError(f"genotype: {lists[0]} is {shorten(values[lists[0]])}; it must be a list")
        normal, reduction = (tuple(_edge(name, one) for one in values[name]) for name in ("normal", "reduction"))
        return cls(values["n_nodes"], normal, reduction, tuple(values["concat"]), values["read_out"], values["version"])


def check_version(version: object) -> None:
    """Raises ConfigError unless this release reads it."""
    if is_count(version) and version == VERSION:
        return
    age = "older" if isinstance(version, int) and version < VERSION else "unknown"
    raise ConfigError(
        f"genotype: version {shorten(version)} is {age}, this release reads {VERSION}; search again with this release"
    )


def check_cell(name: str, edges: Sequence[Edge], n_nodes: int) -> None:
    """Raises ConfigError on unknown operations, cycles, double edges and nodes that nothing leads to."""
    nodes = nodes_of(n_nodes)
    for edge in edges:
        where = f"genotype: {name} edge {shorten(edge.source)} → {shorten(edge.node)}"
        if not is_count(edge.source) or not is_count(edge.node) or edge.node not in nodes or edge.source < 0:
            raise ConfigError(f"{where} names no node; edges end in {nodes[0]}…{nodes[-1]} and begin in an earlier state, from 0")
        if edge.source >= edge.node:
            raise ConfigError(
                f"{where} comes from a later node, that is a cycle; edges begin in a state before the one they end in"
            )
        if edge.op not in OPERATIONS:
            raise ConfigError(f"{where} has the unknown operation {shorten(edge.op)}; choose of {', '.join(OPERATIONS)}")
    pairs = Counter((edge.source, edge.node) for edge in edges)
    double = [pair for pair, n in pairs.items() if n > 1]
    if double:
        raise ConfigError(f"genotype: {name} edge {double[0][0]} → {double[0][1]} is there twice; leave one of them")
    missing = sorted(set(nodes) - {edge.node for edge in edges if edge.op != ZERO})
    if missing:
        raise ConfigError(f"genotype: nothing leads to {name} nodes {missing}; give each an edge whose operation is not {ZERO}")


def nodes_of(n_nodes: int) -> tuple[int, ...]:
    """Nodes by their state number, after the inputs."""
    return tuple(range(N_INPUTS, N_INPUTS + n_nodes))


def is_count(value: object) -> bool:
    return type(value) is int


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"keys {shorten([name for name, _ in pairs])} are not each there once")
    return found


def _edge(cell: str, values: object) -> Edge:
    if not isinstance(values, Mapping) or set(values) != {"from", "to", "op"}:
        raise ConfigError(f'genotype: {cell} has the edge {shorten(values)}; write {{"from": 0, "to": 2, "op": "conv3"}}')
    return Edge(values["from"], values["to"], values["op"])
