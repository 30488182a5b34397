"""How sharp the minimum is that a search is in: the largest eigenvalue of the Hessian of its loss.

Architectures from sharp minima lose much when their weights are made discrete (Zela et al., Understanding and Robustifying
Differentiable Architecture Search, ICLR 2020, section 3); the search is stopped before the eigenvalue has risen much.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

N_PRODUCTS = 8
"""Lanczos steps: products of the Hessian with a vector, two gradients each."""

DISTANCE = 1e-2
"""Length of the step over which gradients are compared, in the units of the parameters."""


def largest_eigenvalue(
    gradients: Callable[[], Sequence[Tensor]],
    parameters: Sequence[Tensor],
    rng: np.random.Generator,
    n_products: int = N_PRODUCTS,
) -> float:
    """Largest eigenvalue of the Hessian in these parameters, which are left as they were.

    `gradients` computes those of the loss at the parameters' current values. Lanczos' method (Golub and Van Loan, Matrix
    Computations, section 10.1) on central differences of gradients: as good as power iteration of the square of its steps.
    """
    kept = [value.detach().clone() for value in parameters]

    def product(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        ends = []
        for side in (DISTANCE, -DISTANCE):
            _place(parameters, kept, side * vector)
            ends.append(_flat(gradients()))
        return (ends[0] - ends[1]) / (2 * DISTANCE)

    try:
        return _lanczos(product, rng.normal(size=sum(value.numel() for value in kept)), n_products)
    finally:
        _place(parameters, kept)


def _lanczos(product: Callable[[NDArray[np.float64]], NDArray[np.float64]], start: NDArray[np.float64], n: int) -> float:
    """Largest eigenvalue of a symmetric operator on the space that its powers make of the start."""
    basis = [start / np.linalg.norm(start)]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(n, len(start))):
        new = product(basis[-1])
        diagonal.append(float(basis[-1] @ new))
        for vector in (*basis, *basis):
            new = new - (vector @ new) * vector
        beside.append(float(np.linalg.norm(new)))
        if beside[-1] <= 1e-9 * max(map(abs, diagonal)):
            break
        basis.append(new / beside[-1])
    off = np.diag(beside[: len(diagonal) - 1], 1)
    return float(np.linalg.eigvalsh(np.diag(diagonal) + off + off.T)[-1])


def _flat(tensors: Sequence[Tensor]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = torch.cat([value.detach().flatten().double() for value in tensors]).cpu().numpy()
    return found


@torch.no_grad()
def _place(parameters: Sequence[Tensor], kept: Sequence[Tensor], along: NDArray[np.float64] | None = None) -> None:
    """Set the parameters to what was kept, moved along a vector."""
    first = 0
    for value, before in zip(parameters, kept, strict=True):
        value.copy_(before)
        if along is not None:
            part = torch.from_numpy(along[first : first + value.numel()]).view(value.shape)
            value.add_(part.to(value.device, value.dtype))
        first += value.numel()


def is_rising(eigenvalues: Sequence[float], least_ratio: float, window: int) -> bool:
    """Whether the mean of the last `window` values has risen: that of `window` values earlier is below its `least_ratio`.

    Zela et al., section 5: a window of 5 epochs and a ratio of 0.75. False until there are enough values.
    """
    if len(eigenvalues) < 2 * window:
        return False
    before, now = np.mean(eigenvalues[-2 * window : -window]), np.mean(eigenvalues[-window:])
    return bool(now > 0 and before < least_ratio * now)
