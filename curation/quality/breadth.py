"""Broad categories: which ones a model is unsure of, which two it cannot tell apart, which one is several.

A category that misleads sellers shows as high entropy of the out-of-sample predictions of its listings.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from curation.errors import InputError
from curation.quality.metrics import Estimate, share
from curation.quality.validate import UNLABELLED, OutOfSample, check

MIN_LISTINGS = 20
"""A category with fewer predicted listings is not estimable: its shares would be known to ±20 points at best."""

BROAD = 1.0
"""A category is broad where the lower end of its mean entropy lies this many robust deviations (1.4826 · MAD, Hampel 1974)
above what categories of its size have: small ones are always less sure."""

MIN_COMPARED = 5
"""With fewer estimable categories there is no usual entropy to compare with."""

MIN_SPREAD = 0.5
"""Where the largest category is not 1.6 times the smallest one, size explains nothing."""

BLOCK = 4_000_000
"""Probabilities worked on at once: 32 MB."""

Z = 1.96


@dataclass(frozen=True, slots=True)
class Category:
    """What the model makes of the listings that bear one label. Figures are None where the category is too thin."""

    index: int  #: column of the probabilities
    n: int  #: listings that bear the label and were predicted
    entropy: Estimate | None = None  #: mean entropy of a listing's prediction, nats divided by ln K: [0, 1]
    effective: Estimate | None = None  #: exp of the mean entropy, effective number of classes a listing could be: [1, K]
    n_groups: float | None = None  #: effective number of classes its listings are put into, each into one: [1, K]
    elsewhere: Estimate | None = None  #: share whose most likely class is another one
    noise: Estimate | None = None  #: share of wrong labels among those that no moderator decided, by confident learning
    is_broad: bool = False


@dataclass(frozen=True, slots=True)
class Breadth:
    """Every class of the model, in column order, and where listings of each are put."""

    categories: tuple[Category, ...]
    best: NDArray[np.int64]  #: (N,) most likely class of each row
    crossings: NDArray[np.int64]  #: (P, 3) label, the class its listings are put into instead, how many; by label, many first
    noise: float  #: of the median category; NaN where none can be estimated

    @property
    def estimable(self) -> tuple[Category, ...]:
        """The categories with enough listings."""
        return tuple(one for one in self.categories if one.entropy is not None)


@dataclass(slots=True)
class _Sums:
    """Per class, summed over the rows that bear its label."""

    entropy: NDArray[np.float64]
    squared: NDArray[np.float64]
    wrong: NDArray[np.int64]  #: rows that are confidently another class, no moderator having decided
    judged: NDArray[np.int64]  #: rows that no moderator decided


def measure(
    labels: NDArray[np.integer],
    oos: OutOfSample,
    *,
    verified: NDArray[np.bool_] | None = None,
    min_listings: int = MIN_LISTINGS,
) -> Breadth:
    """Breadth of each class from (N, K) out-of-sample probabilities and (N,) labels, -1 = unlabelled.

    `verified`: (N,) rows that moderators decided; they count everywhere but in the noise.

    The entropy of thousands of classes says little on its own; its exponential is the number of equally likely
    classes that would be as uncertain (Hill number of order 1: Hill 1973; Jost 2006). The same of the classes that the
    listings are put into, `n_groups`, says into how many groups the category falls.

    `noise` counts the rows that confident learning takes for another class (Northcutt et al., 2021, eq. 1-2: they reach its
    threshold, the mean probability of its own listings) where it is also the likelier one, among all that no moderator
    decided. Its interval is that of the count and knows nothing of the model's own errors; the audit sample does.
    Raises ProbabilityError on what no method may be run on.
    """
    check(oos, labels)
    settled = np.zeros(len(labels), dtype=bool) if verified is None else np.asarray(verified, dtype=bool)
    if settled.shape != labels.shape:
        raise InputError(f"verified has shape {settled.shape}, labels {labels.shape}; both need the same rows")
    n_classes = len(oos.classes)
    counts = np.bincount(labels[labels != UNLABELLED], minlength=n_classes)
    best = np.zeros(len(labels), dtype=np.int64)
    sums = _sums(labels, oos.pred_probs, settled, counts, best)
    crossings = _crossings(labels, best, n_classes)
    ways = by_label(crossings[:, 0], n_classes)
    found = [
        _category(k, int(counts[k]), crossings[ways[k], 2], sums, n_classes)
        if counts[k] >= min_listings
        else Category(k, int(counts[k]))
        for k in range(n_classes)
    ]
    rates = [one.noise.value for one in found if one.noise is not None]
    return Breadth(_marked(found), best, crossings, float(np.median(rates)) if rates else float("nan"))


def _blocks(n: int, n_classes: int) -> Iterator[slice]:
    step = max(1, BLOCK // max(1, n_classes))
    return (slice(first, first + step) for first in range(0, n, step))


def _sums(
    labels: NDArray[np.integer],
    pred_probs: NDArray[np.floating],
    settled: NDArray[np.bool_],
    counts: NDArray[np.integer],
    best: NDArray[np.int64],
) -> _Sums:
    """The sums of all classes in two passes; `best` is filled with each row's most likely class."""
    n_classes = pred_probs.shape[1]
    thresholds = _thresholds(labels, pred_probs, counts)
    sums = _Sums(np.zeros(n_classes), np.zeros(n_classes), np.zeros(n_classes, np.int64), np.zeros(n_classes, np.int64))
    for rows in _blocks(len(labels), n_classes):
        probs = np.asarray(pred_probs[rows], dtype=np.float64)
        best[rows] = probs.argmax(axis=1)
        own, labelled = labels[rows], labels[rows] != UNLABELLED
        entropy = -xlogy(probs, probs).sum(axis=1)
        sums.entropy += np.bincount(own[labelled], weights=entropy[labelled], minlength=n_classes)
        sums.squared += np.bincount(own[labelled], weights=entropy[labelled] ** 2, minlength=n_classes)
        judged = labelled & ~settled[rows]
        wrong = judged & (best[rows] != own) & _confidently_other(probs, own, thresholds)
        sums.judged += np.bincount(own[judged], minlength=n_classes)
        sums.wrong += np.bincount(own[wrong], minlength=n_classes)
    return sums


