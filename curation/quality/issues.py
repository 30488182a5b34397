"""Which given labels are probably wrong, by one rule for ten classes and for fourteen thousand; cleanlab is its reference."""

import warnings
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from curation.errors import ProbabilityError
from curation.quality.confident import Confidence, confident_learning, estimate, lowest
from curation.quality.expected import ExpectedNoise
from curation.quality.held_out import DENSE_CELLS, SparseOutOfSample, store_of
from curation.quality.posterior import fit, wrong_probability
from curation.quality.ranking import COMBINED, Audit, best_by_audit, every_score
from curation.quality.scorers import cut_by_expected_f1
from curation.quality.sellers import Sellers, seller_odds, shifted
from curation.quality.sparse import TopK
from curation.quality.validate import UNLABELLED, OutOfSample

MIN_PER_CLASS = 2
"""A class with fewer labelled examples has no threshold of its own: its rows are ranked, not flagged."""

MIN_ROWS_PER_CLASS = 15
"""With fewer labelled rows a class the noise rate comes out too low, and confident learning's count is drawn in as well.

`tests/benchmarks/label_issues.py --rows 500`: real ads and the sample catalog thinned out to 7 rows a class.
"""

Floats = NDArray[np.float64]


class Method(StrEnum):
    """Which labels are flagged; all rank by the same score."""

    #: the rule of this file; it was better than cleanlab's filters on everything measured, so it is always taken
    AUTO = "auto"
    #: cleanlab's `find_label_issues` as it is by default, for up to DENSE_CELLS probabilities
    CLEANLAB = "cleanlab"


@dataclass(frozen=True, slots=True)
class Issues:
    """Doubt about N given labels."""

    is_issue: NDArray[np.bool_]  #: (N,)
    score: Floats  #: (N,) label quality in [0, 1], 1 = surely right
    suggested: NDArray[np.int64]  #: (N,) class index the model prefers
    order: NDArray[np.int64]  #: (N,) a permutation of the rows, most doubtful first
    wrong: Floats  #: (N,) probability that the label is wrong; 0 where there is none, or moderators decided
    suggested_p: Floats  #: (N,) the model's probability of `suggested`
    other: NDArray[np.int64]  #: (N,) the class it prefers of those that are not the label: where a wrong label belongs
    scorer: str = COMBINED  #: what `score` ranks by, a Scorer or COMBINED
    noise: ExpectedNoise | None = None  #: what the labels are confused with; None where nothing was estimated


def find_category_issues(
    labels: NDArray[np.integer],
    oos: OutOfSample | SparseOutOfSample,
    *,
    verified: NDArray[np.bool_] | None = None,
    sellers: Sellers | None = None,
    audit: Audit | None = None,
    method: Method | str = Method.AUTO,
) -> Issues:
    """Confident learning (Northcutt et al., JAIR 2021) on out-of-sample probabilities, cut where the expected F1 is best.

    `labels`: (N,) class index in the column order of `oos`, -1 = unlabelled. `verified`: (N,) rows that moderators
    decided; they count in the estimate of the noise but are never issues. `sellers`: whose labels they are, so
    that one who is often wrong is doubted sooner. `audit`: with MIN_VERIFIED_WRONG wrong labels or more in it, the scorer
    that finds these best ranks; else COMBINED does.

    `wrong` is the probability by `posterior`, its odds shifted by the seller's record (`seller_odds`), as those of the
    score are. As many rows are flagged as make the expected F1 best; where there are fewer than MIN_ROWS_PER_CLASS labelled
    rows a class, the geometric mean of that number and of confident learning's. Issues come first, then the other rows,
    each by score.

    Never flagged, only ranked: unlabelled rows (their score is 1 - p of the suggestion), rows whose label the model prefers
    itself, and rows of classes with fewer than 2 labelled examples, which have no threshold.
    Raises ProbabilityError on anything that cleanlab would swallow silently, and for Method.CLEANLAB without dense
    probabilities or with more than DENSE_CELLS of them.
    """
    store = store_of(oos, labels)
    if not len(store) or not store.n_classes:
        return _nothing(len(labels))
    by_cleanlab = _by_cleanlab(labels, _table(oos)) if Method(method) is Method.CLEANLAB else None
    settled = np.zeros(len(labels), dtype=np.bool_) if verified is None else np.asarray(verified, dtype=np.bool_)
    labelled = labels != UNLABELLED
    state = estimate(store)
    model = fit(store, state)
    plain = wrong_probability(store, state, model)
    scorer = COMBINED if audit is None else best_by_audit(store, state, model, settled, audit)
    score = every_score(store, plain)[scorer]
    shift = np.zeros(len(labels)) if sellers is None else seller_odds(plain, sellers, labelled, settled)
    score = np.where(labelled, shifted(score, shift), score)
    wrong = np.where(labelled & ~settled, 1 - shifted(1 - plain.astype(np.float64), shift), 0.0)
    is_issue = _flagged(store, state, settled, score, wrong) if by_cleanlab is None else by_cleanlab & ~settled
    other, p_other = store.best_other()
    order: NDArray[np.int64] = np.lexsort((-p_other, score, ~is_issue))
    noise = ExpectedNoise.of(labels, other, wrong, store.n_classes)
    suggested, p = store.idx[:, 0].astype(np.int64), store.p[:, 0].astype(np.float64)
    return Issues(is_issue, score, suggested, order, wrong, p, other.astype(np.int64), scorer, noise)


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
    score, best = agreement.min(axis=1).astype(np.float64), probs.max(axis=1).astype(np.float64)
    suggested = np.where(best >= 0.5, probs.argmax(axis=1), probs.shape[1]).astype(np.int64)
    is_issue = (score < 0.5) & ~(given == 0).any(axis=1)
    order: NDArray[np.int64] = np.argsort(score, kind="stable")
    return Issues(is_issue, score, suggested, order, 1 - score, np.maximum(best, 1 - best), suggested)


