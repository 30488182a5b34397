"""What photos add to the violations: weights of their principal components, upon logits that were fitted without them.

Texts come first and photos after, not both at once: where a listing has no photo, or lost it, it is answered as by heads that
never saw one. How much photos count is asked of held-out rows, for each violation apart: most are told by words alone.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from threadpoolctl import threadpool_limits

N_COMPONENTS = 64
MAX_DECOMPOSED = 600
LEAST_OF_LARGEST = 1e-5
"""Of a direction's size beside the largest one's; what is less is rounding."""

STRENGTHS = (30.0, 10.0, 3.0, 1.0)
"""How much weights are held back (the ridge) where photos count, from most to least."""

Floats = NDArray[np.float32]
Exact = NDArray[np.float64]


def added(
    photos: Floats, offset: Floats, present: Floats, weight: Floats, told: NDArray[np.bool_], folds: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Weights (F, V) of photos (N, F; 0 = none) upon held-out logits `offset` (N, V), and what they add to rows held out (N, V).

    present, weight : (N, V). told : (V,) violations that are asked; folds : (N,). Zero where held-out answers are no likelier.
    """
    with threadpool_limits(limits=1):  # or weights would depend on how many threads there are
        return _added(photos, offset, present, weight, told, folds)


def _added(
    photos: Floats, offset: Floats, present: Floats, weight: Floats, told: NDArray[np.bool_], folds: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    directions, shown = _directions(photos), np.abs(photos).sum(1) > 0
    weights, more = np.zeros((photos.shape[1], present.shape[1]), np.float32), np.zeros_like(present)
    for head in np.flatnonzero(told) if directions.size else ():
        rows = np.flatnonzero(shown & (weight[:, head] > 0))
        sign = np.where(present[rows, head] > 0, 1.0, -1.0)
        answers = offset[rows, head].astype(np.float64), sign, weight[rows, head].astype(np.float64)
        seen = (photos[rows] @ directions).astype(np.float64)
        strength, found = _chosen(seen, *answers, folds[rows])
        if strength:
            weights[:, head], more[rows, head] = directions @ _ridge(seen, *answers, strength), found
    return weights, more


def _chosen(seen: Exact, offset: Exact, sign: Exact, weight: Exact, folds: NDArray[np.int64]) -> tuple[float, Exact]:
    """The strength under which held-out answers are likeliest, and what it adds to them; 0 and nothing without photos."""
    best, found = 0.0, np.zeros_like(offset)
    least = _loss(offset, sign, weight)
    for strength in STRENGTHS:
        more = np.zeros_like(offset)
        for fold in np.unique(folds):
            rest = folds != fold
            more[~rest] = seen[~rest] @ _ridge(seen[rest], offset[rest], sign[rest], weight[rest], strength)
        if (loss := _loss(offset + more, sign, weight)) >= least:
            break
        best, found, least = strength, more, loss
    return best, found


def _loss(logits: Exact, sign: Exact, weight: Exact) -> float:
    return float(-(weight * log_expit(sign * logits)).sum())


def _ridge(seen: Exact, offset: Exact, sign: Exact, weight: Exact, strength: float) -> Exact:
    """Logistic regression upon an offset."""

    def objective(weights: Exact) -> tuple[float, Exact]:
        logits = offset + seen @ weights
        slope = seen.T @ (weight * sign * expit(-sign * logits))
        return _loss(logits, sign, weight) + strength / 2 * float(weights @ weights), strength * weights - slope

    found: Exact = minimize(objective, np.zeros(seen.shape[1]), jac=True, method="L-BFGS-B").x
    return found


def _directions(photos: Floats) -> Floats:
    """(F, n) principal directions of some photos, n at most 64, in which they have a root mean square length of 1 together."""
    there = photos[np.abs(photos).sum(1) > 0][:MAX_DECOMPOSED].astype(np.float64)
    if len(there) < 2:
        return np.zeros((photos.shape[1], 0), np.float32)
    sizes, shares = np.linalg.eigh(there @ there.T)  # of photos, which are fewer than features: much quicker than an SVD
    kept = np.flatnonzero(sizes > sizes[-1] * LEAST_OF_LARGEST)[-N_COMPONENTS:]
    directions = there.T @ shares[:, kept] / np.sqrt(sizes[kept])
    found: Floats = (directions / np.sqrt(np.square(there @ directions).sum(1).mean())).astype(np.float32)
    return found
