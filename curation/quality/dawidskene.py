"""Dawid-Skene (1979, Applied Statistics 28(1)): who errs how, and what is true, from votes alone or with a model.

Expectation-maximisation on votes as triples, in logarithms; nothing of the size items × annotators or annotators ×
classes² is built.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.errors import InputError
from curation.quality.crowd import check_sizes, plurality
from curation.quality.validate import UNLABELLED
from curation.quality.votes import Belief, Votes, sums

MIN_SHARED_ITEMS = 30
"""With fewer items that have two votes, an annotator's errors cannot be told from chance: the majority decides."""

MAX_PAIRS = 8_000_000
"""Up to so many pairs of a vote and a class any class that was named at all may be true of an item; beyond, those
voted for on it and the model's first."""

TIE_LEAN = 1e-9
"""Share of a vote that decides ties."""

TOLERANCE = 1e-4
"""Greatest change of a probability in the last round."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of annotators before their votes are seen, as imagined votes.

    For every true class an annotator starts with `strength` votes, spread as all annotators together spread theirs;
    all together start with `common` votes, of which `accuracy` are right and the rest fall evenly on the other classes.
    """

    strength: float = 4.0
    common: float = 4.0
    accuracy: float = 0.7

    def __post_init__(self) -> None:
        if not (self.strength > 0 and self.common > 0 and 0 < self.accuracy < 1):
            raise InputError(f"{self}: strength and common must be above 0, accuracy between 0 and 1")


@dataclass(frozen=True, slots=True)
class DawidSkene:
    """What is true of N items, and how A annotators err. C = the classes that may be true, over all items."""

    consensus: NDArray[np.int64]  #: (N,) class; -1 where nobody voted and there is no model
    confidence: NDArray[np.float64]  #: (N,) its probability; 0 where there is none
    item: NDArray[np.int64]  #: (C,) in order
    label: NDArray[np.int64]  #: (C,)
    prob: NDArray[np.float64]  #: (C,) sums to 1 over an item
    annotator_accuracy: NDArray[np.float64]  #: (A,) expected share of right votes; NaN without votes
    class_prior: NDArray[np.float64]  #: (K,)
    n_rounds: int
    is_converged: bool
    is_fallback: bool  #: True: too few votes, `prob` is the share of votes

    def dense(self) -> NDArray[np.float64]:
        """(N, K) probabilities; a row of zeros where nothing is known."""
        found = np.zeros((len(self.consensus), len(self.class_prior)))
        found[self.item, self.label] = self.prob
        return found