def _nothing(n: int) -> Issues:
    none, whole = np.zeros(n), np.zeros(n, dtype=np.int64)
    return Issues(none.astype(np.bool_), np.ones(n), whole, np.arange(n, dtype=np.int64), none, none.copy(), whole)


def _table(oos: OutOfSample | SparseOutOfSample) -> Floats:
    """All (N, K) probabilities; refused where there are none, or too many for cleanlab."""
    if isinstance(oos, SparseOutOfSample):
        raise ProbabilityError("cleanlab's filter needs all probabilities and only the largest were kept; use method auto")
    if oos.pred_probs.size > DENSE_CELLS:
        raise ProbabilityError(
            f"{oos.pred_probs.size:,} probabilities are more than the {DENSE_CELLS:,} that cleanlab's filter is run on; "
            "use method auto"
        )
    return np.asarray(oos.pred_probs, dtype=np.float64)


def _flagged(store: TopK, state: Confidence, settled: NDArray[np.bool_], score: Floats, wrong: Floats) -> NDArray[np.bool_]:
    """The lowest scores of the rows that may be flagged, as many as the expected F1 asks for."""
    count, found = state.sums.count, np.zeros(len(store), dtype=np.bool_)
    thick = (store.labels != UNLABELLED) & (count[np.maximum(store.labels, 0)] >= MIN_PER_CLASS)
    n_classes = int((count >= MIN_PER_CLASS).sum())
    if n_classes < 2:
        return found
    rows = np.flatnonzero(thick & ~settled & (store.idx[:, 0] != store.labels))
    n = cut_by_expected_f1(wrong[rows])
    if thick.sum() < MIN_ROWS_PER_CLASS * n_classes:
        n = round(float(np.sqrt(n * confident_learning(store, state)[rows].sum())))
    found[rows[lowest(score[rows], n)]] = True
    return found


def _by_cleanlab(labels: NDArray[np.integer], probs: Floats) -> NDArray[np.bool_]:
    """cleanlab's decisions over the classes that have examples; rows are renormalised over them."""
    counts = np.bincount(labels[labels != UNLABELLED], minlength=probs.shape[1])
    kept = np.flatnonzero(counts >= MIN_PER_CLASS)
    rows = np.flatnonzero(np.isin(labels, kept))
    found = np.zeros(len(labels), dtype=np.bool_)
    if len(kept) > 1:
        found[rows] = _cleanlab(np.searchsorted(kept, labels[rows]), probs[np.ix_(rows, kept)])
    found &= probs.argmax(axis=1) != labels
    return found


def _cleanlab(labels: NDArray[np.integer], probs: Floats) -> NDArray[np.bool_]:
    """`find_label_issues` as it is by default, on one process (its pool would fork our threads)."""
    sums = probs.sum(axis=1, keepdims=True)
    scaled = np.divide(probs, sums, out=np.full_like(probs, 1 / probs.shape[1]), where=sums > 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about thin classes, and about a progress bar it does without
        from cleanlab.filter import find_label_issues

        found: NDArray[np.bool_] = find_label_issues(labels, scaled, filter_by="prune_by_noise_rate", n_jobs=1)
    return found
