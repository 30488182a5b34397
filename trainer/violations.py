"""The violation head: linear in n-grams, photos, numbers and, by option, the category; fitted to its optimum at once.

Violations are rare. Trained by small steps beside the category, their few positives drown: average
precision on real ads stayed at half of what logistic regression reaches. The same linear model is
convex, so liblinear finds its best weights in less than a second.

A hinge finds more than the logistic loss: the many listings that are surely fine stop counting once they are past the margin. Its
margins are no log-odds, so held-out rows bring them to that scale.
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack, vstack
from scipy.special import expit, logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

LOGISTIC, SQUARED_HINGE, HINGE = "logistic", "squared_hinge", "hinge"
"""What a head minimises over its rows."""

HINGE_STRENGTH = 0.01
"""C of the hinges beside that of the logistic loss."""

N_COMPONENTS = 64
MAX_DECOMPOSED = 600
LEAST_OF_LARGEST = 1e-5
"""Of a direction's variance beside the largest one's; what is less is rounding."""

NUMBER_SCALE = 0.03
MAX_ITERATIONS = 1000
TOLERANCE = {LOGISTIC: 1e-3, SQUARED_HINGE: 1e-3, HINGE: 1e-2}
N_FOLDS = 4
"""Of the heads whose held-out logits are looked at."""

MIN_OF_EACH = 10
"""Rows with and without a violation that the scale of its logits needs."""

SURE = 0.9
"""The probability at which it is asked how far the scale can be trusted."""

CLEARLY = 2.0
"""Standard errors by which a slope is above 0 before it is believed."""

MAX_ERROR = 2.0
"""Of a logit. Few rows say little of the scale; a score that is lowered further tells nobody apart."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class How:
    """A way to fit the heads."""

    loss: str = LOGISTIC
    strength: float = 30.0  #: C where the loss is logistic: how little weights are held back
    title: float = 0.4  #: how loud the characters of a title are, beside blocks of n-grams of length 1
    photos: float = 0.2  #: root mean square length of a photo's components, beside the same
    hide_said: float = 0.0  #: how much of a row's weight counts as if no seller had named a category


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

    def scaled(self, scale: Floats, shift: Floats | float = 0.0) -> "Linear":
        """The heads whose logits are `scale` (V,) times these and `shift` (V,) more."""
        kinds = (None if kind is None else kind * scale for kind in (self.said, self.predicted))
        return Linear(self.text * scale, self.dense * scale, np.asarray(self.bias * scale + shift, np.float32), *kinds)


def folds_of(groups: NDArray[np.generic], n: int, seed: int) -> NDArray[np.int64]:
    """(N,) one of n folds for each row, the same for rows of one near-duplicate group."""
    of_row = np.unique(groups, return_inverse=True)[1]
    return np.random.default_rng(seed).permutation(of_row.max(initial=0) + 1)[of_row] % n


def held_out(seen: Seen, present: Floats, weight: Floats, how: How, folds: NDArray[np.int64]) -> Floats:
    """(N, V) logits of heads that did not see the row: each fold's by a fit on the others. folds : (N,)"""
    found = np.zeros_like(present)
    for fold in np.unique(folds):
        rows, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        made = fit(seen.of(rest), present[rest], weight[rest], how)
        found[rows] = made.logits(seen.of(rows))
    return found


def fit(seen: Seen, present: Floats, weight: Floats, how: How) -> Linear:
    """One weighted linear model per violation: logistic regression, or a support vector machine that is not on a scale yet.

    present, weight : (N, V). A violation of which only one answer is known keeps its log-odds. Photos enter by their first 64
    principal components. Where sellers' categories are read each row counts twice, told and, with the share `hide_said` of its
    weight, as if nobody had told: the expectation of hiding it at random.
    """
    projection = _components(seen.photos, how.photos)
    rows = _columns(seen, projection)
    if seen.said is not None and how.hide_said:
        rows = vstack([rows, _columns(seen.untold(), projection)]).tocsr()
        present, weight = np.vstack([present] * 2), np.vstack([weight * (1 - how.hide_said), weight * how.hide_said])
    bias, found = log_odds(present, weight), np.zeros((rows.shape[1], present.shape[1]), np.float32)
    for head in range(present.shape[1]):
        known = weight[:, head] > 0
        answers = present[known, head]
        if len(set(answers.tolist())) < 2:
            continue
        model = _model(how)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # what is not quite at its optimum is judged as it is
            model.fit(rows[known], answers, sample_weight=weight[known, head])
        found[:, head], bias[head] = model.coef_[0], model.intercept_[0]
    return _parted(found, bias, seen, projection)


