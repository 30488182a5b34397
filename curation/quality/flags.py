"""How good a score is at flagging: precision and recall past a score, average precision, with intervals; whom rows stand for."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.errors import InputError, ProbabilityError
from curation.quality.metrics import Estimate, average_precision
from curation.quality.thresholds import exact

N_DRAWS = 500
DRAWN_AT_ONCE = 2_000_000
"""Counts of the bootstrap held at once: 16 MB."""

FIXED = 0.9
"""The score past which models are compared; it promises nothing."""

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of N rows, one of a near-duplicate group. Estimates of nothing are NaN in [0, 1]."""

    n: int
    n_positive: int
    average_precision: Estimate  #: bootstrap interval
    precision: Estimate  #: of scores from 0.9 on; exact interval, as of all that follow
    recall: Estimate
    certified_precision: Estimate  #: of scores from the certified threshold on
    certified_recall: Estimate  #: 0 where nothing is certified


def figures(scores: Floats, truth: Bools, threshold: float, *, rng: np.random.Generator) -> Figures:
    """All figures of scores (N,) in [0, 1] for truth (N,); `threshold` = inf flags nothing. Raises ProbabilityError on NaN."""
    if scores.shape != truth.shape or scores.ndim != 1:
        raise InputError(f"scores and truth must be of one length, got {scores.shape} and {truth.shape}")
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        raise ProbabilityError(f"{bad.size} of {len(scores)} scores are not finite, first rows {bad[:10].tolist()}; score again")
    n_positive = int(truth.sum())
    past = [(int(truth[scores >= value].sum()), int((scores >= value).sum())) for value in (FIXED, threshold)]
    (k, n_flagged), (k_certified, n_certified) = past
    return Figures(
        n=len(scores),
        n_positive=n_positive,
        average_precision=_average_precision(scores, truth, rng),
        precision=exact(k, n_flagged),
        recall=exact(k, n_positive),
        certified_precision=exact(k_certified, n_certified),
        certified_recall=exact(k_certified, n_positive),
    )


@dataclass(frozen=True, slots=True)
class Compared:
    """Average precision of two scores on the same N rows, one of a near-duplicate group, with bootstrap intervals."""

    ours: Estimate
    theirs: Estimate
    difference: Estimate  #: ours minus theirs, paired


def compare(ours: Floats, theirs: Floats, truth: Bools, *, rng: np.random.Generator) -> Compared:
    """Of finite scores (N,) and truth (N,). Raises ProbabilityError on NaN, InputError on lengths that differ or no positive."""
    if not ours.shape == theirs.shape == truth.shape or ours.ndim != 1 or not truth.any():
        raise InputError(f"two scores and truth of one length with a positive are needed, got {ours.shape} and {theirs.shape}")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ProbabilityError(f"scores of {len(truth)} rows are not all finite; score again")
    values = [average_precision(truth, scores) for scores in (ours, theirs)]
    orders = [np.argsort(-scores, kind="stable") for scores in (ours, theirs)]
    blocks = [
        np.stack([_drawn(scores, truth, counts[:, order]) for scores, order in zip((ours, theirs), orders, strict=True)])
        for counts in _counts(len(truth), rng)
    ]
    mine, other = np.hstack(blocks)
    pairs = ((values[0], mine), (values[1], other), (values[0] - values[1], mine - other))
    return Compared(*(_estimate(value, draws, len(truth)) for value, draws in pairs))


def stand_for(scores: Floats, asked: Bools, reported: Bools, n_head: int) -> tuple[NDArray[np.int64], Floats]:
    """Rows (A,) of the `n_head` highest scores that moderators were asked about, and how many listings each stands for (A,).

    scores, asked, reported : (N,) of all listings, those nobody was asked about too. Moderators see reported listings and high
    scores first, so that what they saw is right more often than what is flagged. Listings at least as high as the lowest of
    the head fall into four cells, reported or not, upper or lower half; a row stands for its cell's listings by its cell's
    rows. A cell in which nobody was asked counts with the other cell of its half. No answer has a part in this.
    """
    if not scores.shape == asked.shape == reported.shape or not asked.any():
        raise InputError(f"scores, asked and reported of one length are needed, and somebody asked; got {scores.shape}")
    highest = np.sort(scores[asked])[::-1][: max(1, n_head)]
    head = np.flatnonzero(scores >= highest[-1])
    is_asked = asked[head]
    cell = 2 * (scores[head] >= np.median(highest)) + reported[head]
    empty = np.bincount(cell[is_asked], minlength=4) == 0
    cell = np.where(empty[cell], cell ^ 1, cell)
    weight = np.bincount(cell, minlength=4) / np.maximum(np.bincount(cell[is_asked], minlength=4), 1)
    return head[is_asked], weight[cell[is_asked]]


def _average_precision(scores: Floats, truth: Bools, rng: np.random.Generator) -> Estimate:
    """With the 95 % interval of a bootstrap over rows; draws without a positive are left out."""
    if not truth.any():
        return Estimate(float("nan"), 0.0, 1.0, len(truth))
    draws = np.concatenate([_drawn(scores, truth, counts) for counts in _counts(len(truth), rng)])
    return _estimate(average_precision(truth, scores), draws, len(truth))


def _estimate(value: float, draws: Floats, n: int) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, min(float(low), value), max(float(high), value), n)


def _counts(n: int, rng: np.random.Generator) -> Iterator[Floats]:
    """How often each of n rows is drawn (D, n), in blocks that fit into memory; 500 draws in all."""
    for first in range(0, N_DRAWS, block := max(1, DRAWN_AT_ONCE // n)):
        yield rng.multinomial(n, np.full(n, 1 / n), size=min(block, N_DRAWS - first)).astype(np.float64)


def _drawn(scores: Floats, truth: Bools, counts: Floats) -> Floats:
    """Average precision of each draw that has a positive; `counts` (D, n) in descending order of the scores."""
    order = np.argsort(-scores, kind="stable")
    ends = np.searchsorted(-scores[order], -scores[order], side="right") - 1
    right = truth[order].astype(np.float64)
    hits, seen = (counts * right).cumsum(1), counts.cumsum(1)
    share = hits[:, ends] / np.maximum(seen[:, ends], 1)
    total = hits[:, -1]
    found: Floats = ((share * counts * right).sum(1) / np.maximum(total, 1))[total > 0]
    return found
