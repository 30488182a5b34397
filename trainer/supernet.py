"""The searchable network: every operation on every edge, mixed by architecture weights (DARTS, equations 2 and 3).

Written state by state instead of edge by edge. A state's relu, pools and shifted copies are laid down once, as rows of one
matrix; all convolutions of all edges that leave the state are linear in those rows, and so is batch normalisation without
affine weights, once mean and variance are known. Both follow from the rows' second moments, hence a state adds one product
to all later nodes: kernels, normalisation and architecture weights are folded into one matrix. The gradients are those of
the network written with one module per edge.

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

from curation.errors import ConfigError, InputError, shorten
from trainer.cells import AVERAGE, CONVOLUTIONS, MAX, N_INPUTS, OPERATIONS, READ_OUTS, SKIP, ZERO, Edge, Genotype, Skeleton

EPSILON = 1e-5
TAPS = (-4, -2, -1, 0, 1, 2, 4)
"""Offsets that any convolution looks at."""

REACH = max(TAPS)
PAIRS = [
    (at, step * dilation)
    for at, (width, dilation) in enumerate(CONVOLUTIONS.values())
    for step in range(-(width // 2), width // 2 + 1)
]
"""Convolution and offset of each kernel entry, in the order they are kept."""

_AT = {op: at for at, op in enumerate(OPERATIONS)}
_CONVOLUTIONS = [_AT[op] for op in CONVOLUTIONS]


@dataclass(frozen=True, slots=True)
class Space:
    """How operations are mixed."""

    n_nodes: int = 4
    partial: int = 4  #: one channel of so many goes through the operations; 1 = all, as in DARTS
    fair: bool = False  #: sigmoid instead of softmax: operations do not compete
    auxiliary: float = 0.0  #: weight at the beginning of a skip beside every edge that the search does not see

    def __post_init__(self) -> None:
        if self.partial < 1 or not 1 <= self.n_nodes <= 12 or not 0 <= self.auxiliary < float("inf"):
            raise ConfigError(f"{self} is no search space; n_nodes 1 to 12, partial from 1, auxiliary from 0")

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
        for name in ("normal", "reduction"):
            self.register_parameter(name, nn.Parameter(1e-3 * torch.randn(space.n_edges, len(OPERATIONS))))
            self.register_parameter(f"{name}_edges", nn.Parameter(1e-3 * torch.randn(space.n_edges)))
        self.read_out = nn.Parameter(torch.zeros(len(READ_OUTS)))
        self.register_buffer("auxiliary", torch.tensor(float(space.auxiliary)))

    auxiliary: Tensor

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
        return torch.cat([torch.softmax(part, 0) for part in beta.split(list(self.space.nodes))])

    def mixed(self, cell: str) -> Tensor:
        """`strengths` and, on skip, what the auxiliary one adds."""
        auxiliary = torch.zeros(len(OPERATIONS), device=self.auxiliary.device, dtype=self.read_out.dtype)
        auxiliary[_AT[SKIP]] = self.auxiliary
        return self.strengths(cell) + auxiliary * self.edges(cell)[:, None]

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
            found[:, _AT[ZERO]] = -1
            values, ops = (part.tolist() for part in found.max(1))
            kept = []
            for node, first in zip(nodes, _firsts(nodes), strict=True):
                best = sorted(range(node), key=lambda at: -values[first + at])[:N_INPUTS]
                kept += [Edge(at, node, OPERATIONS[ops[first + at]]) for at in sorted(best)]
            return tuple(kept)

        return Genotype(len(nodes), cell("normal"), cell("reduction"), tuple(nodes), READ_OUTS[int(self.read_out.argmax())])


def _firsts(nodes: range) -> list[int]:
    return [sum(range(nodes.start, node)) for node in nodes]


class Lanes:
    """Which positions of (B, L) count, at one length."""

    def __init__(self, mask: Tensor, dtype: torch.dtype) -> None:
        self.holds = mask
        self.weight = mask.to(dtype)
        self.n = self.weight.sum().clamp_min(1)
        near = functional.avg_pool1d(self.weight[:, None], 3, 1, 1)[:, 0] * 3
        self.near = 1 / near.clamp_min(1)

    def halved(self) -> "Lanes":
        """Every second position."""
        return Lanes(self.holds[:, ::2], self.weight.dtype)


def normalised(rows: Tensor, lanes: Lanes) -> Tensor:
    """(C, B, L) with mean 0 and variance 1 of each channel over positions that count, the others 0."""
    rows = rows * lanes.weight
    centred = (rows - (rows.sum((1, 2), keepdim=True) / lanes.n)) * lanes.weight
    return centred * (centred.square().sum((1, 2), keepdim=True) / lanes.n + EPSILON).rsqrt()


class Source(nn.Module):
    """All edges that leave one state."""

    spread: Tensor
    of_pair: Tensor
    halves: Tensor

    def __init__(self, channels: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.stride, self.n_out, self.channels = stride, n_out, channels
        self.kernel = nn.Parameter(torch.empty(n_out, channels, channels, len(PAIRS)))
        fan_in = torch.tensor([list(CONVOLUTIONS.values())[op][0] * channels for op, _ in PAIRS])
        self.kernel.data.uniform_(-1, 1).mul_(fan_in.rsqrt())
        spread = torch.zeros(len(PAIRS), len(CONVOLUTIONS), len(TAPS))
        for at, (op, tap) in enumerate(PAIRS):
            spread[at, op, TAPS.index(tap)] = 1
        self.register_buffer("spread", spread.flatten(1), persistent=False)
        if stride == 2:
            self.halve = nn.Parameter((2 * torch.rand(n_out, channels, channels) - 1) * channels**-0.5)
            halves = torch.zeros(channels, len(TAPS))
            halves[: channels // 2, TAPS.index(0)] = halves[channels // 2 :, TAPS.index(1)] = 1
            self.register_buffer("halves", halves, persistent=False)

    def forward(self, state: Tensor, lanes: Lanes, out: Lanes, mixed: Tensor) -> tuple[Tensor, Tensor]:
        """Kernel (n_out · C, rows) and rows (rows, B · L) whose product is what this state adds to later nodes."""
        taps, others = self._taps(state, out), self._others(state, lanes, out)
        n_taps = len(taps) - 1
        moments = taps @ taps.T / out.n
        mean = moments[-1, :-1]
        spread = moments[:-1, :-1] - torch.outer(mean, mean)
        kernels, weight = self._kernels(mixed)  # (n_out, C, ops, 7C), (n_out, ops)
        flat = kernels.reshape(-1, n_taps)
        variance = ((flat @ spread) * flat).sum(1).clamp_min(0).view(kernels.shape[:3])
        scale = weight[:, None, :] * (variance + EPSILON).rsqrt()
        folded = (scale[:, :, None, :] @ kernels)[:, :, 0]  # (n_out, C, 7C)
        shift = -(folded @ mean)
        pools = [folded, shift[:, :, None]]
        for at, op in enumerate((MAX, AVERAGE)):
            rows = others[at * self.channels : (at + 1) * self.channels]
            middle = rows.sum(1) / out.n
            deviation = (rows.square().sum(1) / out.n - middle.square() + EPSILON).rsqrt()
            scaled = mixed[:, _AT[op], None] * deviation
            pools[1] = pools[1] - (scaled * middle)[:, :, None]
            pools.append(torch.diag_embed(scaled))
        if self.stride == 1:
            pools.append(torch.diag_embed(mixed[:, _AT[SKIP], None].expand(-1, self.channels)))
        return torch.cat(pools, 2).flatten(0, 1), torch.cat([taps, others])

    def _kernels(self, mixed: Tensor) -> tuple[Tensor, Tensor]:
        n, c = self.n_out, self.channels
        kernels = (self.kernel @ self.spread).view(n, c, c, len(CONVOLUTIONS), len(TAPS)).permute(0, 1, 3, 4, 2)
        weight = mixed[:, _CONVOLUTIONS]
        if self.stride == 2:
            halve = self.halve[:, :, None, None, :] * self.halves[None, :, None, :, None]
            kernels = torch.cat([kernels, halve], 2)
            weight = torch.cat([weight, mixed[:, _AT[SKIP], None]], 1)
        return kernels.flatten(3), weight

    def _taps(self, state: Tensor, out: Lanes) -> Tensor:
        padded = functional.pad(torch.relu(state), (REACH, REACH))
        length = state.shape[2]
        shifted = [padded[:, :, REACH + tap : REACH + tap + length : self.stride] for tap in TAPS]
        rows = torch.cat([*shifted, torch.ones_like(shifted[0][:1])]) * out.weight
        return rows.flatten(1)

    def _others(self, state: Tensor, lanes: Lanes, out: Lanes) -> Tensor:
        low = state.masked_fill(~lanes.holds, -torch.inf)
        most = functional.max_pool1d(low, 3, self.stride, 1).masked_fill(~out.holds, 0)
        padded = functional.pad(state, (1, 1))
        total = padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]
        mean = (total * lanes.near)[:, :, :: self.stride] * out.weight
        rows = [most, mean, *([state] if self.stride == 1 else [])]
        return torch.cat(rows).flatten(1)


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
        self.space, self.is_reduction, self.partial = space, is_reduction, width // space.partial
        self.entrances = nn.ModuleList([Entrance(n_in[0], width, after_reduction), Entrance(n_in[1], width, False)])
        last = space.nodes.stop - 1
        strides = [2 if is_reduction and at < N_INPUTS else 1 for at in range(last)]
        self.sources = nn.ModuleList([Source(self.partial, last - max(at, 1), strides[at]) for at in range(last)])
        self.rows = [[e for e, (source, _) in enumerate(edges_of(space.nodes)) if source == at] for at in range(last)]

    def forward(self, inputs: tuple[Tensor, Tensor], lanes: Lanes, out: Lanes, mixed: Tensor, edges: Tensor) -> Tensor:
        """Outputs of the two cells before, after relu, → (nodes · C, B, L)."""
        states = [entrance(one, lanes) for entrance, one in zip(self.entrances, inputs, strict=True)]
        beside = [self._beside(state, lanes, out) for state in states]
        shape = self.partial, *out.holds.shape
        sums: Tensor | None = None
        for at, source in enumerate(self.sources):
            kernel, rows = source(states[at][: self.partial], lanes if at < N_INPUTS else out, out, mixed[self.rows[at]])
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
        low = rest.masked_fill(~lanes.holds, -torch.inf)
        return functional.max_pool1d(low, 2, 2, ceil_mode=True).masked_fill(~out.holds, 0)

    def _joined(self, node: Tensor, beside: list[Tensor], edges: Tensor) -> Tensor:
        """Channels of the operations and those beside, in the order that lets others come first next time."""
        if self.space.partial == 1:
            return node
        whole = torch.cat([node, passed_by(edges, beside)])
        return whole.unflatten(0, (self.space.partial, -1)).transpose(0, 1).flatten(0, 1)


class Supernet(nn.Module):
    """(B, C0, L) embedded tokens and a (B, L) mask → (B, n_out) logits; batch statistics are always those of the batch."""

    def __init__(self, n_in: int, n_out: int, skeleton: Skeleton, space: Space) -> None:
        super().__init__()
        if skeleton.width % (2 * space.partial):
            raise ConfigError(f"width {skeleton.width} has no even {space.partial}th part; choose a multiple of {2 * space.partial}")
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
        check_inputs(embedded, mask, self.stem.shape[1])
        lanes = [Lanes(mask.bool(), embedded.dtype)]
        lanes.append(lanes[0].halved())
        lanes.append(lanes[1].halved())
        first = embedded.transpose(0, 1).flatten(1)
        state = normalised((self.stem @ first).view(len(self.stem), *mask.shape), lanes[0])
        inputs = (state.relu(), state.relu())
        mixed = {name: self.architecture.mixed(name) for name in ("normal", "reduction")}
        edges = {name: self.architecture.edges(name) for name in mixed}
        level = 0
        for cell in self.cells:
            name = "reduction" if cell.is_reduction else "normal"
            after = level + cell.is_reduction
            found = cell(inputs, lanes[level], lanes[after], mixed[name], edges[name])
            inputs, level = (inputs[1], found.relu() if cell is not self.cells[-1] else found), after
        return self.head(self._read(inputs[1], lanes[level]))

    def _read(self, state: Tensor, lanes: Lanes) -> Tensor:
        """(C, B, L) → (B, C): mean, maximum and attention, mixed."""
        weights = torch.softmax(self.architecture.read_out, 0)
        n = lanes.weight.sum(1)
        most = state.masked_fill(~lanes.holds, -torch.inf).amax(2).masked_fill(n == 0, 0)
        scores = torch.einsum("c,cbl->bl", self.attention, state).masked_fill(~lanes.holds, -1e4)
        shares = torch.softmax(scores, 1) * lanes.weight
        attended = (state * shares).sum(2)
        return (weights[0] * state.sum(2) / n.clamp_min(1) + weights[1] * most + weights[2] * attended).T


def check_inputs(embedded: Tensor, mask: Tensor, n_in: int) -> None:
    """Raises InputError unless the shapes fit."""
    if embedded.ndim != 3 or embedded.shape[1] != n_in or mask.shape != (embedded.shape[0], embedded.shape[2]):
        raise InputError(
            f"embedded tokens {shorten(tuple(embedded.shape))} and mask {shorten(tuple(mask.shape))} do not fit; "
            f"give (B, {n_in}, L) and (B, L)"
        )
