"""Which given labels are probably wrong: cleanlab where it can run, with its silent failures handled."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import ProbabilityError
from curation.quality.validate import UNLABELLED, OutOfSample, check

MIN_PER_CLASS = 2
"""A class with fewer labelled examples has no threshold of its own: its rows are ranked, not flagged."""

MAX_SCORE = 0.2
"""A flagged label is at least four times less likely than the best other class.

cleanlab's filters over-flag where a model of many classes is unsure. On 4,653 real second-hand ads in
83 classes (TF-IDF and logistic regression, sibling noise injected) this bound lifts F1 from 0.52 to
0.60 at 16 % noise and from 0.39 to 0.48 at 8 %: `tests/benchmarks/label_issues.py`.
"""


SELLER_PRIOR = 10.0
"""A seller's own record weighs as much as this many listings' worth of everybody's once it is as long."""

RATE_BOUND = 1e-3
"""Rates of wrong labels are kept this far from 0 and 1."""


@dataclass(frozen=True, slots=True)
class Sellers:
    """Whose label each of N rows is, and where moderators have overruled it."""

    index: NDArray[np.int64]  #: (N,) 0 … S-1, -1 = unknown
    overruled: NDArray[np.bool_]  #: (N,)


@dataclass(frozen=True, slots=True)
class Issues:
    """Doubt about N given labels."""

    is_issue: NDArray[np.bool_]  #: (N,)
    score: NDArray[np.float64]  #: (N,) label quality in [0, 1], 1 = surely right
    suggested: NDArray[np.int64]  #: (N,) class index the model prefers
    order: NDArray[np.int64]  #: (N,) a permutation of the rows, most doubtful first


def find_category_issues(
    labels: NDArray[np.integer],
    oos: OutOfSample,
    *,
    verified: NDArray[np.bool_] | None = None,
    sellers: Sellers | None = None,
) -> Issues:
    """Confident learning (Northcutt et al., JAIR 2021) on out-of-sample probabilities.

    `labels`: (N,) class index in the column order of `oos`, -1 = unlabelled. `verified`: (N,) rows
    that moderators decided; they count in the estimate of the noise but are never issues. `sellers`:
    whose labels they are, so that one who is often wrong is doubted sooner.

    The score of a label is p_given / (p_given + p_best_other), the odds against the best other class;
    it ranks better than cleanlab's scores (average precision 0.69 against 0.65 for the normalized
    margin and 0.61 for self-confidence, in the benchmark above), and no temperature of the model
    changes the order. With `sellers`, their record shifts the odds (`seller_odds`). Issues come first,
    then the other rows, each by score.

    Never flagged, only ranked: unlabelled rows (their score is 1 - p of the suggestion) and rows of
    classes with fewer than 2 labelled examples, which have no threshold. With one such class left
    nothing can be confused and nothing is flagged; without rows everything is empty.
    Raises ProbabilityError on anything that cleanlab would swallow silently.
    """
    check(oos, labels)
    probs = np.asarray(oos.pred_probs, dtype=np.float64)
    if not probs.size:
        return _nothing(len(labels))
    score, best_other = _odds(labels, probs)
    settled = np.zeros(len(labels), dtype=bool) if verified is None else np.asarray(verified, dtype=bool)
    if sellers is not None:
        labelled = labels != UNLABELLED
        score[labelled] = _shifted(score, seller_odds(1 - score, sellers, labelled, settled))[labelled]
    is_issue = _flagged(labels, probs) & (score < MAX_SCORE) & ~settled
    order = np.lexsort((-best_other, score, ~is_issue))
    return Issues(is_issue, score, probs.argmax(axis=1).astype(np.int64), order.astype(np.int64))


