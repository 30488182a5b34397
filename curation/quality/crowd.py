"""CROWDLAB (Goh et al., 2022, arXiv:2210.06812) on votes as triples: consensus, its quality, annotators' quality.

Equal to cleanlab's `get_label_quality_multiannotator(consensus_method="best_quality")`, whose table of items ×
annotators and item-by-item loops it does without; `docs/cleanlab.md` says where cleanlab itself is wrong.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.errors import InputError
from curation.quality.votes import Belief, Expected, Votes, sums

FLOOR = 1e-6
"""Lowest weight and lowest chance error (`CLIPPING_LOWER_BOUND` of cleanlab)."""

SAME = 1e-12
"""Scores closer than this are equal: their difference is that of the order of summation."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """What V votes of A annotators and a model say together about N items; every quality in [0, 1], 1 = certainly right."""

    consensus: NDArray[np.int64]  #: (N,) class
    quality: NDArray[np.float64]  #: (N,)
    agreement: NDArray[np.float64]  #: (N,) share of the votes behind the consensus; NaN where nobody voted
    vote_quality: NDArray[np.float64]  #: (V,) in the order of the votes
    annotator_quality: NDArray[np.float64]  #: (A,) NaN where nobody else answered what this one did
    annotator_weight: NDArray[np.float64]  #: (A,) in (0, 1]; 1 = as good as never wrong
    n_shared: NDArray[np.int64]  #: (A,) votes on items that others voted on too
    model_weight: float
    temperature: float  #: of the calibration; 1 = none


@dataclass(frozen=True, slots=True)
class _Ballot:
    """The classes that can win an item: those voted for and the model's first. In order of item, class."""

    item: NDArray[np.int64]  #: (C,)
    label: NDArray[np.int64]  #: (C,)
    prob: NDArray[np.float64]  #: (C,) the model's
    start: NDArray[np.int64]  #: (N,) first row of each item
    of_vote: NDArray[np.int64]  #: (V,) row of each vote

    def sum(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """(C,) sum of a value of each vote."""
        return sums(self.of_vote, values, len(self.item))

    def winners(self, *keys: NDArray[np.number]) -> NDArray[np.int64]:
        """(N,) class with the largest first key of each item, equals decided by the next, then by the lower class."""
        order = np.lexsort((-self.label, *keys[::-1], self.item))
        return np.asarray(self.label[order[np.append(self.start[1:], len(order)) - 1]], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Weights:
    """How far the model, each annotator and a vote for the consensus are trusted."""

    model: float
    annotator: NDArray[np.float64]  #: (A,)
    likelihood: float  #: that a vote is for the consensus
    otherwise: float  #: that it is for a given other class


def crowdlab(votes: Votes, belief: Belief, *, calibrate: bool = False, shrink: float = 0.0) -> Crowd:
    """Consensus of votes and out-of-sample probabilities (CROWDLAB, sections 3 and 4).

    `calibrate` fits the temperature of the model to the votes first. `shrink` adds that many imagined votes with
    the average agreement to what an annotator shares with others; 0 is CROWDLAB as published, 2 to 5 suits many annotators
    with few votes. Votes of less weight count less everywhere. An item that nobody voted on gets the model's first
    class with its probability. Ties go to the majority; those of the majority to the more probable, then the rarer class,
    then the better annotators, then the lower index (cleanlab draws lots).
    Raises InputError where sizes differ, where no item has two votes, and for a `shrink` below 0.
    """
    _check(votes, belief, shrink)
    if votes.n_classes == 1:
        return _only_class(votes)
    temperature = belief.best_temperature(votes) if calibrate else 1.0
    expected = belief.expect(votes, temperature if calibrate else None)
    ballot = _ballot(votes, expected)
    majority = _majority(votes, ballot)
    first = _posterior(votes, ballot, _weigh(votes, expected, majority, shrink))
    consensus = _best(ballot, first, majority)
    weights = _weigh(votes, expected, consensus, shrink)
    posterior = np.clip(_posterior(votes, ballot, weights), 0.0, 1.0)
    return _result(votes, ballot, weights, posterior, consensus, temperature)


def plurality(votes: Votes, belief: Belief | None = None) -> NDArray[np.int64]:
    """(N,) class with most votes by weight, ties as `crowdlab` decides them; without votes the model's, or else -1."""
    if belief is None:
        expected = Expected(np.zeros(len(votes)), np.zeros(votes.n_items, np.int64), np.zeros(votes.n_items))
        return np.where(votes.count() > 0, _majority(votes, _ballot(votes, expected)), -1)
    return _majority(votes, _ballot(votes, belief.expect(votes)))


def _ballot(votes: Votes, expected: Expected) -> _Ballot:
    k = votes.n_classes
    keys = np.concatenate([votes.item * k + votes.label, np.arange(votes.n_items) * k + expected.top])
    unique, row = np.unique(keys, return_inverse=True)
    prob = np.empty(len(unique))
    prob[row] = np.concatenate([expected.voted, expected.top_prob])
    item = unique // k
    return _Ballot(item, unique % k, prob, np.searchsorted(item, np.arange(votes.n_items)), row[: len(votes)])


def _majority(votes: Votes, ballot: _Ballot) -> NDArray[np.int64]:
    mass = np.round(ballot.sum(votes.weight), 9)
    frequency = np.bincount(votes.label, minlength=votes.n_classes)[ballot.label]
    plain = ballot.winners(mass, ballot.prob, -frequency)
    is_best = mass == np.maximum.reduceat(mass, ballot.start)[ballot.item]
    is_clear = (np.bincount(ballot.item[is_best], minlength=votes.n_items) == 1)[votes.item] * votes.weight
    asked = votes.per_annotator(is_clear)
    right = votes.per_annotator(is_clear * (votes.label == plain[votes.item]))
    skill = np.divide(right, asked, where=asked > 0, out=np.full(len(asked), np.nan))
    skill[np.isnan(skill)] = np.nanmean(skill) if (asked > 0).any() else 0.0
    behind = ballot.sum(votes.weight)
    trust = np.divide(ballot.sum(votes.weight * skill[votes.annotator]), behind, where=behind > 0, out=np.zeros(len(behind)))
    return ballot.winners(mass, ballot.prob, -frequency, np.round(trust, 12))


def _weigh(votes: Votes, expected: Expected, consensus: NDArray[np.int64], shrink: float) -> _Weights:
    """The weights of the model and of each annotator, against the error of always saying the commonest class."""
    several = votes.count() > 1
    agreement = _agreement(votes, consensus)
    likelihood = float(agreement[several].mean())
    said = consensus[several]
    chance_error = max(float((said != np.bincount(said, minlength=votes.n_classes).argmax()).mean()), FLOOR)
    annotator = np.maximum(1 - (1 - _between(votes, shrink)) / chance_error, FLOOR)
    model = max(1 - float((expected.top[several] != said).mean()) / chance_error, FLOOR)
    mass = votes.per_item(votes.weight)
    return _Weights(
        model * float(np.sqrt(mass[mass > 0].mean())), annotator, likelihood, (1 - likelihood) / (votes.n_classes - 1)
    )


def _agreement(votes: Votes, consensus: NDArray[np.int64]) -> NDArray[np.float64]:
    mass = votes.per_item(votes.weight)
    behind = votes.per_item(votes.weight * (votes.label == consensus[votes.item]))
    return np.asarray(np.divide(behind, mass, where=mass > 0, out=np.full(len(mass), np.nan)))


def _between(votes: Votes, shrink: float) -> NDArray[np.float64]:
    """(A,) share of the others' votes on the same items that agree with one's own; the average where there are none."""
    _, row = np.unique(votes.item * votes.n_classes + votes.label, return_inverse=True)
    same = votes.weight * np.maximum(np.bincount(row, votes.weight)[row] - votes.weight, 0.0)
    others = votes.weight * np.maximum(votes.per_item(votes.weight)[votes.item] - votes.weight, 0.0)
    agreed, asked = votes.per_annotator(same), votes.per_annotator(others)
    if shrink:
        return np.asarray((agreed + shrink * agreed.sum() / asked.sum()) / (asked + shrink))
    shares = np.divide(agreed, asked, where=asked > 0, out=np.full(votes.n_annotators, np.nan))
    return np.where(np.isnan(shares), np.nanmean(shares), shares)


def _posterior(votes: Votes, ballot: _Ballot, weights: _Weights) -> NDArray[np.float64]:
    """(C,) weighted mean of what the model and each vote give to the class."""
    trust = votes.weight * weights.annotator[votes.annotator]
    behind, total = ballot.sum(trust), votes.per_item(trust)[ballot.item]
    said = behind * weights.likelihood + (total - behind) * weights.otherwise
    return np.asarray((ballot.prob * weights.model + said) / (weights.model + total))


def _best(ballot: _Ballot, posterior: NDArray[np.float64], majority: NDArray[np.int64]) -> NDArray[np.int64]:
    peak = np.maximum.reduceat(posterior, ballot.start)
    is_peak = posterior >= peak[ballot.item] - SAME
    n_peaks = np.add.reduceat(is_peak.astype(np.int64), ballot.start)
    return np.where(n_peaks == 1, ballot.winners(is_peak.astype(np.int64)), majority)


def _result(
    votes: Votes,
    ballot: _Ballot,
    weights: _Weights,
    posterior: NDArray[np.float64],
    consensus: NDArray[np.int64],
    temperature: float,
) -> Crowd:
    shared = (votes.count() > 1)[votes.item]
    n_votes, n_shared = votes.per_annotator(votes.weight), votes.per_annotator(shared * votes.weight)
    vote_quality = posterior[ballot.of_vote]
    right = votes.per_annotator(shared * votes.weight * (votes.label == consensus[votes.item]))
    agreed = np.divide(right, n_shared, where=n_shared > 0, out=np.full(len(n_shared), np.nan))
    mean_quality = votes.per_annotator(votes.weight * vote_quality) / np.where(n_votes > 0, n_votes, 1.0)
    is_known, mass = n_votes > 0, votes.per_item(votes.weight)
    people = weights.annotator[is_known].sum() * mass[mass > 0].mean() / is_known.sum()
    lean = weights.model / (weights.model + people)
    return Crowd(
        consensus,
        posterior[ballot.start + _offset(ballot, consensus)],
        _agreement(votes, consensus),
        vote_quality,
        lean * mean_quality + (1 - lean) * agreed,
        weights.annotator,
        votes.per_annotator(shared.astype(np.float64)).astype(np.int64),
        weights.model,
        temperature,
    )


def _offset(ballot: _Ballot, consensus: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) place of the consensus among the classes of its item."""
    row = np.flatnonzero(ballot.label == consensus[ballot.item])
    return row - ballot.start


def _only_class(votes: Votes) -> Crowd:
    """One class is always right; who shares no item is still unknown."""
    shared = votes.per_annotator((votes.count() > 1)[votes.item].astype(np.float64)).astype(np.int64)
    sure, voted = np.ones(votes.n_items), votes.count() > 0
    people = np.where(shared > 0, 1.0, np.nan)
    return Crowd(
        np.zeros(votes.n_items, np.int64),
        sure,
        np.where(voted, 1.0, np.nan),
        np.ones(len(votes)),
        people,
        np.ones(votes.n_annotators),
        shared,
        1.0,
        1.0,
    )


def check_sizes(votes: Votes, belief: Belief) -> None:
    """Raise InputError unless both are of the same items and classes."""
    if len(belief.top) != votes.n_items or belief.n_classes != votes.n_classes:
        raise InputError(
            f"votes are on {votes.n_items} items of {votes.n_classes} classes, probabilities on {len(belief.top)} "
            f"of {belief.n_classes}; both need the same"
        )


def _check(votes: Votes, belief: Belief, shrink: float) -> None:
    check_sizes(votes, belief)
    if not (votes.count() > 1).any():
        raise InputError("no item has two votes; without people to compare there is no consensus to compute")
    if not shrink >= 0:
        raise InputError(f"shrink is {shrink}; give a number of votes, 0 or more")