@dataclass(frozen=True, slots=True)
class _Pairs:
    """P pairs of a vote and a class that may be true of its item; equal (annotator, true, said) share a cell."""

    item: NDArray[np.int64]  #: (C,)
    label: NDArray[np.int64]  #: (C,)
    start: NDArray[np.int64]  #: (I,) first row of each item that has rows
    of_item: NDArray[np.int64]  #: (C,) 0..I-1
    vote: NDArray[np.int64]  #: (P,)
    row: NDArray[np.int64]  #: (P,) of C
    cell: NDArray[np.int64]  #: (P,) of the U cells
    person_true: NDArray[np.int64]  #: (U,) index of (annotator, true)
    true_said: NDArray[np.int64]  #: (U,) index of (true, said)
    true: NDArray[np.int64]  #: (W,) true class of each index of (true, said)
    is_right: NDArray[np.bool_]  #: (W,) whether that class was said

    def normalise(self, log_weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """(C,) probabilities over each item."""
        if not len(log_weight):
            return log_weight
        peak = np.maximum.reduceat(log_weight, self.start)[self.of_item]
        weight = np.exp(log_weight - peak)
        return np.asarray(weight / np.add.reduceat(weight, self.start)[self.of_item])


def dawid_skene(votes: Votes, belief: Belief | None = None, *, prior: Prior | None = None, max_rounds: int = 200) -> DawidSkene:
    """Most probable class of each item and the errors of each annotator, by EM from the shares of votes.

    `belief`: out-of-sample probabilities of a model, taken in place of the frequency of the classes: one more
    source that is independent of the annotators given the truth. `prior`: see `Prior`; it is what keeps an annotator with few
    votes near the others, and what makes the classes keep their names. Weights below 1 count for less of a vote.
    Where fewer than MIN_SHARED_ITEMS items have two votes the majority decides (`is_fallback`), ties going to the model or
    the rarer class. Deterministic. If most votes are wrong in the same way nothing in the votes shows it.
    Raises InputError where votes and probabilities are not of the same items and classes.
    """
    if belief is not None:
        check_sizes(votes, belief)
    if (votes.count() > 1).sum() < MIN_SHARED_ITEMS:
        return _majority(votes, belief)
    pairs = _pairs(votes, belief)
    source = None if belief is None else np.log(np.maximum(belief.of(pairs.item, pairs.label), 1e-30))
    return _estimate(votes, pairs, source, prior or Prior(), max_rounds)


def _estimate(votes: Votes, pairs: _Pairs, source: NDArray[np.float64] | None, prior: Prior, max_rounds: int) -> DawidSkene:
    prob = _start(votes, pairs)
    weight, change, n_rounds = votes.weight[pairs.vote], np.inf, 0
    while change > TOLERANCE and n_rounds < max_rounds:
        log_error, log_prior = _maximise(votes, pairs, prob, weight, prior)
        said = np.bincount(pairs.row, weight * log_error[pairs.cell], len(prob))
        found = pairs.normalise(said + (log_prior[pairs.label] if source is None else source))
        change, prob, n_rounds = float(np.abs(found - prob).max(initial=0.0)), found, n_rounds + 1
    return _result(votes, pairs, prob, n_rounds, is_converged=change <= TOLERANCE)


def _maximise(
    votes: Votes, pairs: _Pairs, prob: NDArray[np.float64], weight: NDArray[np.float64], prior: Prior
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithms of each cell's P(said | annotator, true) and of each class's frequency, most probable under the prior."""
    k = votes.n_classes
    counts = np.bincount(pairs.cell, weight * prob[pairs.row], len(pairs.true_said))
    common = np.bincount(pairs.true_said, counts, len(pairs.true))
    imagined = np.where(pairs.is_right, prior.accuracy, (1 - prior.accuracy) / max(k - 1, 1))
    common = (common + prior.common * imagined) / (np.bincount(pairs.true, common, k) + prior.common)[pairs.true]
    total = np.bincount(pairs.person_true, counts)[pairs.person_true]
    error = (counts + prior.strength * common[pairs.true_said]) / (total + prior.strength)
    frequency = np.bincount(pairs.label, prob, k) + 1
    return np.log(np.maximum(error, 1e-300)), np.log(frequency / frequency.sum())


def _pairs(votes: Votes, belief: Belief | None) -> _Pairs:
    item, label, start = _rows(votes, belief)
    k = votes.n_classes
    bounds = np.searchsorted(item, np.arange(votes.n_items + 1))
    n_rows = np.diff(bounds)[votes.item]
    vote = np.repeat(np.arange(len(votes)), n_rows)
    row = np.arange(len(vote)) + np.repeat(bounds[votes.item] - (np.cumsum(n_rows) - n_rows), n_rows)
    person_true = votes.annotator[vote] * k + label[row]
    cells, cell = np.unique(person_true * k + votes.label[vote], return_inverse=True)
    kinds, true_said = np.unique(cells % (k * k), return_inverse=True)
    of_item = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(item))))
    return _Pairs(
        item,
        label,
        start,
        of_item,
        vote,
        row,
        cell,
        np.unique(cells // k, return_inverse=True)[1],
        true_said,
        kinds // k,
        kinds // k == kinds % k,
    )


def _rows(votes: Votes, belief: Belief | None) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Item and class of each class that may be true, in order, and the first row of each item."""
    k = votes.n_classes
    known = np.unique(votes.item) if belief is None else np.arange(votes.n_items)
    top = np.zeros(0, np.int64) if belief is None else belief.top
    named = np.unique(np.concatenate([votes.label, top]))
    if max(len(votes), len(known)) * len(named) <= MAX_PAIRS:
        keys = (known[:, None] * k + named).ravel()
    else:
        keys = np.unique(np.concatenate([votes.item * k + votes.label, known[: len(top)] * k + top]))
    item = keys // k
    return item, keys % k, np.flatnonzero(np.diff(item, prepend=-1))


def _counts(votes: Votes, pairs: _Pairs) -> NDArray[np.float64]:
    """(C,) votes for each class of each item, by weight."""
    same = votes.label[pairs.vote] == pairs.label[pairs.row]
    return sums(pairs.row, votes.weight[pairs.vote] * same, len(pairs.item))


def _start(votes: Votes, pairs: _Pairs) -> NDArray[np.float64]:
    """(C,) shares of votes, with one imagined vote spread over the classes of each item."""
    count = _counts(votes, pairs)
    n = np.add.reduceat(np.ones(len(count)), pairs.start)[pairs.of_item]
    return np.asarray((count + 1 / n) / (np.add.reduceat(count, pairs.start)[pairs.of_item] + 1))


def _majority(votes: Votes, belief: Belief | None) -> DawidSkene:
    """The share of votes as probability; the model's own where nobody voted."""
    pairs, consensus = _pairs(votes, belief), plurality(votes, belief)
    count = _counts(votes, pairs) + TIE_LEAN * (pairs.label == consensus[pairs.item])
    if belief is not None:
        count = np.where(votes.count()[pairs.item] > 0, count, belief.of(pairs.item, pairs.label))
    return _result(votes, pairs, pairs.normalise(np.log(np.maximum(count, 1e-300))), 0, is_converged=True)


def expected_counts(votes: Votes, found: DawidSkene, annotator: int) -> NDArray[np.float64]:
    """(K, K) votes of one annotator by [true, said], the truth as `found` has it; who inverts is strong off the diagonal."""
    mine = np.flatnonzero(votes.annotator == annotator)
    counts = np.zeros((votes.n_classes, votes.n_classes))
    bounds = np.searchsorted(found.item, np.arange(votes.n_items + 1))
    for vote in mine:
        rows = slice(bounds[votes.item[vote]], bounds[votes.item[vote] + 1])
        counts[found.label[rows], votes.label[vote]] += votes.weight[vote] * found.prob[rows]
    return counts


def _result(votes: Votes, pairs: _Pairs, prob: NDArray[np.float64], n_rounds: int, *, is_converged: bool) -> DawidSkene:
    last = np.searchsorted(pairs.of_item, np.arange(len(pairs.start)), side="right") - 1
    best = np.lexsort((-pairs.label, np.round(prob, 12), pairs.of_item))[last]
    consensus, confidence = np.full(votes.n_items, UNLABELLED, dtype=np.int64), np.zeros(votes.n_items)
    consensus[pairs.item[best]], confidence[pairs.item[best]] = pairs.label[best], prob[best]
    frequency = np.bincount(pairs.label, prob, votes.n_classes)
    frequency = frequency / max(frequency.sum(), 1.0)
    accuracy = _accuracy(votes, pairs, prob)
    return DawidSkene(
        consensus,
        confidence,
        pairs.item,
        pairs.label,
        prob,
        accuracy,
        frequency,
        n_rounds,
        is_converged,
        is_fallback=n_rounds == 0,
    )


def _accuracy(votes: Votes, pairs: _Pairs, prob: NDArray[np.float64]) -> NDArray[np.float64]:
    right = votes.label[pairs.vote] == pairs.label[pairs.row]
    found = sums(votes.annotator[pairs.vote], right * votes.weight[pairs.vote] * prob[pairs.row], votes.n_annotators)
    asked = votes.per_annotator(votes.weight)
    return np.asarray(np.divide(found, asked, where=asked > 0, out=np.full(len(asked), np.nan)))
