"""All operations on all edges that leave one state, folded into one product.

A state's relued and shifted copies, its pools and itself are laid down once, as rows of one matrix; every operation is linear
in those rows, and so is batch normalisation without affine weights, once mean and variance are known. Both follow from the
rows' second moments. Hence kernels, normalisation and architecture weights are one small matrix, and its product with the rows
is what the state adds to all later nodes. The gradients are those of one module an edge.

States are (C, B, L): channels first, so that some of the channels are a view and no product needs a transposition.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.search.cells import CONVOLUTIONS, OPERATIONS

EPSILON = 1e-5
TAPS = (-4, -2, 0, 2, 4, -1, 1)
"""Offsets that any convolution looks at: two runs of equal steps, so that each is laid down by one copy."""

RUNS = ((0, 5), (5, 7))
REACH = max(TAPS)
PAIRS = [
    (at, step * dilation)
    for at, (width, dilation) in enumerate(CONVOLUTIONS.values())
    for step in range(-(width // 2), width // 2 + 1)
]
"""Convolution and offset of each kernel entry, in the order they are kept."""

AT = {op: at for at, op in enumerate(OPERATIONS)}
PARTS = [1, 1, 2, len(CONVOLUTIONS)]
"""Operations as they lie: zero, skip, both pools, convolutions."""


class Lanes:
    """Which positions of (B, L) count, at one length."""

    def __init__(self, mask: Tensor, dtype: torch.dtype) -> None:
        self.holds, self.padding = mask, ~mask
        self.weight = mask.to(dtype)
        self.share = 1 / self.weight.sum().clamp_min(1)
        near = functional.avg_pool1d(self.weight[:, None], 3, 1, 1)[:, 0] * 3
        self.near = 1 / near.clamp_min(1)
        beyond = functional.pad(self.padding, (1, 1), value=True)
        self.low = torch.zeros_like(beyond, dtype=dtype).masked_fill(beyond, -torch.inf)

    def halved(self) -> "Lanes":
        """Every second position."""
        return Lanes(self.holds[:, ::2], self.weight.dtype)


class Normalised(torch.autograd.Function):
    """Mean 0 and variance 1 of each channel over the positions that count."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, share: Tensor) -> Tensor:
        centred = (rows - rows.sum(1, keepdim=True) * share).mul_(weight)
        deviation = (torch.linalg.vector_norm(centred, dim=1, keepdim=True).square() * share + EPSILON).rsqrt()
        found: Tensor = centred * deviation
        ctx.save_for_backward(found, deviation, weight, share)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        found, deviation, weight, share = ctx.saved_tensors
        grad = grads[0] * weight
        along = torch.linalg.vecdot(grad, found)[:, None] * share
        back = grad.sub_(grad.sum(1, keepdim=True) * share).addcmul_(found, along, value=-1)
        return back.mul_(deviation * weight), None, None


def normalised(rows: Tensor, lanes: Lanes) -> Tensor:
    """(C, B, L) that is 0 where nothing counts → the same with mean 0 and variance 1 of each channel where something does."""
    flat = rows.flatten(1).to(lanes.weight.dtype)
    found: Tensor = Normalised.apply(flat, lanes.weight.flatten(), lanes.share)  # type: ignore[no-untyped-call]
    return found.view(rows.shape)


