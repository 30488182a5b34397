"""Who said what about which item, as triples, and what a model expects of them.

A table of items × annotators cannot be built where every seller is a source of labels, and a table of
items × classes not where there are thousands of classes; triples and the model's best classes can.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curation.errors import InputError, ProbabilityError
from curation.quality.validate import SUM_TOLERANCE, check_probabilities

TINY = 1e-30
"""Probabilities below are raised to this before a logarithm (`SMALL_CONST` of cleanlab)."""

COARSE = (0.1, 0.2, 0.5, 0.8, 1, 2, 3, 5, 8)
"""Temperatures tried first (those of cleanlab's `find_best_temp_scaler`)."""

FINE = 4
"""Steps between two neighbours of the best coarse temperature."""

CHUNK = 1 << 16
"""Rows whose logarithms are held at a time."""


@dataclass(frozen=True, slots=True)
class Votes:
    """V votes in order of item, label, annotator; one vote per annotator and item. Made by `gather`."""

    item: NDArray[np.int64]  #: (V,) in 0..n_items-1
    annotator: NDArray[np.int64]  #: (V,) in 0..n_annotators-1
    label: NDArray[np.int64]  #: (V,) in 0..n_classes-1
    weight: NDArray[np.float64]  #: (V,) in (0, 1]; 1 = an answer of one's own
    n_items: int
    n_annotators: int
    n_classes: int

    def __len__(self) -> int:
        return len(self.item)

    def count(self) -> NDArray[np.int64]:
        """(N,) votes on each item."""
        return np.bincount(self.item, minlength=self.n_items)

    def per_item(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N,) sum of a value of each vote."""
        return sums(self.item, values, self.n_items)

    def per_annotator(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """(A,) sum of a value of each vote."""
        return sums(self.annotator, values, self.n_annotators)


def gather(
    item: ArrayLike, annotator: ArrayLike, label: ArrayLike, sizes: tuple[int, int, int], weight: ArrayLike | None = None
) -> Votes:
    """Votes of triples, checked. `sizes`: items, annotators, classes.

    `weight`: (V,) in (0, 1], for answers that are worth less, such as a suggestion accepted untouched; 1 if not
    given. Items and annotators without a vote are allowed; no vote at all is too. Raises InputError, with the
    positions of the triples it is about, for indices that are no whole numbers or out of range, for weights outside
    (0, 1] and where somebody voted twice on one item (`newest` says which to keep).
    """
    n_items, n_annotators, n_classes = sizes
    items, people = _indices(item, "item", n_items), _indices(annotator, "annotator", n_annotators)
    labels = _indices(label, "label", n_classes)
    weights = np.ones(len(items)) if weight is None else np.asarray(weight, dtype=np.float64)
    if not len(items) == len(people) == len(labels) == len(weights):
        raise InputError(
            f"{len(items)} items, {len(people)} annotators, {len(labels)} labels, {len(weights)} weights; give one each a vote"
        )
    _refuse(~((weights > 0) & (weights <= 1)), weights, "weights are not in (0, 1]; leave out what should not count")
    twice = ~newest(items, people)
    _refuse(twice, np.stack([items, people], axis=1), "votes repeat an (item, annotator); keep one, see votes.newest")
    order = np.lexsort((people, labels, items))
    return Votes(items[order], people[order], labels[order], weights[order], *sizes)


def gather_table(labels_by_annotator: NDArray[np.floating], n_classes: int) -> Votes:
    """Votes of a (N, A) table of class indices, NaN = not asked: the shape that cleanlab takes."""
    table = np.asarray(labels_by_annotator, dtype=np.float64)
    if table.ndim != 2:
        raise InputError(f"labels_by_annotator has shape {table.shape}; give (items, annotators), NaN = not asked")
    item, annotator = np.nonzero(~np.isnan(table))
    n_items, n_annotators = table.shape
    return gather(item, annotator, table[item, annotator], (n_items, n_annotators, n_classes))


def newest(item: ArrayLike, annotator: ArrayLike) -> NDArray[np.bool_]:
    """(V,) True for the last vote, in the order given, of each annotator on each item."""
    items, people = np.asarray(item), np.asarray(annotator)
    order = np.lexsort((people, items))  # stable
    items, people = items[order], people[order]
    keep = np.ones(len(items), dtype=bool)
    keep[order[:-1]] = (items[1:] != items[:-1]) | (people[1:] != people[:-1])
    return keep


@dataclass(frozen=True, slots=True)
class Expected:
    """What a model expects: of V votes and of N items."""

    voted: NDArray[np.float64]  #: (V,) probability of the class of each vote
    top: NDArray[np.int64]  #: (N,) most probable class; the lowest of equals
    top_prob: NDArray[np.float64]  #: (N,) its probability


@dataclass(frozen=True, slots=True)
class Belief:
    """A model's out-of-sample probabilities for N items, dense or the best k classes. Made by `believe`, `believe_top`.

    Each class that was not kept has an equal part of what the kept ones leave.
    """

    probs: NDArray[np.floating]  #: (N, k)
    classes: NDArray[np.integer] | None  #: (N, k) class of each column; None = all classes in order
    rest: NDArray[np.float64]  #: (N,) probability of each class that was not kept
    n_classes: int
    top: NDArray[np.int64]  #: (N,) most probable class; the lowest of equals

    def of(self, item: NDArray[np.integer], label: NDArray[np.integer]) -> NDArray[np.float64]:
        """(P,) probability of each pair of an item and a class."""
        if self.classes is None:
            return np.asarray(self.probs[item, label], dtype=np.float64)
        match = self.classes[item] == label[:, None]
        kept = np.where(match, self.probs[item], 0.0).sum(axis=1, dtype=np.float64)
        return np.where(match.any(axis=1), kept, self.rest[item])

    def expect(self, votes: Votes, temperature: float | None = None) -> Expected:
        """What the model expects of the votes, if asked of p^(1/temperature), normalised: above 1 softer, below 1 sharper."""
        voted = self.of(votes.item, votes.label)
        top_prob = self.of(np.arange(len(self.top)), self.top)
        if temperature is None:
            return Expected(voted, self.top, top_prob)
        (log_sum,) = self._log_sums((temperature,), floor=TINY)
        tempered = np.log(np.maximum(voted, TINY)) / temperature - log_sum[votes.item]
        return Expected(
            np.exp(tempered), self.top, np.asarray(np.exp(np.log(np.maximum(top_prob, TINY)) / temperature - log_sum))
        )

    def best_temperature(self, votes: Votes) -> float:
        """The temperature, 0.1 to 8, at which the model is nearest to the people, by cross-entropy with their shares.

        cleanlab's search (`find_best_temp_scaler`) with votes counted by class, not by order of appearance. 1 where
        there is nothing to compare.
        """
        if self.n_classes == 1 or not len(votes):
            return 1.0
        best = int(np.argmin(self._cross_entropy(votes, COARSE)))
        fine = _around(best)
        return float(fine[int(np.argmin(self._cross_entropy(votes, fine)))])

    def _cross_entropy(self, votes: Votes, temperatures: Sequence[float]) -> list[float]:
        share = votes.weight / votes.per_item(votes.weight)[votes.item]
        voted = _log(self.of(votes.item, votes.label))
        sums = self._log_sums(temperatures, floor=0.0)
        return [
            -float(share @ np.maximum(voted / temperature - log_sum[votes.item], np.log(TINY)))
            for temperature, log_sum in zip(temperatures, sums, strict=True)
        ]

    def _log_sums(self, temperatures: Sequence[float], *, floor: float) -> NDArray[np.float64]:
        """(T, N) logarithm of the sum over classes of p^(1/temperature); p below `floor` counts as `floor`."""
        found = np.empty((len(temperatures), len(self.probs)))
        n_rest = self.n_classes - self.probs.shape[1]
        for start in range(0, len(self.probs), CHUNK):
            rows = slice(start, start + CHUNK)
            logs = _log(np.maximum(self.probs[rows], floor))
            peak = logs.max(axis=1)
            rest = _log(np.maximum(self.rest[rows], floor)) - peak
            logs -= peak[:, None]
            for t, temperature in enumerate(temperatures):
                total = np.exp(logs / temperature).sum(axis=1) + n_rest * np.exp(rest / temperature)
                found[t, rows] = np.log(total) + peak / temperature
        return found


def believe(pred_probs: NDArray[np.floating]) -> Belief:
    """A belief of (N, K) probabilities, rows summing to 1. Raises ProbabilityError where they do not."""
    check_probabilities(pred_probs)
    n, k = pred_probs.shape
    if k == 0:
        raise ProbabilityError(f"pred_probs has shape {pred_probs.shape}; there must be one class at least")
    return Belief(pred_probs, None, np.zeros(n), k, pred_probs.argmax(axis=1))


def believe_top(classes: NDArray[np.integer], probs: NDArray[np.floating], n_classes: int) -> Belief:
    """A belief of the k most probable classes of each item: `classes`, `probs` (N, k), no class twice, sums at most 1.

    Raises ProbabilityError with the rows where that does not hold.
    """
    if classes.ndim != 2 or classes.shape != probs.shape or not 1 <= classes.shape[1] <= n_classes:
        raise ProbabilityError(f"classes {classes.shape} and probs {probs.shape} must both be (N, k) with 1 <= k <= {n_classes}")
    kept = probs.sum(axis=1, dtype=np.float64)
    ordered = np.sort(classes, axis=1)
    _refuse_belief(~np.isfinite(probs).all(axis=1), "hold NaN or infinity")
    _refuse_belief(((probs < 0) | (probs > 1 + SUM_TOLERANCE)).any(axis=1), "hold values outside [0, 1]")
    _refuse_belief((kept == 0) | (kept > 1 + SUM_TOLERANCE), "are all zero or sum to more than 1")
    _refuse_belief((ordered[:, 0] < 0) | (ordered[:, -1] >= n_classes), f"name classes outside 0..{n_classes - 1}")
    _refuse_belief((ordered[:, 1:] == ordered[:, :-1]).any(axis=1), "name a class twice")
    n_rest = n_classes - probs.shape[1]
    if not n_rest:
        _refuse_belief(np.abs(kept - 1) > SUM_TOLERANCE, "hold all classes and do not sum to 1")
    rest = np.maximum(1 - kept, 0) / max(n_rest, 1)
    best = np.where(probs == probs.max(axis=1, keepdims=True), classes, n_classes).min(axis=1)
    return Belief(probs, classes, rest, n_classes, best.astype(np.int64))


def sums(index: NDArray[np.integer], values: NDArray[np.floating], n: int) -> NDArray[np.float64]:
    """(n,) sum of the values at each index."""
    return np.asarray(np.bincount(index, values, n), dtype=np.float64)


def _log(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Logarithm, minus infinity of 0, without a warning."""
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(np.log(values, where=values > 0, out=np.full(values.shape, -np.inf)))


def _around(best: int) -> list[float]:
    """The temperatures between the coarse neighbours of the best one."""
    below: list[float] = np.linspace(COARSE[best - 1], COARSE[best], FINE, endpoint=False).tolist() if best else []
    above: list[float] = np.linspace(COARSE[best], COARSE[best + 1], FINE + 1).tolist() if best + 1 < len(COARSE) else []
    return below + above


def _indices(values: ArrayLike, name: str, size: int) -> NDArray[np.int64]:
    found = np.asarray(values)
    if found.ndim != 1:
        raise InputError(f"{name} has shape {found.shape}; give one index a vote")
    if not found.size:
        return np.zeros(0, dtype=np.int64)
    if not np.issubdtype(found.dtype, np.number) or np.iscomplexobj(found):
        raise InputError(f"{name} holds {found.dtype}; give indices from 0 to {size - 1}")
    whole = np.isfinite(found) & (found == np.floor(found))
    _refuse(~whole, found, f"values of {name} are not whole numbers")
    _refuse((found < 0) | (found >= size), found, f"values of {name} are outside 0..{size - 1}")
    return found.astype(np.int64)


def _refuse(bad: NDArray[np.bool_], values: NDArray[Any], what: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        raise InputError(f"{rows.size} {what}; first votes {rows[:10].tolist()}: {values[rows[:10]].tolist()}")


def _refuse_belief(bad: Any, what: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        raise ProbabilityError(f"{rows.size} rows of the best classes {what}, first rows {rows[:10].tolist()}")
