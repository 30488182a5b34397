"""DARTS' searchable network written straightforwardly, one module an edge: what ours is compared with.

Written anew from the paper (Liu, Simonyan and Yang, ICLR 2019) and what its code does: relu and pools run on every edge, zero
is computed, every operation has a batch normalisation of its own. With partial channels it is PC-DARTS' (Xu et al., ICLR
2020). It takes its weights from one of ours, so that both must give the same gradients. Positions are all counted.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.search.cells import AVERAGE, CONVOLUTIONS, MAX, OPERATIONS, SKIP, ZERO
from trainer.search.folded import PAIRS, Source
from trainer.search.supernet import Cell, Entrance, Space, Supernet


class Halving(nn.Module):
    """Two 1 x 1 convolutions, on even and on odd positions."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.even = nn.Conv1d(n_in, n_out // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv1d(n_in, n_out - n_out // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm1d(n_out, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        later = functional.pad(x[:, :, 1:], (0, 1)) if x.shape[2] % 2 else x[:, :, 1:]
        return self.norm(torch.cat([self.even(x), self.odd(later)], 1))


class Nothing(nn.Module):
    """The zero operation, computed."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride] * 0.0


def operation(op: str, channels: int, stride: int) -> nn.Module:
    """One operation as a module."""
    norm = nn.BatchNorm1d(channels, affine=False)
    if op == ZERO:
        return Nothing(stride)
    if op == SKIP:
        return nn.Identity() if stride == 1 else Halving(channels, channels)
    if op == MAX:
        return nn.Sequential(nn.MaxPool1d(3, stride, 1), norm)
    if op == AVERAGE:
        return nn.Sequential(nn.AvgPool1d(3, stride, 1, count_include_pad=False), norm)
    width, dilation = CONVOLUTIONS[op]
    padding = dilation * (width // 2)
    return nn.Sequential(nn.ReLU(), nn.Conv1d(channels, channels, width, stride, padding, dilation, bias=False), norm)


class PortEdge(nn.Module):
    """All operations of one edge, on all channels or on the first part of them."""

    def __init__(self, channels: int, stride: int, partial: int) -> None:
        super().__init__()
        self.partial, self.stride, self.used = partial, stride, channels // partial
        self.ops = nn.ModuleList([operation(op, self.used, stride) for op in OPERATIONS])

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        mixed = sum(weight * op(x[:, : self.used]) for weight, op in zip(weights, self.ops, strict=True))
        if self.partial == 1:
            return mixed
        rest = x[:, self.used :]
        rest = functional.max_pool1d(rest, 2, 2, ceil_mode=True) if self.stride == 2 else rest
        whole = torch.cat([mixed, rest], 1)
        return whole.unflatten(1, (self.partial, -1)).transpose(1, 2).flatten(1, 2)


class PortCell(nn.Module):
    """One module an edge."""

    def __init__(self, space: Space, n_in: tuple[int, int], width: int, is_reduction: bool, after_reduction: bool) -> None:
        super().__init__()
        self.nodes, self.is_reduction = space.nodes, is_reduction
        first = Halving(n_in[0], width) if after_reduction else self.entrance(n_in[0], width)
        self.entrances = nn.ModuleList([first, self.entrance(n_in[1], width)])
        strides = [2 if is_reduction and at < 2 else 1 for node in self.nodes for at in range(node)]
        self.edges = nn.ModuleList([PortEdge(width, stride, space.partial) for stride in strides])

    @staticmethod
    def entrance(n_in: int, width: int) -> nn.Module:
        return nn.Sequential(nn.ReLU(), nn.Conv1d(n_in, width, 1, bias=False), nn.BatchNorm1d(width, affine=False))

    def forward(self, before: Tensor, last: Tensor, weights: Tensor, edges: Tensor) -> Tensor:
        states, at = [self.entrances[0](before), self.entrances[1](last)], 0
        for node in self.nodes:
            states.append(sum(edges[at + i] * self.edges[at + i](x, weights[at + i]) for i, x in enumerate(states)))
            at += node
        return torch.cat(states[2:], 1)


class Port(nn.Module):
    """The searchable network, straightforward; its architecture weights are those of ours."""

    def __init__(self, ours: Supernet) -> None:
        super().__init__()
        self.space, self.architecture = ours.space, copy.deepcopy(ours.architecture)
        width, n_in = ours.stem.shape
        self.stem = nn.Sequential(nn.Conv1d(n_in, width, 1, bias=False), nn.BatchNorm1d(width, affine=False))
        widths, skeleton = [width, width], ours.skeleton
        self.cells = nn.ModuleList()
        for at in range(skeleton.n_cells):
            here = skeleton.width_of(at)
            turns = at in skeleton.reductions, at - 1 in skeleton.reductions
            self.cells.append(PortCell(self.space, (widths[-2], widths[-1]), here, *turns))
            widths.append(self.space.n_nodes * here)
        self.attention, self.head = nn.Linear(widths[-1], 1, bias=False), copy.deepcopy(ours.head)
        self.to(ours.stem)
        with torch.no_grad():
            self.stem[0].weight.copy_(ours.stem[:, :, None])
            self.attention.weight.copy_(ours.attention[None])
            for cell, other in zip(self.cells, ours.cells, strict=True):
                copy_cell(cell, other)

    def forward(self, embedded: Tensor, mask: Tensor | None = None) -> Tensor:
        before = last = self.stem(embedded)
        for cell in self.cells:
            name = "reduction" if cell.is_reduction else "normal"
            edges = self.architecture.edges(name)
            mixed = self.architecture.mixed(name) / edges[:, None]
            before, last = last, cell(before, last, mixed, edges)
        weights = torch.softmax(self.architecture.read_out, 0)
        shares = torch.softmax(self.attention(last.transpose(1, 2))[:, :, 0], 1)
        read = (last.mean(2), last.amax(2), (last * shares[:, None]).sum(2))
        return self.head(sum(weight * one for weight, one in zip(weights, read, strict=True)))


def copy_cell(port: PortCell, ours: Cell) -> None:
    """Give the port's cell our weights."""
    for module, entrance in zip(port.entrances, ours.entrances, strict=True):
        assert isinstance(entrance, Entrance)
        if isinstance(module, Halving):
            copy_halves(module, entrance.weight)
        else:
            module[1].weight.copy_(entrance.weight[:, :, None])
    taken = dict.fromkeys(range(len(ours.sources)), 0)
    for edge, source in zip(port.edges, (at for node in port.nodes for at in range(node)), strict=True):
        copy_edge(edge, ours.sources[source], taken[source])
        taken[source] += 1


def copy_edge(edge: PortEdge, source: Source, out: int) -> None:
    """Kernels of one edge, of those that leave its source."""
    for at, op in enumerate(CONVOLUTIONS):
        entries = [entry for entry, (of, _) in enumerate(PAIRS) if of == at]
        edge.ops[OPERATIONS.index(op)][1].weight.copy_(source.kernel[out][:, entries].transpose(1, 2))
    if source.stride == 2:
        copy_halves(edge.ops[OPERATIONS.index(SKIP)], source.halve[out])


def copy_halves(module: Halving, weight: Tensor) -> None:
    n_even = len(module.even.weight)
    module.even.weight.copy_(weight[:n_even, :, None])
    module.odd.weight.copy_(weight[n_even:, :, None])