def _thresholds(
    labels: NDArray[np.integer], pred_probs: NDArray[np.floating], counts: NDArray[np.integer]
) -> NDArray[np.float64]:
    """(K,) mean probability of each class over its own listings; above 1, so never reached, where it has none."""
    rows = np.flatnonzero(labels != UNLABELLED)
    own = np.asarray(pred_probs[rows, labels[rows]], dtype=np.float64)
    sums = np.bincount(labels[rows], weights=own, minlength=pred_probs.shape[1])
    return np.asarray(np.where(counts > 0, sums / np.maximum(1, counts), 2.0), dtype=np.float64)


def _confidently_other(
    probs: NDArray[np.float64], own: NDArray[np.integer], thresholds: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Rows whose most likely class among those whose thresholds they reach is another than their own."""
    reached = np.where(probs >= thresholds - 1e-9, probs, -1.0)
    likely = reached.argmax(axis=1)
    return np.asarray((reached[np.arange(len(probs)), likely] >= 0) & (likely != own))


def _crossings(labels: NDArray[np.integer], best: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    away = (labels != UNLABELLED) & (labels != best)
    codes, counts = np.unique(labels[away].astype(np.int64) * n_classes + best[away], return_counts=True)
    found = np.column_stack([codes // max(1, n_classes), codes % max(1, n_classes), counts]).astype(np.int64)
    return np.asarray(found[np.lexsort((-found[:, 2], found[:, 0]))], dtype=np.int64)


def _category(k: int, n: int, ways: NDArray[np.int64], sums: _Sums, n_classes: int) -> Category:
    mean = float(sums.entropy[k] / n)
    error = math.sqrt(max(0.0, float(sums.squared[k]) / n - mean**2) / max(1, n - 1))
    low, high, most = max(0.0, mean - Z * error), mean + Z * error, math.log(n_classes)
    high = min(most, high)
    scale = 1 / most if n_classes > 1 else 0.0
    into = np.append(ways, n - ways.sum()) / n
    return Category(
        k,
        n,
        entropy=Estimate(mean * scale, low * scale, high * scale, n),
        effective=Estimate(math.exp(mean), math.exp(low), math.exp(high), n),
        n_groups=math.exp(-float(xlogy(into, into).sum())),
        elsewhere=share(int(ways.sum()), n),
        noise=share(int(sums.wrong[k]), int(sums.judged[k])),
    )


def _marked(found: list[Category]) -> tuple[Category, ...]:
    """The categories with `is_broad` set where the lower end of the entropy stands out."""
    thick = [(one.index, one.n, one.entropy) for one in found if one.entropy is not None]
    means, lows = np.array([entropy.value for *_, entropy in thick]), np.array([entropy.low for *_, entropy in thick])
    bound = unusual(means, np.array([n for _, n, _ in thick]), BROAD)
    broad = {k for (k, *_), low, limit in zip(thick, lows, bound, strict=True) if low > limit}
    return tuple(replace(one, is_broad=one.index in broad) for one in found)


def unusual(values: NDArray[np.floating], sizes: NDArray[np.integer], factor: float) -> NDArray[np.float64]:
    """(n,) what a value must exceed to stand out among those of categories of its size (n,), `factor` robust deviations.

    The usual value is a straight line over the logarithm of the size. Infinite with fewer than 5 to compare.
    """
    if len(values) < MIN_COMPARED:
        return np.full(len(values), np.inf)
    logs = np.log(sizes)
    usual = np.polyval(np.polyfit(logs, values, int(np.ptp(logs) > MIN_SPREAD)), logs)
    return np.asarray(usual + factor * 1.4826 * float(np.median(np.abs(values - usual))) + 1e-9, dtype=np.float64)


def by_label(labels: NDArray[np.integer], n_classes: int) -> list[NDArray[np.int64]]:
    """The rows of each class 0 … K-1, in order."""
    order = np.argsort(labels, kind="stable").astype(np.int64)
    return [order[first:last] for first, last in pairwise(np.searchsorted(labels[order], np.arange(n_classes + 1)))]
