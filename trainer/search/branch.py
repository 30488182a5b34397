"""The branch that is built of a genotype, cells of chosen operations around one skeleton (see `trainer.search.cells`); its rival.

Positions that do not count are 0 in every state and enter no statistic, so that the length a batch is padded to
changes nothing. The operations are those of `trainer.search.folded`, normalised with weights of their own and, in
use, by running statistics.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from curation.errors import ConfigError
from trainer.search.cells import AVERAGE, CONVOLUTIONS, MAX, N_INPUTS, SKIP, Edge, Genotype, Skeleton, check_inputs
from trainer.search.examples import Embedded

EPSILON = 1e-5
MOMENTUM = 0.1
Adding = Callable[[Tensor], Tensor]
"""Adds up what all processes have, each a share of the batch."""

LOW = -1e30
"""Below every value, and unlike infinity 0 when it is multiplied by 0."""


class Standardised(torch.autograd.Function):
    """(B, C, L) with mean 0 and variance 1 of each channel over the positions that count; with both moments (C,)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, adding: Adding | None) -> tuple[Tensor, Tensor, Tensor]:
        x = x * mask
        n, total = _added(adding, mask.sum()[None], x.sum((0, 2)))
        n = n.clamp_min(1)
        mean = total / n
        found = x.addcmul_(mask, mean[:, None], value=-1)
        variance = _added(adding, torch.linalg.vector_norm(found, dim=(0, 2)).square())[0] / n
        scale = (variance + EPSILON).rsqrt()[:, None]
        found.mul_(scale)
        ctx.adding = adding
        ctx.save_for_backward(found, mask, scale, n)
        ctx.mark_non_differentiable(mean, variance)
        return found, mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        found, mask, scale, n = ctx.saved_tensors
        grad = grads[0] * mask
        sums = _added(ctx.adding, grad.sum((0, 2)), (grad * found).sum((0, 2)))
        middle, along = (total[:, None] / n for total in sums)
        return grad.addcmul_(found, along, value=-1).addcmul_(mask, middle, value=-1).mul_(scale), None, None


def _added(adding: Adding | None, *sums: Tensor) -> tuple[Tensor, ...]:
    """Sums (n,) over a batch, of which other processes have shares too where there is an `adding`."""
    return sums if adding is None else torch.split(adding(torch.cat(sums)), [len(one) for one in sums])


