"""The violation head: linear in n-grams, photos, numbers and, by option, the category; fitted to its optimum at once.

Violations are rare. Trained by small steps beside the category, their few positives drown: average
precision on real ads stayed at half of what logistic regression reaches. The same linear model is
convex, so liblinear finds its best weights in less than a second.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack, vstack
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

N_COMPONENTS = 16
MAX_DECOMPOSED = 600
PHOTO_SCALE = 0.1  # root mean square length of a photo's components, beside n-gram blocks of length 1
NUMBER_SCALE = 0.03
MAX_ITERATIONS = 1000
TOLERANCE = 1e-3
MIN_OF_EACH = 10
"""Rows with and without a violation that the scale of its logits needs."""

SURE = 0.9
"""The probability at which it is asked how far the scale can be trusted."""

CLEARLY = 2.0
"""Standard errors by which a slope is above 0 before it is believed."""

MAX_ERROR = 2.0
"""Of a logit. Few rows say little of the scale; a score that is lowered further tells nobody apart."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the heads see of N listings."""

    ngrams: csr_matrix  #: (N, n_buckets), weighed
    photos: Floats  #: (N, F) mean view, 0 = none
    numbers: Floats  #: (N, 5) standardised
    said: csr_matrix | None = None  #: (N, C) the seller's category (`trainer.kind`), where heads read it
    predicted: csr_matrix | None = None  #: (N, C) the category head's, where heads read it

    def __len__(self) -> int:
        return len(self.photos)

    def of(self, rows: NDArray[np.int64]) -> "Seen":
        """These rows."""
        said, predicted = (None if part is None else part[rows] for part in (self.said, self.predicted))
        return Seen(self.ngrams[rows], self.photos[rows], self.numbers[rows], said, predicted)

    def untold(self) -> "Seen":
        """The same as if no seller had named a category: the first column says so, as loud as a category speaks."""
        if self.said is None:
            return self
        n = len(self)
        loud = np.full(n, self.said.data.max(initial=0), np.float32)
        return replace(self, said=csr_matrix((loud, (np.arange(n), np.zeros(n, np.int64))), self.said.shape))


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """Logits = ngrams @ text + other @ dense + kinds @ their weights + bias."""

    text: Floats  #: (n_buckets, V)
    dense: Floats  #: (F + 5, V)
    bias: Floats  #: (V,)
    said: Floats | None = None  #: (C, V)
    predicted: Floats | None = None  #: (C, V)

    def logits(self, seen: Seen) -> Floats:
        """(N, V) of these rows."""
        found = seen.ngrams @ self.text + np.hstack([seen.photos, seen.numbers]) @ self.dense + self.bias
        for kind, weights in ((seen.said, self.said), (seen.predicted, self.predicted)):
            found = found if kind is None or weights is None else found + kind @ weights
        return np.asarray(found, np.float32)


def held_out(
    seen: Seen, present: Floats, weight: Floats, strength: float, folds: NDArray[np.int64], hide_said: float = 0.0
) -> Floats:
    """(N, V) logits of heads that did not see the row: each fold's by a fit on the others. folds : (N,)"""
    found = np.zeros_like(present)
    for fold in np.unique(folds):
        rows, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        made = fit(seen.of(rest), present[rest], weight[rest], strength, hide_said)
        found[rows] = made.logits(seen.of(rows))
    return found


def fit(seen: Seen, present: Floats, weight: Floats, strength: float, hide_said: float = 0.0) -> Linear:
    """One weighted logistic regression per violation, with C = `strength`.

    present, weight : (N, V). A violation of which only one answer is known keeps its log-odds. Photos enter by their first 16
    principal components: more would fit the few positives by heart. Where sellers' categories are read each row counts twice,
    told and, with the share `hide_said` of its weight, as if nobody had told: the expectation of hiding it at random.
    """
    projection = _components(seen.photos)
    rows = _columns(seen, projection)
    if seen.said is not None and hide_said:
        rows = vstack([rows, _columns(seen.untold(), projection)]).tocsr()
        present, weight = np.vstack([present] * 2), np.vstack([weight * (1 - hide_said), weight * hide_said])
    bias, found = log_odds(present, weight), np.zeros((rows.shape[1], present.shape[1]), np.float32)
    for head in range(present.shape[1]):
        known = weight[:, head] > 0
        answers = present[known, head]
        if len(set(answers.tolist())) < 2:
            continue
        model = LogisticRegression(C=strength, solver="liblinear", tol=TOLERANCE, max_iter=MAX_ITERATIONS)
        model.fit(rows[known], answers, sample_weight=weight[known, head])
        found[:, head], bias[head] = model.coef_[0], model.intercept_[0]
    return _parted(found, bias, seen, projection)


