"""By which score labels are ranked: one that needs no truth, or whichever finds the wrong labels of an audit best."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score

from curation.errors import ProbabilityError
from curation.quality.confident import NO_GUESS, Confidence
from curation.quality.held_out import relabelled
from curation.quality.posterior import NoiseModel, wrong_probability
from curation.quality.scorers import MIN_VERIFIED_WRONG, Scorer, all_scores
from curation.quality.sparse import TopK
from curation.quality.validate import UNLABELLED

COMBINED = "combined"
"""The middle of the log odds by LOG_RATIO, which does not ask where wrong labels come from, and by POSTERIOR, which does.

Without any truth it ranks better than either on real ads and is never far below the better one (docs/suspects.md).
"""

SURE = 1e-6
"""Scores are kept this far from 0 and 1 where their odds are averaged."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Audit:
    """Rows that were drawn at random, and what the seller had said of each."""

    drawn: NDArray[np.bool_]  #: (N,) nobody chose the row for its doubt
    given: NDArray[np.integer]  #: (N,) class index the seller gave; -1 = none, or not among the classes


def every_score(store: TopK, wrong: NDArray[np.float32]) -> dict[str, Floats]:
    """(N,) scores in [0, 1] by name, 1 = surely right: COMBINED and each Scorer; `wrong` as from `wrong_probability`."""
    found: dict[str, Floats] = {name.value: one.astype(np.float64) for name, one in all_scores(store, wrong).items()}
    ratio, posterior = found[Scorer.LOG_RATIO], found[Scorer.POSTERIOR]
    middle = expit((logit(np.clip(ratio, SURE, 1 - SURE)) + logit(np.clip(posterior, SURE, 1 - SURE))) / 2)
    return {COMBINED: np.where(store.labels == UNLABELLED, ratio, middle), **found}


def best_by_audit(store: TopK, state: Confidence, model: NoiseModel, settled: NDArray[np.bool_], audit: Audit) -> str:
    """The name of the score with the best average precision over the audit; COMBINED below MIN_VERIFIED_WRONG wrong labels.

    `settled`: (N,) rows whose label in `store` is the moderators'. Each is scored with the label its seller had given, as
    if it had not been counted in the joint. Rows that were chosen for their doubt would be no fair judges.
    """
    if audit.drawn.shape != (len(store),) or audit.given.shape != (len(store),):
        raise ProbabilityError(f"the audit is of {audit.drawn.shape} and {audit.given.shape} rows; give ({len(store)},) of each")
    rows = np.flatnonzero(audit.drawn & settled & (audit.given != UNLABELLED) & (store.labels != UNLABELLED))
    truth = audit.given[rows] != store.labels[rows]
    if truth.sum() < MIN_VERIFIED_WRONG or truth.all():
        return COMBINED
    part = relabelled(store.take(rows), audit.given[rows])
    apart = Confidence(state.sums, np.full(len(rows), NO_GUESS, dtype=np.int32), state.joint)
    scores = every_score(part, wrong_probability(part, apart, model))
    found = {name: float(average_precision_score(truth, -score)) for name, score in scores.items()}
    return max(found, key=found.__getitem__)