def seller_odds(
    doubt: NDArray[np.floating], sellers: Sellers, labelled: NDArray[np.bool_], verified: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(N,) log odds that a seller's other labels are wrong, against those of all labels; 0 = like everybody.

    `doubt`: (N,) probability in [0, 1] that the label is wrong, used where no moderator has decided;
    verified rows count as wrong where the seller was overruled, as right elsewhere. Empirical Bayes:
    each seller's rate is drawn to the common one by SELLER_PRIOR listings' worth; a row itself is left out of
    both rates.
    """
    evidence = np.where(verified, sellers.overruled, doubt)
    counted = labelled | verified
    known = counted & (sellers.index >= 0)
    shift = np.zeros(len(doubt))
    if counted.sum() < 2 or not known.any():
        return shift
    mine, own = sellers.index[known], evidence[known]
    base = (evidence[counted].sum() - own) / (counted.sum() - 1)
    rate = (np.bincount(mine, weights=own)[mine] - own + SELLER_PRIOR * base) / (np.bincount(mine)[mine] - 1 + SELLER_PRIOR)
    shift[known] = _logit(rate) - _logit(base)
    return shift


def find_violation_issues(given: NDArray[np.floating], probs: NDArray[np.floating]) -> Issues:
    """Doubt about reports and about silence, per listing, over V violation categories.

    `given`: (N, V) 1 = reported, 0 = cleared by a moderator, NaN = nobody said anything.
    `probs`: (N, V) out-of-sample, each in [0, 1] on its own. The score of a row is that of its most
    doubtful category: p for a report, 1 - p elsewhere. `suggested` is the category with the highest
    probability if that is at least one half, else V, which stands for none.
    """
    if given.shape != probs.shape or probs.ndim != 2:
        raise ProbabilityError(f"given has shape {given.shape}, probs {probs.shape}; both must be (N, V)")
    bad = np.flatnonzero(~np.isfinite(probs).all(axis=1) | (probs < 0).any(axis=1) | (probs > 1).any(axis=1))
    if bad.size:
        raise ProbabilityError(f"{bad.size} rows of violation probabilities are not in [0, 1], first rows {bad[:10].tolist()}")
    if not probs.size:
        return _nothing(len(probs))
    agreement = np.where(given == 1, probs, 1 - probs)
    score = agreement.min(axis=1)
    suggested = np.where(probs.max(axis=1) >= 0.5, probs.argmax(axis=1), probs.shape[1]).astype(np.int64)
    is_issue = (score < 0.5) & ~(given == 0).any(axis=1)
    return Issues(is_issue, score.astype(np.float64), suggested, np.argsort(score, kind="stable").astype(np.int64))


def _nothing(n: int) -> Issues:
    return Issues(np.zeros(n, dtype=bool), np.ones(n), np.zeros(n, dtype=np.int64), np.arange(n, dtype=np.int64))


def _odds(labels: NDArray[np.integer], probs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score of each label, and the probability of the best class other than it."""
    rows = np.flatnonzero(labels != UNLABELLED)
    others = probs.copy()
    others[rows, labels[rows]] = 0.0
    best_other = others.max(axis=1)
    score = 1.0 - best_other
    given = probs[rows, labels[rows]]
    score[rows] = given / (given + best_other[rows])
    return np.clip(score, 0.0, 1.0), best_other


def _logit(rate: Any) -> Any:
    bounded = np.clip(rate, RATE_BOUND, 1 - RATE_BOUND)
    return np.log(bounded / (1 - bounded))


def _shifted(score: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability `score` with its odds divided by exp(`shift`)."""
    odds = np.exp(-shift)
    return np.asarray(score * odds / (score * odds + 1 - score), dtype=np.float64)


def _flagged(labels: NDArray[np.integer], probs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """cleanlab's decisions over the classes that have examples; rows are renormalised over them."""
    counts = np.bincount(labels[labels != UNLABELLED], minlength=probs.shape[1])
    kept = np.flatnonzero(counts >= MIN_PER_CLASS)
    rows = np.flatnonzero(np.isin(labels, kept))
    found = np.zeros(len(labels), dtype=bool)
    if len(kept) > 1:
        found[rows] = _cleanlab(np.searchsorted(kept, labels[rows]), probs[np.ix_(rows, kept)])
    found &= probs.argmax(axis=1) != labels
    return found


def _cleanlab(labels: NDArray[np.integer], probs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """`find_label_issues` as it is by default, on one process (its pool would fork our threads)."""
    sums = probs.sum(axis=1, keepdims=True)
    scaled = np.divide(probs, sums, out=np.full_like(probs, 1 / probs.shape[1]), where=sums > 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about thin classes, and about a progress bar it does without
        from cleanlab.filter import find_label_issues

        found: NDArray[np.bool_] = find_label_issues(labels, scaled, filter_by="prune_by_noise_rate", n_jobs=1)
    return found