def _model(how: How) -> LogisticRegression | LinearSVC:
    about = {"tol": TOLERANCE[how.loss], "max_iter": MAX_ITERATIONS, "random_state": 0}
    if how.loss == LOGISTIC:
        return LogisticRegression(C=how.strength, solver="liblinear", **about)
    return LinearSVC(C=how.strength * HINGE_STRENGTH, loss=how.loss, dual="auto", **about)


def brought_to_scale(
    seen: Seen, present: Floats, weight: Floats, how: How, folds: NDArray[np.int64]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Scale and shift (V,) of heads that are fitted this way on all rows, the error (V,) of that scale (`scale_of`).

    Then the (N, V) held-out logits on that scale. Where a scale cannot be had, logits stay as they are, and a margin of -1, where
    a hinge puts what is surely fine, says as much as no listing at all: the violation's log-odds.
    """
    found = held_out(seen, present, weight, how, folds)
    unknown = np.zeros(present.shape[1], np.float32) if how.loss == LOGISTIC else log_odds(present, weight) + 1
    scale, shift, error = scale_of(found, present, weight, unknown)
    return scale, shift, error, np.asarray(found * scale + shift, np.float32)


def _columns(seen: Seen, projection: Floats) -> csr_matrix:
    """(N, n) all that heads see, side by side."""
    dense = np.hstack([seen.photos @ projection, seen.numbers * NUMBER_SCALE])
    kinds = [kind for kind in (seen.said, seen.predicted) if kind is not None]
    rows = hstack([seen.ngrams, csr_matrix(dense), *kinds]).tocsr()
    rows.sort_indices()  # or each head's fit does it again
    return rows


def _parted(weights: Floats, bias: Floats, seen: Seen, projection: Floats) -> Linear:
    """The weights (n, V) of `_columns` by what they weigh."""
    widths = [seen.ngrams.shape[1], projection.shape[1], seen.numbers.shape[1]]
    widths += [0 if kind is None else kind.shape[1] for kind in (seen.said, seen.predicted)]
    text, photos, numbers, said, predicted = np.split(weights, np.cumsum(widths)[:-1])
    dense = np.vstack([projection @ photos, numbers * NUMBER_SCALE]).astype(np.float32)
    kinds = (None if kind is None else part for kind, part in ((seen.said, said), (seen.predicted, predicted)))
    return Linear(text, dense, bias, *kinds)


def scale_of(logits: Floats, present: Floats, weight: Floats, unknown: Floats | float = 0.0) -> tuple[Floats, Floats, Floats]:
    """Scale (V,) above 0 and shift (V,) with which (N, V) held-out logits are as sure as they are often right (Platt 1999).

    Then the standard error (V,) of a logit on that scale where it says SURE, MAX_ERROR at most. 1, `unknown` and 0 for a head
    with fewer than ten of either answer, or whose logits do not clearly point the right way.
    """
    scale, shift, error = (np.full(logits.shape[1], value, np.float32) for value in (1.0, unknown, 0.0))
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


def _components(photos: Floats, length: float) -> Floats:
    """(F, 64) directions in which the photos differ most; a photo's components have this root mean square `length` together."""
    there = photos[np.abs(photos).sum(1) > 0][:MAX_DECOMPOSED]
    found = np.zeros((photos.shape[1], N_COMPONENTS), np.float32)
    if len(there) < 2:
        return found
    apart = there - there.mean(0)
    sizes, shares = np.linalg.eigh(apart @ apart.T)  # of photos, which are fewer than features: much quicker than an SVD
    kept = np.flatnonzero(sizes > sizes[-1] * LEAST_OF_LARGEST)[-N_COMPONENTS:]
    directions = apart.T @ shares[:, kept] / np.sqrt(sizes[kept])
    longest = np.sqrt(np.square(there @ directions).sum(1).mean())
    found[:, : len(kept)] = directions * length / max(float(longest), 1e-6)
    return found


def log_odds(present: Floats, weight: Floats) -> Floats:
    """(V,) of (N, V) answers and their weights; half an answer is added to either side."""
    positive, negative = (present * weight).sum(0) + 0.5, ((1 - present) * weight).sum(0) + 0.5
    odds: Floats = np.log(positive / negative).astype(np.float32)
    return odds