class Norm(nn.Module):
    """Batch normalisation over the positions that count; the others are 0."""

    mean: Tensor
    variance: Tensor
    adding: Adding | None = None

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, C, L) and a (B, 1, L) mask of 0 and 1."""
        if not self.training:
            return functional.batch_norm(x, self.mean, self.variance, self.weight, self.bias, eps=EPSILON) * mask
        found: Tensor
        found, mean, variance = Standardised.apply(x.to(mask.dtype), mask, self.adding)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.mean.lerp_(mean, MOMENTUM)
            self.variance.lerp_(variance, MOMENTUM)
        if self.weight is None or self.bias is None:
            return found
        return torch.addcmul(found * self.weight[:, None], mask, self.bias[:, None])


class Convolution(nn.Module):
    """Relu, convolution, normalisation; with stride 2 and width 1 it looks at both positions that it replaces by one."""

    def __init__(self, n_in: int, n_out: int, width: int, dilation: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.is_halving = width == 1 and stride == 2
        padding = dilation * (width // 2)
        self.kernel = nn.Conv1d(n_in, n_out // (1 + self.is_halving), width, stride, padding, dilation, bias=False)
        self.odd = nn.Conv1d(n_in, n_out - n_out // 2, 1, stride, bias=False) if self.is_halving else None
        self.norm = Norm(n_out)

    def forward(self, x: Tensor, _: Tensor, out: Tensor) -> Tensor:
        x = torch.relu(x)
        found = self.kernel(x)
        if self.odd is not None:
            later = functional.pad(x, (0, 1))[:, :, 1:]
            found = torch.cat([found, self.odd(later)], 1)
        normed: Tensor = self.norm(found, out)
        return normed


class Pool(nn.Module):
    """Maximum or mean of three positions, of those that count."""

    def __init__(self, op: str, channels: int, stride: int) -> None:
        super().__init__()
        self.is_max, self.stride, self.norm = op == MAX, stride, Norm(channels, affine=False)

    def forward(self, x: Tensor, mask: Tensor, out: Tensor) -> Tensor:
        if self.is_max:
            found = functional.max_pool1d(x.masked_fill(mask == 0, LOW), 3, self.stride, 1)
        else:
            n = functional.avg_pool1d(mask, 3, self.stride, 1)
            found = functional.avg_pool1d(x, 3, self.stride, 1) / n.clamp_min(1 / 3)
        normed: Tensor = self.norm(found * out, out)
        return normed


class Through(nn.Module):
    """Skip and zero where the length is kept, zero where it is halved."""

    def __init__(self, op: str, stride: int) -> None:
        super().__init__()
        self.factor, self.stride = float(op == SKIP), stride

    def forward(self, x: Tensor, _: Tensor, out: Tensor) -> Tensor:
        return x[:, :, :: self.stride] * (self.factor * out)


def operation(op: str, channels: int, stride: int) -> nn.Module:
    """The operation of an edge: (B, C, L), its mask and the mask of its output → (B, C, L / stride)."""
    if op in CONVOLUTIONS:
        return Convolution(channels, channels, *CONVOLUTIONS[op], stride)
    if op in (MAX, AVERAGE):
        return Pool(op, channels, stride)
    return Convolution(channels, channels, 1, 1, 2) if op == SKIP and stride == 2 else Through(op, stride)


class DerivedCell(nn.Module):
    """One cell: (B, C, L) of the two cells before → (B, n_concat · width, L), or half as long."""

    def __init__(
        self, genotype: Genotype, n_in: tuple[int, int], width: int, turns: tuple[bool, bool], skeleton: Skeleton
    ) -> None:
        """`turns`: whether this cell halves its length, and whether the one before did."""
        super().__init__()
        self.is_reduction, self.skeleton = turns[0], skeleton
        self.links: tuple[Edge, ...] = genotype.reduction if turns[0] else genotype.normal
        self.concat = genotype.concat
        halved = 2 if turns[1] else 1
        self.entrances = nn.ModuleList([Convolution(n_in[0], width, 1, 1, halved), Convolution(n_in[1], width, 1)])
        strides = [2 if turns[0] and edge.source < N_INPUTS else 1 for edge in self.links]
        self.ops = nn.ModuleList([operation(edge.op, width, stride) for edge, stride in zip(self.links, strides, strict=True)])

    def forward(self, inputs: tuple[Tensor, Tensor], masks: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """`masks`: of the cell before last, of the last one, and of this cell's output."""
        states = [self.entrances[0](inputs[0], masks[0], masks[1]), self.entrances[1](inputs[1], masks[1], masks[1])]
        added: dict[int, list[Tensor]] = {}
        ordered = sorted(zip(self.links, self.ops, strict=True), key=lambda pair: pair[0].node)
        for edge, op in ordered:
            if edge.node > len(states):
                states.append(torch.stack(added[len(states)]).sum(0))
            mask = masks[1] if edge.source < N_INPUTS else masks[2]
            found = op(states[edge.source], mask, masks[2])
            added.setdefault(edge.node, []).append(found if edge.op == SKIP else self._left_out(found))
        states.append(torch.stack(added[len(states)]).sum(0))
        whole = torch.cat([states[node] for node in self.concat], 1)
        return functional.dropout1d(whole, self.skeleton.drop_width, self.training)

    def _left_out(self, x: Tensor) -> Tensor:
        """In training some rows do without this edge (drop path, Larsson, Maire and Shakhnarovich, ICLR 2017)."""
        share = self.skeleton.drop_path
        if not share or not self.training:
            return x
        return x * (torch.rand(len(x), 1, 1, device=x.device) >= share) / (1 - share)


