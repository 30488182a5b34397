"""Confident learning (Northcutt et al., JAIR 2021) on the top-k store: cleanlab's decisions, mergeable and incremental.

A class's threshold is the mean probability of the class over the rows that carry it (equation 2 there). A row is
confident in the classes whose threshold it reaches, and its guess is that class, or the most probable of all if they
are several. The confident joint counts (given label, guess). Sums are whole numbers of 2^-32, so that rows can be added
and taken away in any order and the result is the same to the last bit.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from curation.errors import ProbabilityError
from curation.quality.pairs import PairCounts, calibrated, rounded_by_group
from curation.quality.sparse import TopK, chunks
from curation.quality.validate import UNLABELLED

UNIT = 2.0**-32
"""Of the sums of probabilities: 2^31 rows of one class fit, and 2^18 rows add up exactly in a float64."""

ROWS_PER_EXACT_SUM = 2**18

ROWS_PER_BLOCK = 2**19
"""Rows whose candidates for pruning are sorted at once."""

SLACK = 1e-6
"""How far below a threshold still reaches it, and by how much another class must beat the given one (cleanlab's value)."""

LOWEST_THRESHOLD = 2e-6  #: cleanlab's value

NO_GUESS = -1


@dataclass(frozen=True, slots=True)
class ClassSums:
    """Of each class: how many rows carry it and what the model gives them for it. Adds up and subtracts exactly."""

    total: NDArray[np.int64]  #: (K,) sum of p_given in units of 2^-32
    count: NDArray[np.int64]  #: (K,) rows

    @classmethod
    def of(cls, store: TopK) -> Self:
        """Sums over the labelled rows of `store`."""
        total = np.zeros(store.n_classes, dtype=np.int64)
        count = np.zeros(store.n_classes, dtype=np.int64)
        for start in range(0, len(store), ROWS_PER_EXACT_SUM):
            rows = slice(start, start + ROWS_PER_EXACT_SUM)
            named = store.labels[rows] != UNLABELLED
            labels = store.labels[rows][named]
            units = np.rint(store.p_given[rows][named].astype(np.float64) / UNIT)
            total += np.bincount(labels, weights=units, minlength=store.n_classes).astype(np.int64)
            count += np.bincount(labels, minlength=store.n_classes)
        return cls(total, count)

    def __add__(self, other: "ClassSums") -> "ClassSums":
        return ClassSums(self.total + other.total, self.count + other.count)

    def __sub__(self, other: "ClassSums") -> "ClassSums":
        """Raises ProbabilityError if rows are taken away that were never added."""
        count = self.count - other.count
        if (count < 0).any():
            raise ProbabilityError(f"class {int(count.argmin())} would be left with {count.min()} rows; recompute the state")
        return ClassSums(self.total - other.total, count)

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """(K,) mean probability of the class over its rows; infinite for a class that no row carries."""
        mean = self.total * UNIT / np.maximum(self.count, 1)
        return np.where(self.count > 0, np.maximum(mean, LOWEST_THRESHOLD), np.inf)


@dataclass(frozen=True, slots=True)
class Confidence:
    """What confident learning knows of the rows of one store."""

    sums: ClassSums
    guess: NDArray[np.int32]  #: (N,) the class a row confidently belongs to, -1 = it is confident in none
    joint: PairCounts  #: rows by (given label, guess); unlabelled rows and rows without a guess are left out

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """(K,) what a row's probability must reach, less SLACK, to be confident; infinite for a class without rows."""
        return self.sums.thresholds


def estimate(store: TopK) -> Confidence:
    """Thresholds, guesses and the confident joint of all rows; two passes, K^2 is never allocated.

    Raises ProbabilityError if a row cannot be one of probabilities.
    """
    store.check()
    sums = ClassSums.of(store)
    guess = _guesses(store, sums)
    return Confidence(sums, guess, PairCounts.of(store.labels, guess, store.n_classes))


def refresh(state: Confidence, store: TopK, rows: NDArray[np.integer], new: TopK) -> Confidence:
    """`estimate` after `new` has been written to `rows` of `store`, equal to the last bit, without its sorting.

    Sums and joint are changed by the difference only. A changed threshold can turn any row, so all guesses are tested
    again: at 40 ns a row (8.5M rows of Zipf classes) that pass needs no index of the entries near each threshold,
    which would cost as much memory as the store. A listing that went away is written with the label -1; rows that were
    appended to the store since `state` was made must be among `rows`. Raises ProbabilityError if `rows` repeat, lie
    outside the store or do not fit `new`; nothing is written then.
    """
    rows = _distinct(rows, len(store), len(new))
    store.check_fits(new)
    new.check()
    known, before = rows[rows < len(state.guess)], _extended(state.guess, len(store), rows)
    labels = store.labels[rows]
    sums = state.sums - ClassSums.of(store.take(known)) + ClassSums.of(new)
    store.write(rows, new)
    guess = _guesses(store, sums)
    turned = np.setdiff1d(np.flatnonzero(guess != before), rows, assume_unique=True)
    moved = np.concatenate([rows, turned])
    gone = PairCounts.of(np.concatenate([labels, store.labels[turned]]), before[moved], store.n_classes)
    come = PairCounts.of(store.labels[moved], guess[moved], store.n_classes)
    return Confidence(sums, guess, state.joint - gone + come)


def confident_learning(store: TopK, state: Confidence) -> NDArray[np.bool_]:
    """(N,) rows off the diagonal of the confident joint, cleanlab's `filter_by="confident_learning"`.

    Rows whose given label is the most probable class, give or take SLACK, are left out, as there.
    """
    flagged = np.zeros(len(store), dtype=np.bool_)
    for rows in chunks(len(store), 16 * store.k):
        part, guess = store.take(rows), state.guess[rows]
        off = (part.labels != UNLABELLED) & (guess != NO_GUESS) & (guess != part.labels)
        flagged[rows] = off & (part.best_other()[1] > part.p_given + np.float32(SLACK))
    return flagged


def low_self_confidence(store: TopK, state: Confidence) -> NDArray[np.bool_]:
    """(N,) as many rows as `confident_learning` flags, those with the least probability of the given label.

    Of equal rows the first ones. cleanlab's `filter_by="low_self_confidence"`.
    """
    flagged = np.zeros(len(store), dtype=np.bool_)
    scores = np.where(store.labels == UNLABELLED, np.float32(np.inf), store.p_given)
    flagged[lowest(scores, int(confident_learning(store, state).sum()))] = True
    return flagged


def prune_by_noise_rate(store: TopK, state: Confidence) -> NDArray[np.bool_]:
    """(N,) for each pair of classes, as many rows as the calibrated joint holds, by falling p_other - p_given.

    cleanlab's default filter, approximated: rows whose other class is not among their k, or is less probable than
    the given label, are not reached.
    """
    counts = _prune_counts(state)
    flagged = np.zeros(len(store), dtype=np.bool_)
    for first, last in _blocks(state.sums.count):
        rows = np.flatnonzero((store.labels >= first) & (store.labels < last))
        flagged[rows[_most_doubtful(store.take(rows), counts)]] = True
    return flagged


def lowest(scores: NDArray[np.floating], n: int) -> NDArray[np.int64]:
    """Positions of the `n` smallest of `scores`, of equal ones the first, in rising position."""
    if not 0 < n < len(scores):
        return np.arange(max(0, min(n, len(scores))))
    bound = np.partition(scores, n - 1)[n - 1]
    below, equal = np.flatnonzero(scores < bound), np.flatnonzero(scores == bound)
    return np.sort(np.concatenate([below, equal[: n - below.size]]))


def undecided(store: TopK, state: Confidence) -> NDArray[np.int64]:
    """Rows whose guess from all K probabilities could differ: elsewhere the store decides as dense data would.

    A class outside the top-k has at most the last kept probability, and at most what the row leaves over. It matters
    only if that reaches its threshold, and only where the most probable class is not confident and no two classes are.
    """
    cut = _cut(state.sums)
    found = [rows.start + _open_rows(store.take(rows), cut) for rows in chunks(len(store), 16 * store.k)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


def _prune_counts(state: Confidence) -> PairCounts:
    """The calibrated joint off the diagonal, one row of each class kept (cleanlab's `_keep_at_least_n_per_class`)."""
    joint = calibrated(state.joint, state.sums.count)
    off = (joint.given != joint.guess) & (state.sums.count[joint.given] > 1)
    given, guess = joint.given[off], joint.guess[off]
    kept = joint.diagonal()
    n_pairs = np.bincount(given, minlength=joint.n_classes)
    spared = np.maximum(1 - kept, 0) / np.maximum(n_pairs + (kept > 0) - 1, 1)
    counts = rounded_by_group(np.maximum(joint.counts[off] - spared[given], 0.0), guess)
    return PairCounts(joint.keys[off][counts > 0], counts[counts > 0], joint.n_classes)


def _blocks(count: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ranges of classes that together have about ROWS_PER_BLOCK rows, or more where one class has."""
    block = np.cumsum(count) // ROWS_PER_BLOCK
    bounds = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(count)]
    return list(pairwise(bounds))


def _most_doubtful(part: TopK, counts: PairCounts) -> NDArray[np.int64]:
    """Rows by pair (given label, more probable class), as many of each as `counts` holds, by falling margin."""
    margins = part.p - part.p_given[:, None]
    row, column = np.nonzero(margins > SLACK)
    key = part.labels[row].astype(np.int64) * part.n_classes + part.idx[row, column]
    allowed = counts.get(key)
    wanted = np.flatnonzero(allowed)
    row, key, allowed, margin = row[wanted], key[wanted], allowed[wanted], margins[row[wanted], column[wanted]]
    order = np.lexsort((-margin, key))
    in_order = key[order]
    rank = np.arange(order.size) - np.searchsorted(in_order, in_order)
    return np.asarray(row[order[rank < allowed[order]]], dtype=np.int64)


def _cut(sums: ClassSums) -> NDArray[np.float32]:
    return (sums.thresholds - SLACK).astype(np.float32)


def _guesses(store: TopK, sums: ClassSums) -> NDArray[np.int32]:
    cut = _cut(sums)
    guess = np.empty(len(store), dtype=np.int32)
    for rows in chunks(len(store), 16 * store.k):
        guess[rows] = _guess(store.take(rows), cut)[0]
    return guess


def _guess(part: TopK, cut: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Guess of each row; the rows whose most probable class is not confident, and how many others are in those.

    Where the most probable class is confident it is the guess, whatever the others are.
    """
    best = part.idx[:, 0].astype(np.int32)
    sure = part.p[:, 0] >= cut[best]
    guess = np.where(sure, best, np.int32(NO_GUESS))
    rest = np.flatnonzero(~sure)
    idx, labels = part.idx[rest], part.labels[rest]
    passing = part.p[rest] >= cut[idx]
    outside = (labels != UNLABELLED) & (part.p_given[rest] >= cut[labels])
    outside[outside] = (idx[outside] != labels[outside, None]).all(axis=1)
    n_confident = passing.sum(axis=1) + outside
    only = np.where(outside, labels, idx[np.arange(rest.size), passing.argmax(axis=1)].astype(np.int32))
    guess[rest] = np.where(n_confident == 1, only, np.where(n_confident > 1, best[rest], np.int32(NO_GUESS)))
    return guess, rest, n_confident


def _open_rows(part: TopK, cut: NDArray[np.float32]) -> NDArray[np.int64]:
    if part.k == part.n_classes:
        return np.zeros(0, dtype=np.int64)
    _, rest, n_confident = _guess(part, cut)
    rest = rest[n_confident < 2]
    inside = (part.idx[rest] == part.labels[rest, None]).any(axis=1)
    left = 1 - part.p[rest].sum(axis=1, dtype=np.float64) - np.where(inside, 0, part.p_given[rest])
    bound = np.minimum(part.p[rest, -1], left + SLACK)
    by_cut: NDArray[np.int64] = np.argsort(cut, kind="stable")
    rest, bound = rest[bound >= cut[by_cut[0]]], bound[bound >= cut[by_cut[0]]]
    lowest_outside = np.full(rest.size, np.inf)
    unknown = np.arange(rest.size)
    for category in by_cut[: part.k + 2]:
        held = (part.idx[rest[unknown]] == category).any(axis=1) | (part.labels[rest[unknown]] == category)
        lowest_outside[unknown[~held]] = cut[category]
        unknown = unknown[held]
    return np.asarray(rest[bound >= lowest_outside], dtype=np.int64)


def _extended(guess: NDArray[np.int32], n: int, rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """`guess` with no guess for the appended rows, all of which must be among `rows`."""
    appended = np.arange(len(guess), n)
    if len(guess) > n or not np.isin(appended, rows).all():
        raise ProbabilityError(
            f"the state is of {len(guess)} rows, the store has {n}: all appended ones must be among the changed, and none may go"
        )
    return np.concatenate([guess, np.full(appended.size, NO_GUESS, dtype=np.int32)])


def _distinct(rows: NDArray[np.integer], n: int, n_new: int) -> NDArray[np.int64]:
    named: NDArray[np.int64] = rows.astype(np.int64)
    if named.shape != (n_new,):
        raise ProbabilityError(f"rows have shape {named.shape} for {n_new} new ones; name one each")
    if named.size and (named.min() < 0 or named.max() >= n):
        raise ProbabilityError(f"rows {named.min()}..{named.max()} are named of a store of {n}; rows are counted from 0")
    if np.unique(named).size != named.size:
        raise ProbabilityError(f"{named.size} rows are named but only {np.unique(named).size} are distinct; name each once")
    return named
