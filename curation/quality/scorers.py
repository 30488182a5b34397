"""Scores of labels, which of them to believe, and how many rows to call suspects: all without the truth.

A score is in [0, 1], 1 = certainly right (cleanlab's convention). An unlabelled row has 1 - p of the most probable class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from curation.errors import ProbabilityError
from curation.quality.confident import Confidence, confident_learning, lowest
from curation.quality.posterior import fit, wrong_probability
from curation.quality.sparse import TopK
from curation.quality.validate import UNLABELLED

MIN_VERIFIED_WRONG = 20
"""Verified wrong labels from which on they choose the scorer; with fewer the order among scorers is chance."""

UNKNOWN = -1

Scores = NDArray[np.float32]


class Scorer(StrEnum):
    """What a label's quality is measured by."""

    #: the probability of the label
    SELF_CONFIDENCE = "self_confidence"
    #: (p of the label - p of the best other + 1) / 2
    NORMALIZED_MARGIN = "normalized_margin"
    #: p of the label / (that + p of the best other): orders as log p_label - log p_other, whatever the model's temperature
    LOG_RATIO = "log_ratio"
    #: 1 - the probability that the label is wrong (`posterior`)
    POSTERIOR = "posterior"


@dataclass(frozen=True, slots=True)
class Choice:
    """The scorer that finds wrong labels best, as far as can be known."""

    scorer: Scorer
    precision: Mapping[Scorer, float]  #: estimated share of wrong labels among the rows each would flag, in [0, 1]
    verified: bool  #: estimated from verified labels (average precision over them), else from the model


@dataclass(frozen=True, slots=True)
class Suspects:
    """Rows whose label is doubted enough to act on, and what is expected of them."""

    flagged: NDArray[np.bool_]  #: (N,)
    score: Scores  #: (N,) by the chosen scorer
    wrong: Scores  #: (N,) probability that the label is wrong
    choice: Choice
    expected_precision: float  #: mean of `wrong` over the flagged rows; 0 if there are none
    expected_recall: float  #: their share of all of `wrong`


def find_suspects(store: TopK, state: Confidence, *, verified: NDArray[np.integer] | None = None) -> Suspects:
    """The scorer with the best estimated precision, cut where the expected F1 is best.

    `verified`: (N,) 1 = a moderator found the label wrong, 0 = right, -1 = nobody looked. Verified rows choose the
    scorer where enough of them are wrong, and are never flagged themselves.
    """
    wrong = wrong_probability(store, state, fit(store, state))
    open_rows = store.labels != UNLABELLED
    if verified is not None:
        check_verified(verified, len(store))
        open_rows &= verified == UNKNOWN
    rows = np.flatnonzero(open_rows)
    n = cut_by_expected_f1(wrong[rows])
    scores = all_scores(store, wrong)
    choice = choose(scores, wrong, n, verified=verified)
    flagged = np.zeros(len(store), dtype=np.bool_)
    flagged[rows[lowest(scores[choice.scorer][rows], n)]] = True
    mass = float(wrong[flagged].sum(dtype=np.float64))
    total = max(float(wrong[rows].sum(dtype=np.float64)), np.finfo(float).tiny)
    return Suspects(flagged, scores[choice.scorer], wrong, choice, mass / n if n else 0.0, mass / total)


def all_scores(store: TopK, wrong: Scores) -> dict[Scorer, Scores]:
    """Each scorer's (N,) scores; `wrong` as from `posterior.wrong_probability`."""
    p, (_, other) = store.p_given, store.best_other()
    found = {
        Scorer.SELF_CONFIDENCE: p.copy(),
        Scorer.NORMALIZED_MARGIN: (p - other + 1) / 2,
        Scorer.LOG_RATIO: p / np.maximum(p + other, np.finfo(np.float32).tiny),
        Scorer.POSTERIOR: 1 - wrong,
    }
    unlabelled = store.labels == UNLABELLED
    for score in found.values():
        score[unlabelled] = 1 - other[unlabelled]
    return found


def choose(scores: Mapping[Scorer, Scores], wrong: Scores, n: int, *, verified: NDArray[np.integer] | None = None) -> Choice:
    """The scorer with the highest estimated precision of the `n` rows it would flag.

    With MIN_VERIFIED_WRONG verified wrong labels or more, and right ones too, that is its average precision over
    the verified rows, which should be a random sample. Else it is the mean of `wrong` over its n lowest rows: not of
    1 - p, by which self-confidence would win always.
    """
    if verified is not None and np.sum(verified == 1) >= MIN_VERIFIED_WRONG and (verified == 0).any():
        seen = verified != UNKNOWN
        precision = {name: float(average_precision_score(verified[seen], -score[seen])) for name, score in scores.items()}
        return Choice(max(precision, key=precision.__getitem__), precision, True)
    precision = {name: float(wrong[lowest(score, n)].mean()) if n else 0.0 for name, score in scores.items()}
    return Choice(max(reversed(precision), key=precision.__getitem__), precision, False)


def cut_by_expected_f1(wrong: NDArray[np.floating]) -> int:
    """How many rows to flag, most probably wrong first, so that the expected F1 = 2 hits / (flagged + all wrong) is best."""
    if not len(wrong) or np.max(wrong) <= 0:
        return 0
    falling = -np.sort(-np.asarray(wrong, dtype=np.float64))
    return int(np.argmax(2 * np.cumsum(falling) / (np.arange(1, len(falling) + 1) + falling.sum()))) + 1


def cut_by_counts(store: TopK, state: Confidence) -> int:
    """The mean of the number of rows that confident learning flags and of those whose label is not the most probable class.

    Good where the model is nearly as good as the labels (CIFAR-10N: within 0.02 of the best F1); a weak model disagrees
    with far more labels than are wrong, and `cut_by_expected_f1` holds there as well.
    """
    _, other = store.best_other()
    n_disagreeing = int(np.sum((other > store.p_given) & (store.labels != UNLABELLED)))
    return (int(confident_learning(store, state).sum()) + n_disagreeing) // 2


def check_verified(verified: NDArray[np.integer], n: int) -> None:
    """Raise ProbabilityError unless `verified` is (n,) of -1, 0, 1."""
    if verified.shape != (n,) or not np.isin(verified, (UNKNOWN, 0, 1)).all():
        raise ProbabilityError(f"verified has shape {verified.shape}; give ({n},) of 1 = wrong, 0 = right, -1 = unknown")
