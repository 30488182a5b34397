"""The searchable network: every operation on every edge, mixed by architecture weights (DARTS, equations 2 and 3).

Written state by state instead of edge by edge: what a state adds to all later nodes is one product (`trainer.search.folded`). The
gradients are those of the network written with one module an edge.

Partial channels (PC-DARTS, Xu et al., ICLR 2020): a quarter of a state's channels goes through the operations, the others
pass by; edges are weighed by a softmax of their own. Remedies against collapse: decay on the softmaxed weights (beta-DARTS,
Ye et al., CVPR 2022), sigmoids in place of the softmax (Fair DARTS, Chu et al., ECCV 2020), an auxiliary skip whose weight
decays (DARTS-, Chu et al., ICLR 2021).

Inside, states are (C, B, L): channels first, so that a part of the channels is a view and a product needs no transposition.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from curation.errors import ConfigError
from trainer.search.cells import MAX_NODES, N_INPUTS, OPERATIONS, READ_OUTS, SKIP, ZERO, Edge, Genotype, Skeleton, check_inputs
from trainer.search.folded import AT, Lanes, Source, normalised


@dataclass(frozen=True, slots=True)
class Space:
    """How operations are mixed."""

    n_nodes: int = 4
    partial: int = 4  #: one channel of so many goes through the operations; 1 = all, as in DARTS
    fair: bool = False  #: sigmoid instead of softmax: operations do not compete
    auxiliary: float = 0.0  #: weight at the beginning of a skip beside every edge that the search does not see

    def __post_init__(self) -> None:
        if self.partial < 1 or not 1 <= self.n_nodes <= MAX_NODES or not 0 <= self.auxiliary < float("inf"):
            raise ConfigError(f"{self} is no search space; n_nodes 1 to {MAX_NODES}, partial from 1, auxiliary from 0")

    @property
    def n_edges(self) -> int:
        """Edges of a cell: each node has one from every earlier state."""
        return sum(self.nodes)

    @property
    def nodes(self) -> range:
        """Nodes by their state number, which is also the number of their edges."""
        return range(N_INPUTS, N_INPUTS + self.n_nodes)


def edges_of(nodes: range) -> list[tuple[int, int]]:
    """Source and node of every edge, in the order of the architecture weights."""
    return [(source, node) for node in nodes for source in range(node)]


class Architecture(nn.Module):
    """What is searched: weights of operations and edges of both kinds of cell, and of the read-outs."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.normal = nn.Parameter(1e-3 * torch.randn(space.n_edges, len(OPERATIONS)))
        self.reduction = nn.Parameter(1e-3 * torch.randn(space.n_edges, len(OPERATIONS)))
        self.normal_edges = nn.Parameter(1e-3 * torch.randn(space.n_edges))
        self.reduction_edges = nn.Parameter(1e-3 * torch.randn(space.n_edges))
        self.read_out = nn.Parameter(torch.zeros(len(READ_OUTS)))
        self.register_buffer("auxiliary", torch.tensor(float(space.auxiliary)))
        self.register_buffer("is_skip", torch.eye(len(OPERATIONS))[AT[SKIP]], persistent=False)
        sources = [source for source, _ in edges_of(space.nodes)]
        self.register_buffer("by_source", torch.tensor(sources).argsort(stable=True), persistent=False)
        self.n_by_source = [sources.count(source) for source in range(space.nodes.stop - 1)]

    @property
    def searched(self) -> list[nn.Parameter]:
        """Parameters that the search trains: edges have weights of their own where channels are partial."""
        edges = [self.normal_edges, self.reduction_edges] if self.space.partial > 1 else []
        return [self.normal, self.reduction, *edges, self.read_out]

    auxiliary: Tensor
    """Weight of the auxiliary skip, for the search to let it decay."""

    is_skip: Tensor
    by_source: Tensor

    def strengths(self, cell: str) -> Tensor:
        """(n_edges, n_operations) weight of each operation in its node."""
        alpha = self.get_parameter(cell)
        found = torch.sigmoid(alpha) if self.space.fair else torch.softmax(alpha, 1)
        if self.space.partial == 1:
            return found
        return found * self.edges(cell)[:, None]

    def edges(self, cell: str) -> Tensor:
        """(n_edges,) weight of each edge; all 1 unless channels are partial."""
        beta = self.get_parameter(f"{cell}_edges")
        if self.space.partial == 1:
            return torch.ones_like(beta)
        return torch.cat([torch.softmax(part, 0) for part in torch.split(beta, list(self.space.nodes))])

    def mixed(self, cell: str) -> Tensor:
        """`strengths` and, on skip, what the auxiliary one adds."""
        return self.strengths(cell) + self.auxiliary * self.is_skip * self.edges(cell)[:, None]

    def leaving(self, cell: str) -> tuple[Tensor, ...]:
        """For each source (n_out, n_operations) the `mixed` weights of the edges that leave it, by node."""
        return torch.split(self.mixed(cell)[self.by_source], self.n_by_source)

    def decay(self) -> Tensor:
        """Mean of log sum exp over all edges (beta-DARTS, equation 13): keeps one operation from running away early."""
        return torch.cat([self.normal, self.reduction]).logsumexp(1).mean()

    def unfairness(self) -> Tensor:
        """Fair DARTS' zero-one loss (equation 7), negative: smallest where every sigmoid is 0 or 1."""
        return -(torch.sigmoid(torch.cat([self.normal, self.reduction])) - 0.5).square().mean()

    @torch.no_grad()
    def derive(self) -> Genotype:
        """Two strongest edges into each node, each with its strongest operation but zero (DARTS, section 2.4)."""
        nodes = self.space.nodes

        def cell(name: str) -> tuple[Edge, ...]:
            found = self.strengths(name).clone()
            found[:, AT[ZERO]] = -1
            values, ops = (part.tolist() for part in found.max(1))
            kept = []
            for node, first in zip(nodes, _firsts(nodes), strict=True):
                best = sorted(range(node), key=lambda at: -values[first + at])[:N_INPUTS]
                kept += [Edge(at, node, OPERATIONS[ops[first + at]]) for at in sorted(best)]
            return tuple(kept)

        return Genotype(len(nodes), cell("normal"), cell("reduction"), tuple(nodes), READ_OUTS[int(self.read_out.argmax())])


