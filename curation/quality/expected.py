"""What labels are confused with, by adding up how probably each of them is wrong.

The confident joint (`noise`) counts a row for each label that the model is confident of another class for. A model that
errs more often than sellers do makes it say far too much: 34 % on real ads with 8 % of added noise, where these sums say
12 %; per category they are off by 0.05 on average, the joint by 0.28 (`tests/benchmarks/label_issues.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from curation.quality.metrics import Estimate, share
from curation.quality.noise import MIN_CONFIDENT, NotEstimable

MIN_LABELS = MIN_CONFIDENT
"""Labels a category needs before its rate is stated."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Listings of one category that belong in another."""

    given: int  #: class index
    suggested: int  #: class index
    n_wrong: float  #: expected number of such labels
    rate: Estimate | None  #: of the labels `given`; None where that category is not estimable


@dataclass(frozen=True, slots=True)
class ExpectedNoise:
    """Expected wrong labels of K given categories, and where they belong; sparse in the pairs."""

    n_labels: NDArray[np.int64]  #: (K,) labelled rows
    n_wrong: Floats  #: (K,) expected wrong labels among them
    keys: NDArray[np.int64]  #: (M,) given * K + suggested, rising
    mass: Floats  #: (M,) expected wrong labels of the pair, > 0

    @classmethod
    def of(cls, given: NDArray[np.integer], suggested: NDArray[np.integer], wrong: NDArray[np.floating], n_classes: int) -> Self:
        """`given`: (N,) class indices, -1 = unlabelled; `suggested`: (N,), -1 = nobody knows; `wrong`: (N,) in [0, 1]."""
        rows: NDArray[np.int64] = np.flatnonzero(given >= 0)
        labels, mass = given[rows].astype(np.int64), wrong[rows].astype(np.float64)
        n_wrong = np.bincount(labels, weights=mass, minlength=n_classes).astype(np.float64)
        held = (mass > 0) & (suggested[rows] >= 0)
        keys, at = np.unique(labels[held] * n_classes + suggested[rows][held], return_inverse=True)
        pairs = np.bincount(at, weights=mass[held], minlength=len(keys))
        return cls(np.bincount(labels, minlength=n_classes), n_wrong, keys, pairs.astype(np.float64))

    @property
    def overall(self) -> Estimate | None:
        """Share of all labels that is wrong; None without labels."""
        return _estimate(float(self.n_wrong.sum()), int(self.n_labels.sum()), 1)

    def rate(self, category: int) -> Estimate | None:
        """Share of a category's labels that is wrong, with its interval; None where it is not estimable.

        The interval (Wilson, 1927) covers the chance of the sample, not a model that errs alike for a whole category.
        """
        return _estimate(float(self.n_wrong[category]), int(self.n_labels[category]), MIN_LABELS)

    def why_not(self, category: int) -> NotEstimable | None:
        """Why a category has no rate; None if it has one."""
        if self.n_labels[category] >= MIN_LABELS:
            return None
        return NotEstimable.FEW_LABELS if self.n_labels[category] else NotEstimable.NO_LABELS

    def confusions(self, min_wrong: float = 0.0) -> Iterator[Confusion]:
        """Pairs of at least `min_wrong` expected wrong labels, most of them first."""
        n_classes = len(self.n_labels)
        found = np.flatnonzero(self.mass >= min_wrong)
        for at in found[np.argsort(-self.mass[found], kind="stable")]:
            given, suggested, mass = int(self.keys[at] // n_classes), int(self.keys[at] % n_classes), float(self.mass[at])
            yield Confusion(given, suggested, mass, _estimate(mass, int(self.n_labels[given]), MIN_LABELS))


def _estimate(n_wrong: float, n: int, at_least: int) -> Estimate | None:
    return share(min(max(n_wrong, 0.0), n), n) if n >= at_least else None  # a sum may leave [0, n] by rounding
