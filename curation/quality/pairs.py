"""Counts of (given label, guess) pairs: a K x K matrix of which only what is not zero exists."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from curation.errors import ProbabilityError


@dataclass(frozen=True, slots=True)
class PairCounts:
    """A sparse K x K matrix of counts, [given, guess]. Adds up and subtracts exactly, in any order."""

    keys: NDArray[np.int64]  #: (M,) given * K + guess, rising
    counts: NDArray[np.int64]  #: (M,) > 0
    n_classes: int  #: K

    @classmethod
    def of(cls, given: NDArray[np.integer], guess: NDArray[np.integer], n_classes: int) -> Self:
        """Counts over rows; a row of which either is negative does not count."""
        both = (given >= 0) & (guess >= 0)
        same = np.bincount(given[both & (given == guess)], minlength=n_classes)
        apart = both & (given != guess)
        keys, counts = np.unique(given[apart].astype(np.int64) * n_classes + guess[apart], return_counts=True)
        held = np.flatnonzero(same)
        return cls(*_sorted(np.concatenate([held * (n_classes + 1), keys]), np.concatenate([same[held], counts])), n_classes)

    def __add__(self, other: "PairCounts") -> "PairCounts":
        return _combined(self, other, 1)

    def __sub__(self, other: "PairCounts") -> "PairCounts":
        """Raises ProbabilityError if pairs are taken away that were never added."""
        return _combined(self, other, -1)

    @property
    def given(self) -> NDArray[np.int64]:
        """(M,) the given class of each pair."""
        return self.keys // self.n_classes

    @property
    def guess(self) -> NDArray[np.int64]:
        """(M,) the class guessed instead, or the same."""
        return self.keys % self.n_classes

    def of_given(self, category: int) -> slice:
        """Where the pairs of one given class lie."""
        bounds = np.searchsorted(self.keys, [category * self.n_classes, (category + 1) * self.n_classes])
        return slice(int(bounds[0]), int(bounds[1]))

    def get(self, keys: NDArray[np.integer]) -> NDArray[np.int64]:
        """Counts of the pairs `keys`, 0 where there is none; shaped like `keys`."""
        if not self.keys.size:
            return np.zeros(keys.shape, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.keys, keys), self.keys.size - 1)
        return np.where(self.keys[at] == keys, self.counts[at], 0)

    def per_given(self) -> NDArray[np.int64]:
        """(K,) counts by given class."""
        return np.bincount(self.given, weights=self.counts, minlength=self.n_classes).astype(np.int64)

    def diagonal(self) -> NDArray[np.int64]:
        """(K,) counts where the guess is the given class."""
        return self.get(np.arange(self.n_classes) * (self.n_classes + 1))

    def dense(self) -> NDArray[np.int64]:
        """(K, K); for small K only."""
        matrix = np.zeros((self.n_classes, self.n_classes), dtype=np.int64)
        matrix[self.given, self.guess] = self.counts
        return matrix


def calibrated(joint: PairCounts, n_labels: NDArray[np.integer]) -> PairCounts:
    """The joint scaled so that row i sums to the labels of class i, in whole counts.

    As in cleanlab (`calibrate_confident_joint`) a class without a confident row of its own counts one on the diagonal
    first. Where remainders are equal the pair with the lower guess gets the count; cleanlab leaves that to its sort.
    """
    bare = np.flatnonzero(joint.diagonal() == 0)
    filled = joint + PairCounts.of(bare, bare, joint.n_classes)
    scaled = filled.counts * (n_labels / filled.per_given())[filled.given]
    counts = rounded_by_group(scaled, filled.given)
    return PairCounts(filled.keys[counts > 0], counts[counts > 0], joint.n_classes)


def rounded_by_group(values: NDArray[np.float64], group: NDArray[np.integer]) -> NDArray[np.int64]:
    """Whole numbers next to `values` whose sums by `group` are the rounded sums: the largest remainders are moved."""
    if not values.size:
        return np.zeros(0, dtype=np.int64)
    whole = np.rint(values)
    missing = np.rint(np.bincount(group, weights=values)) - np.bincount(group, weights=whole)
    sign = np.sign(missing)[group]
    order = np.lexsort((-sign * (values - whole), group))
    in_order = group[order]
    rank = np.arange(order.size) - np.searchsorted(in_order, in_order)
    moved = order[rank < np.abs(missing)[in_order]]
    whole[moved] += sign[moved]
    return whole.astype(np.int64)


def _sorted(keys: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.argsort(keys)
    return keys[order], counts[order]


def _combined(one: PairCounts, other: PairCounts, sign: int) -> PairCounts:
    keys, counts = _sorted(np.concatenate([one.keys, other.keys]), np.concatenate([one.counts, sign * other.counts]))
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    summed = np.add.reduceat(counts, first) if first.size else counts
    if (summed < 0).any():
        raise ProbabilityError(f"{(summed < 0).sum()} pairs of classes would be counted less than never; recompute the state")
    return PairCounts(keys[first][summed > 0], summed[summed > 0], one.n_classes)