def _firsts(nodes: range) -> list[int]:
    return [sum(range(nodes.start, node)) for node in nodes]


def passed_by(weights: Tensor, states: list[Tensor]) -> Tensor:
    """Sum of states (C, B, L), each by its weight."""
    return torch.einsum("s,scbl->cbl", weights, torch.stack(states))


class Entrance(nn.Module):
    """The 1 x 1 convolution before a cell; where the cell before it halved its length, one that halves too."""

    def __init__(self, n_in: int, n_out: int, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.weight = nn.Parameter((2 * torch.rand(n_out, n_in) - 1) * n_in**-0.5)

    def forward(self, relued: Tensor, out: Lanes) -> Tensor:
        """(C in, B, L) after relu → (C, B, L), or half as long."""
        shape = len(self.weight), *out.holds.shape
        if not self.halves:
            return normalised((self.weight @ relued.flatten(1)).view(shape), out)
        first, second = self.weight.chunk(2)
        later = functional.pad(relued[:, :, 1::2], (0, relued.shape[2] % 2))
        rows = torch.cat([first @ relued[:, :, ::2].flatten(1), second @ later.flatten(1)])
        return normalised(rows.view(shape), out)


class Cell(nn.Module):
    """All operations on all edges of one cell."""

    def __init__(self, space: Space, n_in: tuple[int, int], width: int, is_reduction: bool, after_reduction: bool) -> None:
        super().__init__()
        self.space, self.partial = space, width // space.partial
        self.is_reduction: bool = is_reduction
        self.entrances = nn.ModuleList([Entrance(n_in[0], width, after_reduction), Entrance(n_in[1], width, False)])
        last = space.nodes.stop - 1
        strides = [2 if is_reduction and at < N_INPUTS else 1 for at in range(last)]
        self.sources = nn.ModuleList([Source(self.partial, last - max(at, 1), strides[at]) for at in range(last)])

    def forward(
        self, inputs: tuple[Tensor, Tensor], lanes: Lanes, out: Lanes, mixed: tuple[Tensor, ...], edges: Tensor
    ) -> Tensor:
        """Outputs of the two cells before, after relu, → (nodes · C, B, L)."""
        states = [entrance(one, lanes) for entrance, one in zip(self.entrances, inputs, strict=True)]
        beside = [self._beside(state, lanes, out) for state in states]
        shape = self.partial, *out.holds.shape
        sums: Tensor | None = None
        for at, source in enumerate(self.sources):
            kernel, rows = source(states[at][: self.partial], lanes if at < N_INPUTS else out, out, mixed[at])
            sums = kernel @ rows if sums is None else torch.addmm(sums, kernel, rows)
            if at + 1 < N_INPUTS:
                continue
            node, sums = sums.split([self.partial, len(sums) - self.partial])
            first = sum(range(N_INPUTS, at + 1))
            states.append(self._joined(node.view(shape), beside, edges[first : first + at + 1]))
            beside.append(states[-1][self.partial :])
        return torch.cat(states[N_INPUTS:])

    def _beside(self, state: Tensor, lanes: Lanes, out: Lanes) -> Tensor:
        """The channels that no operation sees, at the cell's length."""
        rest = state[self.partial :]
        if not self.is_reduction or not len(rest):
            return rest
        low = functional.pad(rest.masked_fill(lanes.padding, -torch.inf), (0, rest.shape[2] % 2), value=-torch.inf)
        return torch.maximum(low[:, :, ::2], low[:, :, 1::2]).masked_fill(out.padding, 0)

    def _joined(self, node: Tensor, beside: list[Tensor], edges: Tensor) -> Tensor:
        """Channels of the operations and those beside, in the order that lets others come first next time."""
        if self.space.partial == 1:
            return node
        whole = torch.cat([node, passed_by(edges, beside)])
        return whole.view(self.space.partial, -1, *whole.shape[1:]).transpose(0, 1).flatten(0, 1)


class Supernet(nn.Module):
    """(B, C0, L) embedded tokens and a (B, L) mask → (B, n_out) logits; batch statistics are always those of the batch."""

    def __init__(self, n_in: int, n_out: int, skeleton: Skeleton, space: Space) -> None:
        super().__init__()
        if skeleton.width % (2 * space.partial):
            raise ConfigError(
                f"width {skeleton.width} has no even {space.partial}th part; choose a multiple of {2 * space.partial}"
            )
        self.space, self.skeleton = space, skeleton
        self.architecture = Architecture(space)
        width = skeleton.stem_multiplier * skeleton.width
        self.stem = nn.Parameter((2 * torch.rand(width, n_in) - 1) * n_in**-0.5)
        widths = [width, width]
        cells = []
        for at in range(skeleton.n_cells):
            here = skeleton.width_of(at)
            cells.append(Cell(space, (widths[-2], widths[-1]), here, at in skeleton.reductions, at - 1 in skeleton.reductions))
            widths.append(space.n_nodes * here)
        self.cells = nn.ModuleList(cells)
        self.attention = nn.Parameter((2 * torch.rand(widths[-1]) - 1) * widths[-1] ** -0.5)
        self.head = nn.Linear(widths[-1], n_out)

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Raises InputError when the shapes do not fit."""
        check_inputs(embedded, mask, self.stem.shape[1])
        mask = mask.bool()
        lanes = [Lanes(mask, self.stem.dtype)]
        lanes.append(lanes[0].halved())
        lanes.append(lanes[1].halved())
        first = (embedded * mask[:, None]).transpose(0, 1).flatten(1)
        state = normalised((self.stem @ first).view(len(self.stem), *mask.shape), lanes[0])
        inputs = (state.relu(), state.relu())
        mixed = {name: self.architecture.leaving(name) for name in ("normal", "reduction")}
        edges = {name: self.architecture.edges(name) for name in mixed}
        level = 0
        for at, cell in enumerate(self.cells):
            is_reduction = at in self.skeleton.reductions
            name, after = "reduction" if is_reduction else "normal", level + is_reduction
            found = cell(inputs, lanes[level], lanes[after], mixed[name], edges[name])
            inputs, level = (inputs[1], found.relu() if at + 1 < len(self.cells) else found), after
        logits: Tensor = self.head(self._read(inputs[1], lanes[level]))
        return logits

    def _read(self, state: Tensor, lanes: Lanes) -> Tensor:
        """(C, B, L) → (B, C): mean, maximum and attention, mixed."""
        weights = torch.softmax(self.architecture.read_out, 0)
        n = lanes.weight.sum(1)
        most = state.masked_fill(lanes.padding, -torch.inf).amax(2).masked_fill(n == 0, 0)
        scores = torch.einsum("c,cbl->bl", self.attention, state).masked_fill(lanes.padding, -1e4)
        shares = torch.softmax(scores, 1) * lanes.weight
        attended = (state * shares).sum(2)
        return (weights[0] * state.sum(2) / n.clamp_min(1) + weights[1] * most + weights[2] * attended).T
