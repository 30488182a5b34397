"""How branches become one vector: side by side, gated, or by the largest. Each takes (B, n) of every branch, in one order."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Concatenated(nn.Module):
    """The branches side by side, as wide as they are together; nothing is learnt."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.n_out = sum(widths)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts), 1)


class Gated(nn.Module):
    """Sum of tanh(W x) of each branch times a gate that sees all of them (GMU; Arevalo et al., 2017, eq. 1-5, with biases)."""

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.n_out = dim
        self.values = nn.ModuleList([nn.Linear(width, dim) for width in widths])
        self.gates = nn.Linear(sum(widths), dim * len(widths))

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        gates = torch.sigmoid(self.gates(torch.cat(list(parts), 1))).chunk(len(self.values), 1)
        values = [torch.tanh(value(part)) for value, part in zip(self.values, parts, strict=True)]
        return torch.stack([gate * value for gate, value in zip(gates, values, strict=True)]).sum(0)


class Largest(nn.Module):
    """Of each channel the largest among the branches, after a linear layer of each."""

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.n_out = dim
        self.values = nn.ModuleList([nn.Linear(width, dim) for width in widths])

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.stack([value(part) for value, part in zip(self.values, parts, strict=True)]).amax(0)


Fusion = Concatenated | Gated | Largest


def fusion_of(name: str, widths: Sequence[int], dim: int) -> Fusion:
    """The module of `TrainConfig.fusion` for branches of these widths: [(B, width), …] → (B, module.n_out)."""
    if name == "concat":
        return Concatenated(widths)
    return Gated(widths, dim) if name == "gated" else Largest(widths, dim)
