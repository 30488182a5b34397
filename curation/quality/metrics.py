"""Figures with intervals: accuracy, precision, average precision, certified thresholds, paired differences."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from curation.errors import InputError

N_BOOTSTRAP = 2000
DRAW_BLOCK = 4_000_000
"""Group indices drawn at once: 32 MB."""

MAX_CUTS = 20
"""Cuts a threshold search may try; each costs its share of the allowed error."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, both ends included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval and the number of observations behind it. NaN where n is 0."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where to cut a score. `is_certified`: the lower bound of the precision reaches the target."""

    value: float  #: flag where score >= value; inf = never
    precision: float
    precision_low: float
    recall: float
    n_positive: int
    n_flagged: int
    is_certified: bool


def wilson(k: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share k of n (Wilson 1927), k counted or expected; [0, 1] where n is 0."""
    if not 0 <= k <= n:
        raise InputError(f"a share needs 0 <= k <= n, got {k} of {n}")
    if n == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate, spread = k / n, 1 + z**2 / n
    middle = (rate + z**2 / (2 * n)) / spread
    half = z / spread * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return Interval(max(0.0, min(middle - half, rate)), min(1.0, max(middle + half, rate)))


def exact_lower(k: int, n: int, confidence: float = 0.95) -> float:
    """One-sided exact lower bound of a share k of n (Clopper-Pearson 1934)."""
    if not 0 <= k <= n:
        raise InputError(f"a share needs 0 <= k <= n, got {k} of {n}")
    return 0.0 if k == 0 else float(betaincinv(k, n - k + 1, 1 - confidence))


def share(k: float, n: int, confidence: float = 0.95) -> Estimate | None:
    """`k` of `n` with its Wilson interval, of 95 % if not said otherwise; None where n is 0."""
    interval = wilson(k, n, confidence)
    return Estimate(k / n, interval.low, interval.high, n) if n else None


def accuracy(correct: NDArray[np.bool_]) -> Estimate:
    """Share of True in (N,), with Wilson's interval; NaN in [0, 1] where N is 0."""
    return share(int(np.sum(correct)), len(correct)) or Estimate(float("nan"), 0.0, 1.0, 0)


def average_precision(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Area under precision-recall, in [0, 1]; NaN where nothing is positive."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(truth, scores)) if np.any(truth) else float("nan")


def paired_difference(
    ours: NDArray[np.bool_] | NDArray[np.floating],
    theirs: NDArray[np.bool_] | NDArray[np.floating],
    groups: NDArray[np.str_],
    *,
    rng: np.random.Generator,
    n_draws: int = N_BOOTSTRAP,
) -> Estimate:
    """Mean of `ours` (right or wrong, or any score) minus that of `theirs` on the same rows, with a
    bootstrap interval over whole groups.

    All three are (N,). Near-duplicates share a group and are drawn together, so that they do not
    count as independent evidence.
    """
    if not len(ours) == len(theirs) == len(groups):
        raise InputError(f"paired rows are needed, got {len(ours)}, {len(theirs)} and {len(groups)} groups")
    difference = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    if not len(difference):
        return Estimate(float("nan"), -1.0, 1.0, 0)
    _, group_of = np.unique(np.asarray(groups), return_inverse=True)
    sums, sizes = np.bincount(group_of, weights=difference).astype(np.float64), np.bincount(group_of)
    low, high = np.quantile(_bootstrap_means(sums, sizes, rng, n_draws), [0.025, 0.975])
    return Estimate(float(difference.mean()), float(low), float(high), len(difference))


def _bootstrap_means(
    sums: NDArray[np.float64], sizes: NDArray[np.integer], rng: np.random.Generator, n_draws: int
) -> NDArray[np.float64]:
    """Mean of each draw of as many groups as there are, with replacement; in blocks that fit into memory."""
    n_groups = len(sums)
    block = max(1, DRAW_BLOCK // n_groups)
    means = []
    for first in range(0, n_draws, block):
        drawn = rng.integers(n_groups, size=(min(block, n_draws - first), n_groups))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)


def threshold_for_precision(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], target: float, confidence: float = 0.95
) -> Threshold:
    """The lowest cut whose precision is certified at `target` by an exact binomial bound.

    `scores`, `truth`: (N,), finite scores. Of at most 20 cuts spread evenly over the ranks, the lowest
    whose one-sided lower bound reaches the target is taken; the allowed error is divided over the cuts
    (Bonferroni), so that searching does not break the promise. Where no cut holds, the result flags
    nothing and is not certified.
    """
    if len(scores) != len(truth) or not np.isfinite(scores).all():
        raise InputError(f"{len(scores)} finite scores are needed for {len(truth)} rows of truth; check the model's output")
    order = np.argsort(-np.asarray(scores), kind="stable")
    hits = np.cumsum(np.asarray(truth, dtype=bool)[order])
    n, n_positive = len(order), int(hits[-1]) if len(order) else 0
    best = Threshold(float("inf"), float("nan"), 0.0, 0.0, n_positive, 0, is_certified=False)
    sizes = np.unique(np.linspace(1, n, min(MAX_CUTS, n)).round().astype(int)) if n else np.array([], dtype=int)
    for size in sizes:
        value = float(scores[order[size - 1]])
        n_flagged = int(np.sum(scores >= value))  # ties are cut together
        k = int(hits[n_flagged - 1])
        low = exact_lower(k, n_flagged, 1 - (1 - confidence) / len(sizes))
        if low >= target and n_flagged > best.n_flagged:
            best = Threshold(value, k / n_flagged, low, k / max(1, n_positive), n_positive, n_flagged, is_certified=True)
    return best
