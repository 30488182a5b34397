"""How often sellers pick which wrong category: the noise matrix, from the confident joint.

Row i of the joint counts the confident rows that carry label i by the class they belong to. Its shares estimate
P(true = j | given = i); calibrated to the number of labels of each class they are the joint of Northcutt et al.
(JAIR 2021, equation 3), the same as cleanlab's `compute_confident_joint`. Intervals are Wilson's (1927): they cover
the chance of the sample, not a model that is wrong in the same way for a whole category.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from curation.quality.confident import Confidence
from curation.quality.metrics import share
from curation.quality.pairs import PairCounts, calibrated

MIN_CONFIDENT = 10
"""Confident rows a category needs before its rates are stated: with fewer, a 95 % interval is over half a unit wide."""


class NotEstimable(StrEnum):
    """Why a category has no noise rate."""

    #: no labelled row carries it
    NO_LABELS = "no labels"
    #: fewer than MIN_CONFIDENT labelled rows carry it
    FEW_LABELS = "few labels"
    #: enough rows carry it but the model is confident of fewer than MIN_CONFIDENT of them
    FEW_CONFIDENT = "few confident rows"


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its interval; all of it NaN where it is not estimable."""

    value: float  #: in [0, 1]
    low: float  #: lower bound of the interval
    high: float  #: upper bound


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One category that listings of another should probably be in."""

    category: int  #: class index
    n_confident: int  #: confident rows that were counted there
    n_calibrated: int  #: of all rows with the given label, estimated
    rate: Rate  #: P(true = category | given)


@dataclass(frozen=True, slots=True)
class NoiseMatrix:
    """Of K given categories: how many labels are wrong, and what they should be. NaN = not estimable."""

    joint: PairCounts  #: confident rows by [given, guess]
    calibrated: PairCounts  #: all labelled rows by [given, estimated true], rows sum to the labels of the class
    n_labels: NDArray[np.int64]  #: (K,) labelled rows
    n_confident: NDArray[np.int64]  #: (K,) rows of the joint
    rate: NDArray[np.float64]  #: (K,) share of the labels that is wrong
    low: NDArray[np.float64]  #: (K,) lower bound
    high: NDArray[np.float64]  #: (K,) upper bound
    confidence: float  #: coverage of the intervals, 0.95 by default

    @classmethod
    def of(cls, state: Confidence, confidence: float = 0.95) -> Self:
        """Estimates from the state of confident learning."""
        joint = state.joint
        n_confident = joint.per_given()
        rate, low, high = rates(n_confident - joint.diagonal(), n_confident, confidence)
        for part in (rate, low, high):
            part[n_confident < MIN_CONFIDENT] = np.nan
        return cls(joint, calibrated(joint, state.sums.count), state.sums.count, n_confident, rate, low, high, confidence)

    def why_not(self, category: int) -> NotEstimable | None:
        """Why `rate` of a category is NaN; None if it is not."""
        if self.n_confident[category] >= MIN_CONFIDENT:
            return None
        if self.n_labels[category] >= MIN_CONFIDENT:
            return NotEstimable.FEW_CONFIDENT
        return NotEstimable.FEW_LABELS if self.n_labels[category] else NotEstimable.NO_LABELS

    def suggestions(self, category: int, limit: int = 10) -> tuple[Suggestion, ...]:
        """The categories that listings given `category` should rather be in, most frequent first."""
        row = self.joint.of_given(category)
        other = np.flatnonzero(self.joint.guess[row] != category) + row.start
        other = other[np.argsort(-self.joint.counts[other], kind="stable")][:limit]
        n = np.full(other.size, self.n_confident[category])
        stated = rates(self.joint.counts[other], n, self.confidence).T
        stated[n < MIN_CONFIDENT] = np.nan
        scaled = self.calibrated.get(self.joint.keys[other])
        return tuple(
            Suggestion(int(self.joint.guess[at]), int(self.joint.counts[at]), int(count), Rate(*map(float, rate)))
            for at, count, rate in zip(other, scaled, stated, strict=True)
        )


def rates(n_hits: NDArray[np.integer], n: NDArray[np.integer], confidence: float = 0.95) -> NDArray[np.float64]:
    """(3, K) shares n_hits / n of K categories, lower and upper bounds; NaN where n is 0."""
    found = [share(int(k), int(total), confidence) for k, total in zip(n_hits, n, strict=True)]
    rows = [(one.value, one.low, one.high) if one else (np.nan, np.nan, np.nan) for one in found]
    return np.array(rows, dtype=np.float64).reshape(-1, 3).T