def _columns(seen: Seen, projection: Floats) -> csr_matrix:
    """(N, n) all that heads see, side by side."""
    dense = np.hstack([seen.photos @ projection, seen.numbers * NUMBER_SCALE])
    kinds = [kind for kind in (seen.said, seen.predicted) if kind is not None]
    return hstack([seen.ngrams, csr_matrix(dense), *kinds]).tocsr()


def _parted(weights: Floats, bias: Floats, seen: Seen, projection: Floats) -> Linear:
    """The weights (n, V) of `_columns` by what they weigh."""
    widths = [seen.ngrams.shape[1], projection.shape[1], seen.numbers.shape[1]]
    widths += [0 if kind is None else kind.shape[1] for kind in (seen.said, seen.predicted)]
    text, photos, numbers, said, predicted = np.split(weights, np.cumsum(widths)[:-1])
    dense = np.vstack([projection @ photos, numbers * NUMBER_SCALE]).astype(np.float32)
    kinds = (None if kind is None else part for kind, part in ((seen.said, said), (seen.predicted, predicted)))
    return Linear(text, dense, bias, *kinds)


def scale_of(logits: Floats, present: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Scale (V,) above 0 and shift (V,) with which (N, V) held-out logits are as sure as they are often right (Platt 1999).

    Then the standard error (V,) of a logit on that scale where it says SURE, MAX_ERROR at most. 1, 0 and 0 for a head with fewer
    than ten of either answer, or whose logits do not clearly point the right way.
    """
    scale, shift, error = (np.full(logits.shape[1], value, np.float32) for value in (1.0, 0.0, 0.0))
    for head in range(logits.shape[1]):
        known = weight[:, head] > 0
        if np.bincount(present[known, head].astype(int), minlength=2).min() < MIN_OF_EACH:
            continue
        share = weight[known, head] * (weight[known, head].sum() / np.square(weight[known, head]).sum())  # Kish 1965
        model = _line(logits[known, head], present[known, head], share)
        slope, start = float(model.coef_[0, 0]), float(model.intercept_[0])
        covariance = _covariance(logits[known, head].astype(np.float64), slope, start, share)
        if slope > CLEARLY * np.sqrt(covariance[0, 0]):
            place = np.array([(logit(SURE) - start) / slope, 1.0])
            scale[head], shift[head] = slope, start
            error[head] = min(np.sqrt(place @ covariance @ place), MAX_ERROR)
    return scale, shift, error


def _line(logits: Floats, present: Floats, share: Floats) -> LogisticRegression:
    """Platt's: answers count as a little less than certain, so that logits (n,) that separate them do not make it steep."""
    n_positive, n_negative = (share * present).sum(), (share * (1 - present)).sum()
    target = np.where(present > 0, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    model = LogisticRegression(C=1e3, solver="liblinear", intercept_scaling=10.0)
    sides = np.concatenate([share * target, share * (1 - target)])
    return model.fit(np.tile(logits, 2)[:, None], np.repeat([1, 0], len(logits)), sample_weight=sides)


def _covariance(logits: NDArray[np.float64], slope: float, start: float, share: Floats) -> NDArray[np.float64]:
    """Of slope and start, by their Fisher information; rows count as their `share` says. Infinite where all logits are one."""
    probs = expit(logits * slope + start)
    line = np.stack([logits, np.ones_like(logits)], 1)
    information = line.T @ (line * (share * probs * (1 - probs))[:, None])
    if np.linalg.matrix_rank(information) < 2:
        return np.full((2, 2), np.inf)
    return np.linalg.inv(information)


def _components(photos: Floats) -> Floats:
    """(F, 16) directions in which the photos differ most, scaled to a common length."""
    there = photos[np.abs(photos).sum(1) > 0][:MAX_DECOMPOSED]
    if len(there) < 2:
        return np.zeros((photos.shape[1], N_COMPONENTS), np.float32)
    directions = np.linalg.svd(there - there.mean(0), full_matrices=False)[2]
    found = np.zeros((photos.shape[1], N_COMPONENTS), np.float32)
    kept = directions[:N_COMPONENTS].T
    length = np.sqrt(np.square(there @ kept).sum(1).mean())
    found[:, : kept.shape[1]] = kept * PHOTO_SCALE / max(float(length), 1e-6)
    return found


def log_odds(present: Floats, weight: Floats) -> Floats:
    """(V,) of (N, V) answers and their weights; half an answer is added to either side."""
    positive, negative = (present * weight).sum(0) + 0.5, ((1 - present) * weight).sum(0) + 0.5
    odds: Floats = np.log(positive / negative).astype(np.float32)
    return odds
