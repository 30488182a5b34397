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

from trainer.cells import AVERAGE, CONVOLUTIONS, MAX, OPERATIONS, SKIP

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

AT = {op: at for at, op in enumerate(OPERATIONS)}
_POOLS = slice(AT[MAX], AT[AVERAGE] + 1)
_CONVOLUTIONS = slice(AT[next(iter(CONVOLUTIONS))], len(OPERATIONS))
"""Slices, for a list of numbers would be copied to an accelerator at every use."""


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


class Normalised(torch.autograd.Function):
    """Mean 0 and variance 1 of each channel over the positions that count."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, n: Tensor) -> Tensor:
        centred = (rows - (rows.sum(1, keepdim=True) / n)) * weight
        deviation = (torch.linalg.vector_norm(centred, dim=1, keepdim=True).square() / n + EPSILON).rsqrt()
        found: Tensor = centred * deviation
        ctx.save_for_backward(found, deviation, weight, n)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        found, deviation, weight, n = ctx.saved_tensors
        grad = grads[0] * weight
        along = torch.linalg.vecdot(grad, found)[:, None] / n
        back = (grad - grad.sum(1, keepdim=True) / n).addcmul_(found, along, value=-1)
        return back.mul_(deviation * weight), None, None


def normalised(rows: Tensor, lanes: Lanes) -> Tensor:
    """(C, B, L) that is 0 where nothing counts → the same with mean 0 and variance 1 of each channel where something does."""
    flat = rows.flatten(1).to(lanes.weight.dtype)
    found: Tensor = Normalised.apply(flat, lanes.weight.flatten(), lanes.n)  # type: ignore[no-untyped-call]
    return found.view(rows.shape)


class Laid(torch.autograd.Function):
    """A state as the rows that every operation is linear in, and their moments.

    (C, B, L) → rows (R, B · L'), second moments of the taps (T, T), sums and sums of squares (2 C,) of the pools. Rows are
    relued taps (7 C), one of ones, maximum (C), mean (C) and, where the length is kept, the state itself (C).
    """

    @staticmethod
    def forward(ctx: Any, state: Tensor, lanes: Lanes, out: Lanes, stride: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        c, length, n_taps = len(state), state.shape[2], len(TAPS) * len(state)
        rows = state.new_empty(n_taps + 1 + (3 if stride == 1 else 2) * c, *out.holds.shape)
        padded = state.new_zeros(c, len(lanes.holds), length + 2 * REACH)
        torch.clamp_min(state, 0, out=padded[:, :, REACH : REACH + length])
        for at, tap in enumerate(TAPS):
            rows[at * c : (at + 1) * c] = padded[:, :, REACH + tap : REACH + tap + length : stride]
        rows[n_taps] = 1
        most, mean = rows[n_taps + 1 :][:c], rows[n_taps + 1 + c :][:c]
        left, middle, right = _neighbours(state, lanes, stride, -torch.inf)
        torch.maximum(torch.maximum(left, middle), right, out=most)
        most.masked_fill_(~out.holds, 0)
        left, middle, right = _neighbours(state, lanes, stride, 0.0)
        torch.add(left, middle, out=mean).add_(right).mul_(lanes.near[:, ::stride])
        if stride == 1:
            rows[-c:] = state
        flat = rows.mul_(out.weight).flatten(1)
        taps, pools = flat[: n_taps + 1], flat[n_taps + 1 :][: 2 * c]
        ctx.save_for_backward(state, flat)
        ctx.about = lanes, out, stride
        return flat, taps @ taps.T, pools.sum(1), torch.linalg.vecdot(pools, pools)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        state, flat = ctx.saved_tensors
        lanes, out, stride = ctx.about
        c, length, n_taps = len(state), state.shape[2], len(TAPS) * len(state)
        grad = grads[0].clone()
        grad[: n_taps + 1].addmm_(grads[1] + grads[1].T, flat[: n_taps + 1])
        grad[n_taps + 1 :][: 2 * c].add_(grads[2][:, None]).addcmul_(flat[n_taps + 1 :][: 2 * c], 2 * grads[3][:, None])
        grad = grad.view(-1, *out.holds.shape).mul_(out.weight)
        padded = state.new_zeros(c, len(lanes.holds), length + 2 * REACH)
        for at, tap in enumerate(TAPS):
            padded[:, :, REACH + tap : REACH + tap + length : stride] += grad[at * c : (at + 1) * c]
        padded[:, :, REACH : REACH + length].mul_(state > 0)
        of_most, of_mean = grad[n_taps + 1 :][:c], grad[n_taps + 1 + c :][:c].mul_(lanes.near[:, ::stride])
        left, middle, right = _neighbours(state, lanes, stride, -torch.inf)
        is_left, is_right = (left >= middle) & (left >= right), (right > middle) & (right > left)
        shares = of_most * is_left, of_most * ~(is_left | is_right), of_most * is_right
        for step, share in zip((-1, 0, 1), shares, strict=True):
            padded[:, :, REACH + step : REACH + step + length : stride] += share.add_(of_mean)
        back = padded[:, :, REACH : REACH + length]
        return back + grad[-c:] if stride == 1 else back, None, None, None


def _neighbours(state: Tensor, lanes: Lanes, stride: int, filler: float) -> tuple[Tensor, Tensor, Tensor]:
    """The positions before, at and after each one, `filler` where nothing counts."""
    length = state.shape[2]
    padded = state.new_full((len(state), len(lanes.holds), length + 2), filler)
    padded[:, :, 1:-1] = state.masked_fill(~lanes.holds, filler) if filler else state
    before, here, after = (padded[:, :, step : step + length : stride] for step in range(3))
    return before, here, after


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
        """Kernel (n_out · C, rows) and rows (rows, B · L) whose product is what this state adds to later nodes.

        Always in the precision of the lanes: variances are small differences of large moments.
        """
        with torch.autocast(state.device.type, enabled=False):
            return self._folded(state.to(lanes.weight.dtype), lanes, out, mixed)

    def _folded(self, state: Tensor, lanes: Lanes, out: Lanes, mixed: Tensor) -> tuple[Tensor, Tensor]:
        rows, moments, sums, squares = Laid.apply(state, lanes, out, self.stride)  # type: ignore[no-untyped-call]
        mean = moments[-1, :-1] / out.n
        spread = moments[:-1, :-1] / out.n - torch.outer(mean, mean)
        kernels, weight = self._kernels(mixed)  # (n_out, C, ops, 7 C), (n_out, ops)
        flat = kernels.flatten(0, 2)
        variance = torch.linalg.vecdot(flat @ spread, flat).clamp_min(0).view(kernels.shape[:3])
        scale = weight[:, None, :] * (variance + EPSILON).rsqrt()
        folded = (scale[:, :, None, :] @ kernels)[:, :, 0]
        middle = sums.view(2, -1) / out.n
        deviation = (squares.view(2, -1) / out.n - middle.square() + EPSILON).rsqrt()
        pooled = mixed[:, _POOLS, None] * deviation  # (n_out, 2, C)
        shift = -(folded @ mean) - (pooled * middle).sum(1)
        parts = [folded, shift[:, :, None], *torch.diag_embed(pooled).unbind(1)]
        if self.stride == 1:
            parts.append(mixed[:, AT[SKIP], None, None] * torch.eye(self.channels, device=mixed.device, dtype=mixed.dtype))
        return torch.cat(parts, 2).flatten(0, 1), rows

    def _kernels(self, mixed: Tensor) -> tuple[Tensor, Tensor]:
        n, c = self.n_out, self.channels
        kernels = (self.kernel @ self.spread).view(n, c, c, len(CONVOLUTIONS), len(TAPS)).permute(0, 1, 3, 4, 2)
        weight = mixed[:, _CONVOLUTIONS]
        if self.stride == 2:
            halve = self.halve[:, :, None, None, :] * self.halves[None, :, None, :, None]
            kernels = torch.cat([kernels, halve], 2)
            weight = torch.cat([weight, mixed[:, AT[SKIP], None]], 1)
        return kernels.flatten(3), weight
