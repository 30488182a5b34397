"""What one more answer is worth: how many wrong labels it takes away, as expected before it is given.

A label is worth asking about for its chance to be wrong, not for how unsure a model is: a hard listing in its right category
is uncertain and has nothing to gain. Bernhardt et al. (2022, "Active label cleaning", Nature Communications 13:1161) rank
relabelling by the doubt about the *given* label; ActiveLab (Goh and Mueller 2023, arXiv:2301.11856) adds that an answer
tells less the more there are. Here both are one number, in labels put right per answer, so that a first answer to one
listing and a second one to another compare. `tests/benchmarks/relabel_budget.py` measures it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.isotonic import isotonic_regression

from curation.errors import InputError
from curation.quality.crowd import check_sizes
from curation.quality.votes import Belief, Votes

USUAL_ACCURACY = 0.9
"""Share of right answers expected of somebody who has not answered yet."""

USUAL_STRENGTH = 10.0
"""Answers that this expectation counts as."""

SAME_ERROR = 0.25
"""Chance that two wrong answers agree: errors go to a few similar categories."""

MOST = 0.995
"""Nobody is believed to be right more often: a label can always be doubted."""

SPREAD_SHARE = 0.02
"""After this share of a batch, further answers on the same suggested category are worth half, then a quarter, and so on."""

SAME_GROUP = 0.9
"""Chance that near-duplicates belong in one category (0.94 of the groups of the real ads in `relabel_budget`)."""

TEMPERATURES = (0.2, 0.28, 0.4, 0.56, 0.8, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Below 1 the model is made surer; about 1.4 apart."""

ROUNDS = 20

TINY = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far V votes of A sources can be believed."""

    right: Floats  #: (V,) probability that the vote names the true class, in the order of the votes
    accuracy: Floats  #: (A,) share of right votes of each source, in (0, 1)


def judge(votes: Votes, belief: Belief, *, calibrate: bool = False) -> Verdict:
    """The probability that each vote is right, from all votes on its item and an out-of-sample model.

    One coin per source: source s is right with accuracy[s], else names any other class with equal chance (CROWDLAB's
    assumption, Goh et al. 2022, section 4), and the model's probabilities are the prior of each item. Accuracies are found by
    EM (Dawid and Skene 1979 with one parameter a person), drawn to USUAL_ACCURACY by USUAL_STRENGTH votes; `calibrate` tries
    TEMPERATURES of the model and keeps that under which the votes are most likely. Unlike CROWDLAB it needs no item with two
    votes, so that people can be told apart by their first answers; the sellers may be one of the sources. A vote of less weight
    says less. Raises InputError where votes and probabilities are not of the same items and classes.
    """
    check_sizes(votes, belief)
    if votes.n_classes == 1 or not len(votes):
        return Verdict(np.ones(len(votes)), np.full(votes.n_annotators, USUAL_ACCURACY))
    temperatures = TEMPERATURES if calibrate else (None,)
    return max((_judged(votes, belief.expect(votes, t).voted) for t in temperatures), key=lambda found: found[1])[0]


def _judged(votes: Votes, voted: Floats) -> tuple[Verdict, float]:
    """The verdict under the model's probability of each vote, and the log likelihood of the votes."""
    keys, first, row = np.unique(votes.item * votes.n_classes + votes.label, return_index=True, return_inverse=True)
    item, prior = votes.item[first], np.maximum(voted[first], TINY)
    rest = np.maximum(1 - np.bincount(item, prior, votes.n_items), TINY)
    right: Floats = np.zeros(len(votes))
    accuracy: Floats = np.full(votes.n_annotators, USUAL_ACCURACY)
    likelihood = 0.0
    for _ in range(ROUNDS):
        other = (votes.weight * np.log((1 - accuracy) / (votes.n_classes - 1))[votes.annotator]).sum()
        said = votes.weight * np.log(accuracy * (votes.n_classes - 1) / (1 - accuracy))[votes.annotator]
        mass = prior * np.exp(np.bincount(row, said, len(keys)))
        total = np.bincount(item, mass, votes.n_items) + rest
        right, likelihood = (mass / total[item])[row], float(np.log(total).sum() + other)
        accuracy = _accuracies(votes, right)
    return Verdict(right, accuracy), likelihood


def _accuracies(votes: Votes, right: Floats) -> Floats:
    found = votes.per_annotator(votes.weight * right) + USUAL_STRENGTH * USUAL_ACCURACY
    shares = found / (votes.per_annotator(votes.weight) + USUAL_STRENGTH)
    return np.asarray(np.clip(shares, 1 / votes.n_classes, MOST), dtype=np.float64)