class Laid(torch.autograd.Function):
    """A state as the rows that every operation is linear in, and their moments.

    (C, B, L) → rows (R, B · L'), second moments of the taps (T, T), sums and sums of squares (2 C,) of the pools. Rows are
    relued taps (7 C), one of ones, maximum (C), mean (C) and, where the length is kept, the state itself (C).
    """

    @staticmethod
    def forward(ctx: Any, state: Tensor, lanes: Lanes, out: Lanes, stride: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        c, n_taps = len(state), len(TAPS) * len(state)
        raw = state.new_zeros(c, len(lanes.holds), state.shape[2] + 2 * REACH)
        raw[:, :, REACH:-REACH] = state
        low = raw[:, :, REACH - 1 : 1 - REACH] + lanes.low
        rows = state.new_empty(n_taps + 1 + (3 if stride == 1 else 2) * c, *out.holds.shape)
        near, relued, laid = _steps(raw, (-1, 0, 1), stride), raw.clamp_min(0), rows[:n_taps].view(-1, c, *out.holds.shape)
        most, mean = rows[n_taps + 1 :][:c], rows[n_taps + 1 + c :][:c]
        torch.add(near[0], near[1], out=mean).add_(near[2]).mul_(lanes.near[:, ::stride])
        for first, end in RUNS:
            laid[first:end] = _steps(relued, TAPS[first:end], stride)
        rows[n_taps].fill_(1)
        left, middle, right = _near(low, stride)
        torch.maximum(torch.maximum(left, middle), right, out=most)
        most.masked_fill_(out.padding, 0)
        if stride == 1:
            rows[-c:] = state
        flat = rows.mul_(out.weight).flatten(1)
        taps, pools = flat[: n_taps + 1], flat[n_taps + 1 :][: 2 * c]
        ctx.save_for_backward(low, flat)
        ctx.about = lanes, out, stride
        return flat, taps @ taps.T, pools.sum(1), torch.linalg.vecdot(pools, pools)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        low, flat = ctx.saved_tensors
        lanes, out, stride = ctx.about
        c, length, n_taps = len(low), low.shape[2] - 2, len(TAPS) * len(low)
        taps = torch.addmm(grads[0][:n_taps], (grads[1] + grads[1].T)[:n_taps], flat[: n_taps + 1])
        pools = (grads[0][n_taps + 1 :][: 2 * c] + grads[2][:, None]).addcmul_(flat[n_taps + 1 :][: 2 * c], 2 * grads[3][:, None])
        taps, pools = (part.view(-1, c, *out.holds.shape).mul_(out.weight) for part in (taps, pools))
        padded = low.new_zeros(c, len(low[0]), length + 2 * REACH)
        for tap, grad in zip(TAPS, taps, strict=True):
            padded[:, :, REACH + tap : REACH + tap + length : stride].add_(grad)
        padded[:, :, REACH - 1 : 1 - REACH].mul_(low > 0)
        _share(padded[:, :, REACH - 1 : 1 - REACH], low, flat[n_taps + 1 :][:c].view(pools[0].shape), pools[0], stride)
        of_mean = pools[1].mul_(lanes.near[:, ::stride])
        for step in (-1, 0, 1):
            padded[:, :, REACH + step : REACH + step + length : stride].add_(of_mean)
        back = padded[:, :, REACH:-REACH]
        return back + (grads[0][-c:].view(back.shape) * out.weight) if stride == 1 else back, None, None, None


def _steps(padded: Tensor, taps: tuple[int, ...], stride: int) -> Tensor:
    """(n_taps, C, B, L') view of (C, B, REACH + L + REACH): what lies at these offsets, which are equal steps apart."""
    length = padded.shape[2] - 2 * REACH
    every = padded[:, :, REACH + taps[0] : REACH + taps[-1] + length].unfold(2, length, taps[1] - taps[0])
    return every[:, :, :, ::stride].movedim(2, 0)


def _near(low: Tensor, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """The positions before, at and after each one, of (C, B, 1 + L + 1)."""
    length = low.shape[2] - 2
    before, here, after = (low[:, :, step : step + length : stride] for step in range(3))
    return before, here, after


def _share(padded: Tensor, low: Tensor, most: Tensor, grad: Tensor, stride: int) -> None:
    """Add the gradient of each maximum to the first of three positions that has it."""
    left, middle, _ = _near(low, stride)
    to_left, to_middle, to_right = _near(padded, stride)
    share = grad * (left == most)
    to_left.add_(share)
    grad = grad - share
    share = grad * (middle == most)
    to_middle.add_(share)
    to_right.add_(grad - share)


class Source(nn.Module):
    """All edges that leave one state."""

    spread: Tensor
    same: Tensor
    halves: Tensor

    def __init__(self, channels: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.stride, self.n_out, self.channels = stride, n_out, channels
        self.kernel = nn.Parameter(torch.empty(n_out, channels, len(PAIRS), channels))
        fan_in = torch.tensor([[list(CONVOLUTIONS.values())[op][0] * channels] for op, _ in PAIRS])
        self.kernel.data.uniform_(-1, 1).mul_(fan_in.rsqrt())
        spread = torch.zeros(len(CONVOLUTIONS), len(TAPS), len(PAIRS))
        for at, (op, tap) in enumerate(PAIRS):
            spread[op, TAPS.index(tap), at] = 1
        self.register_buffer("spread", spread.flatten(0, 1), persistent=False)
        self.register_buffer("same", torch.eye(channels), persistent=False)
        if stride == 2:
            self.halve = nn.Parameter((2 * torch.rand(n_out, channels, channels) - 1) * channels**-0.5)
            halves = torch.zeros(channels, len(TAPS))
            halves[: channels // 2, TAPS.index(0)] = halves[channels // 2 :, TAPS.index(1)] = 1
            self.register_buffer("halves", halves, persistent=False)

    def forward(self, state: Tensor, lanes: Lanes, out: Lanes, mixed: Tensor) -> tuple[Tensor, Tensor]:
        """Kernel (n_out · C, rows) and rows (rows, B · L) whose product is what this state adds to later nodes.

        Always in the precision of the lanes: variances are small differences of large moments.
        """
        with torch.autocast(state.device.type, enabled=False):
            return self._folded(state.to(lanes.weight.dtype), lanes, out, mixed)

    def _folded(self, state: Tensor, lanes: Lanes, out: Lanes, mixed: Tensor) -> tuple[Tensor, Tensor]:
        rows, moments, sums, squares = Laid.apply(state, lanes, out, self.stride)  # type: ignore[no-untyped-call]
        second = moments * out.share
        mean = second[-1, :-1]
        spread = torch.addr(second[:-1, :-1], mean, mean, alpha=-1)
        _, skip, pools, convolutions = torch.split(mixed, PARTS, 1)
        kernels = (self.spread @ self.kernel).view(self.n_out, self.channels, len(CONVOLUTIONS), len(TAPS), -1)
        if self.stride == 2:
            halve = self.halve[:, :, None, None, :] * self.halves[None, :, None, :, None]
            kernels = torch.cat([kernels, halve], 2)
            convolutions = torch.cat([convolutions, skip], 1)
        kernels = kernels.flatten(3)  # (n_out, C, ops, 7 C)
        flat = kernels.flatten(0, 2)
        variance = torch.linalg.vecdot(flat @ spread, flat).clamp_min(0).view(kernels.shape[:3])
        scale = convolutions[:, None, :] * (variance + EPSILON).rsqrt()
        folded = (scale[:, :, None, :] @ kernels)[:, :, 0]
        middle = sums.view(2, -1) * out.share
        deviation = (squares.view(2, -1) * out.share - middle.square() + EPSILON).rsqrt()
        pooled = pools[:, :, None] * deviation  # (n_out, 2, C)
        shift = -(folded @ mean) - (pooled * middle).sum(1)
        parts = [folded, shift[:, :, None], torch.diag_embed(pooled).transpose(1, 2).flatten(2)]
        if self.stride == 1:
            parts.append(skip[:, :, None] * self.same)
        return torch.cat(parts, 2).flatten(0, 1), rows