class CellBranch(nn.Module):
    """(B, C0, L) embedded tokens and a (B, L) mask → one vector (B, n_out) a row; zeros for a row without tokens."""

    def __init__(self, genotype: Genotype, skeleton: Skeleton, n_in: int) -> None:
        super().__init__()
        self.genotype, self.skeleton, self.n_in = genotype, skeleton, n_in
        width = skeleton.stem_multiplier * skeleton.width
        self.stem, self.stem_norm = nn.Conv1d(n_in, width, 1, bias=False), Norm(width)
        widths, turns = [width, width], [at in skeleton.reductions for at in range(-1, skeleton.n_cells)]
        self.cells = nn.ModuleList()
        for at in range(skeleton.n_cells):
            here, before = skeleton.width_of(at), (widths[-2], widths[-1])
            self.cells.append(DerivedCell(genotype, before, here, (turns[at + 1], turns[at]), skeleton))
            widths.append(len(genotype.concat) * here)
        self.n_out = widths[-1]
        self.attention = nn.Conv1d(self.n_out, 1, 1) if genotype.read_out == "attention" else None

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Raises InputError when the shapes do not fit."""
        if not torch.onnx.is_in_onnx_export():
            check_inputs(embedded, mask, self.n_in)
        here = mask[:, None].to(embedded.dtype)
        state = self.stem_norm(self.stem(embedded * here), here)
        inputs, masks = (state, state), (here, here)
        for at, cell in enumerate(self.cells):
            out = masks[1][:, :, ::2] if at in self.skeleton.reductions else masks[1]
            inputs, masks = (inputs[1], cell(inputs, (*masks, out))), (masks[1], out)
        return self._read(inputs[1], masks[1])

    def _read(self, state: Tensor, mask: Tensor) -> Tensor:
        """(B, C, L) → (B, C)."""
        if self.attention is not None:
            scores = self.attention(state).masked_fill(mask == 0, LOW)
            return (state * torch.softmax(scores, 2)).sum(2)
        if self.genotype.read_out == "max":
            return state.masked_fill(mask == 0, LOW).amax(2) * mask.amax(2)
        return state.sum(2) / mask.sum(2).clamp_min(1)


@dataclass(frozen=True, slots=True)
class Filters:
    """The hand-designed branch: convolutions of several widths, each with its maximum over time."""

    n_filters: int = 128  #: of each width
    widths: tuple[int, ...] = (1, 2, 3, 4)  #: tokens that a filter sees

    def __post_init__(self) -> None:
        if self.n_filters < 1 or not self.widths or min(self.widths) < 1:
            raise ConfigError(f"{self} makes no branch; give one filter or more, of widths from 1")


class FilterBranch(nn.Module):
    """TextCNN (Kim, Convolutional Neural Networks for Sentence Classification, EMNLP 2014), with the inputs of `CellBranch`."""

    def __init__(self, filters: Filters, n_in: int) -> None:
        super().__init__()
        self.n_in, self.n_out = n_in, filters.n_filters * len(filters.widths)
        self.widths = filters.widths
        self.kernels = nn.ModuleList([nn.Conv1d(n_in, filters.n_filters, width) for width in filters.widths])

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Raises InputError when the shapes do not fit."""
        if not torch.onnx.is_in_onnx_export():
            check_inputs(embedded, mask, self.n_in)
        here = mask[:, None].to(embedded.dtype)
        x, found = embedded * here, []
        for width, kernel in zip(self.widths, self.kernels, strict=True):
            windows = torch.relu(kernel(functional.pad(x, (0, width - 1))))
            found.append((windows * here).amax(2))
        return torch.cat(found, 1)


Design = Genotype | Filters
"""What a branch can be built of."""


def branch_of(design: Design, skeleton: Skeleton, n_in: int) -> CellBranch | FilterBranch:
    """(B, n_in, L) embedded tokens and a (B, L) mask → (B, branch.n_out); only cells need the skeleton."""
    return FilterBranch(design, n_in) if isinstance(design, Filters) else CellBranch(design, skeleton, n_in)


class TextNetwork(nn.Module):
    """Tokens (B, L) or (B, L, H) → logits (B, n_classes): embeddings, a branch and a linear head, as candidates are trained."""

    def __init__(
        self, design: Design, skeleton: Skeleton, *, n_ids: int, n_classes: int, dim: int = 96, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.embedded, self.branch = Embedded(n_ids, dim), branch_of(design, skeleton, dim)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(self.branch.n_out, n_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.branch(*self.embedded(tokens))))
        return logits