def first_answer(wrong: ArrayLike, accuracy: float) -> Floats:
    """Labels put right by asking one person, whose answer replaces the label: -1 … 1.

    `wrong`: (N,) probability that the label held now is wrong. A wrong label is found with `accuracy`, a right one spoilt
    with 1 - accuracy: wrong * accuracy - (1 - wrong) * (1 - accuracy) = wrong - (1 - accuracy). Below 0 asking does harm.
    """
    return _checked(wrong, accuracy) - (1 - accuracy)


def second_answer(wrong: ArrayLike, accuracy: float) -> Floats:
    """Labels put right per answer by asking another person about a label that one person decided: -1 … 1.

    Two who agree end it; two who do not are a tie that a third person decides. So a wrong label is put right where both others
    find the truth, accuracy²; a right one is lost where both others err and agree, (1 - accuracy)² SAME_ERROR. That is
    divided by the answers it takes, 1 + the chance of a tie.
    """
    doubt, error = _checked(wrong, accuracy), 1 - accuracy
    gain = doubt * accuracy**2 - (1 - doubt) * error**2 * SAME_ERROR
    tie = doubt * (1 - error * SAME_ERROR) + (1 - doubt) * error
    return np.asarray(gain / (1 + tie), dtype=np.float64)


def with_group(wrong: ArrayLike, n_same: ArrayLike, n_other: ArrayLike) -> Floats:
    """(N,) probability that a label is wrong, once people have answered on near-duplicates of the listing.

    `n_same` of them were given this listing's label, `n_other` another one. Each is evidence of a source that is right
    with SAME_GROUP, so that one answer tells on the whole group: a copy of what was confirmed is not asked about, a copy of
    what was put right is asked about next.
    """
    doubt = np.clip(_checked(wrong, SAME_GROUP), TINY, 1 - TINY)
    shift = (np.asarray(n_other, dtype=np.float64) - np.asarray(n_same)) * np.log(SAME_GROUP / (1 - SAME_GROUP))
    return np.asarray(1 / (1 + (1 - doubt) / doubt * np.exp(-shift)), dtype=np.float64)


def in_order(values: ArrayLike) -> Floats:
    """(N,) the nearest values that never rise: what a ranking, best first, is worth at each place.

    A ranking may order better than its probabilities are true (it knows more) and `judge` be truer on average; least
    squares under the order (isotonic regression, Barlow et al. 1972) keeps the one's order and the other's level.
    """
    found = np.asarray(values, dtype=np.float64)
    return np.asarray(isotonic_regression(found, increasing=False), dtype=np.float64) if len(found) else found


def spread(worth: ArrayLike, kind: ArrayLike, n: int) -> Floats:
    """(N,) values of questions, best first, once a batch of `n` is not to ask the same thing over and over.

    `kind`: (N,) the category each listing seems to be in. An answer also teaches the next model about listings like it, so
    that the next answer on its kind finds less: values are halved after every SPREAD_SHARE of the batch (3 questions at least)
    of one kind. Without it the surest errors of a few categories come first, which the model resists anyway.
    """
    values, kinds = np.asarray(worth, dtype=np.float64), np.unique(np.asarray(kind), return_inverse=True)[1]
    order = np.argsort(kinds, kind="stable")
    place = np.empty(len(values), dtype=np.int64)
    place[order] = np.arange(len(values)) - np.searchsorted(kinds[order], kinds[order])
    halvings = place // max(3, round(SPREAD_SHARE * n))
    return np.asarray(np.where(values > 0, values * 0.5**halvings, values), dtype=np.float64)


def n_second(first: ArrayLike, second: ArrayLike, n: int, limit: int) -> int:
    """How many of the best `n` questions are second opinions, `limit` at most.

    `first`, `second`: values of new questions and of second opinions, each falling. A second opinion is taken only
    where it is worth more than the new question whose place it takes, and more than nothing.
    """
    new, again = np.asarray(first, dtype=np.float64)[:n], np.asarray(second, dtype=np.float64)
    taken = 0
    while taken < min(limit, len(again), n) and again[taken] > 0:
        place = n - taken - 1
        if place < len(new) and again[taken] <= new[place]:
            break
        taken += 1
    return taken


def _checked(wrong: ArrayLike, accuracy: float) -> Floats:
    """Raise InputError unless all are shares."""
    doubt = np.asarray(wrong, dtype=np.float64)
    if not 0 <= accuracy <= 1:
        raise InputError(f"accuracy is {accuracy}; give the share of right answers, 0 to 1")
    bad = np.flatnonzero(~((doubt >= 0) & (doubt <= 1)))
    if bad.size:
        raise InputError(f"{bad.size} probabilities are not in [0, 1], first rows {bad[:10].tolist()}: {doubt.flat[bad[0]]}")
    return doubt
