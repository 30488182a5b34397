"""The violation heads: linear in n-grams and, by option, the category, and then in photos (`trainer.sight`).

Violations are rare. Trained by small steps beside the category, their few positives drown: average precision on real ads stayed
at half of what a linear model reaches that is fitted to its optimum at once, by liblinear, in less than a second. A hinge finds
more than the logistic loss: the many listings that are surely fine stop counting once they are past the margin. Margins are no
log-odds, so held-out rows bring them to that scale.
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack, vstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from trainer import sight
from trainer.config import HINGE, LOGISTIC, SQUARED_HINGE
from trainer.scale import MAX_ERROR, known_heads, scale_of

HINGE_STRENGTH = 0.01
"""C of the hinges beside that of the logistic loss."""

MAX_ITERATIONS = 1000
TOLERANCE = {LOGISTIC: 1e-3, SQUARED_HINGE: 1e-3, HINGE: 1e-2}
USUAL_SLOPE = 5.0
"""Log-odds of a unit of a hinge's margin where it cannot be told; where it can, generated catalogs have 5 to 11."""

N_FOLDS = 4
"""Of the heads whose held-out logits are looked at."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class How:
    """A way to fit the heads."""

    loss: str = LOGISTIC
    strength: float = 30.0  #: C where the loss is logistic: how little weights are held back
    title: float = 0.4  #: how loud the characters of a title are, beside blocks of n-grams of length 1
    hide_said: float = 0.0  #: how much of a row's weight counts as if no seller had named a category


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the heads see of N listings."""

    ngrams: csr_matrix  #: (N, n_buckets), weighed
    photos: Floats  #: (N, F) mean view, 0 = none
    said: csr_matrix | None = None  #: (N, C) the seller's category (`trainer.kind`), where heads read it
    predicted: csr_matrix | None = None  #: (N, C) the category head's, where heads read it

    def __len__(self) -> int:
        return len(self.photos)

    def of(self, rows: NDArray[np.int64]) -> "Seen":
        """These rows."""
        said, predicted = (None if part is None else part[rows] for part in (self.said, self.predicted))
        return Seen(self.ngrams[rows], self.photos[rows], said, predicted)

    @property
    def blind(self) -> "Seen":
        """The same without photos, which need not be carried along where they have no weight."""
        return replace(self, photos=self.photos[:, :0])

    def untold(self) -> "Seen":
        """The same as if no seller had named a category: the first column says so, as loud as a category speaks."""
        if self.said is None:
            return self
        n = len(self)
        loud = np.full(n, self.said.data.max(initial=0), np.float32)
        return replace(self, said=csr_matrix((loud, (np.arange(n), np.zeros(n, np.int64))), self.said.shape))


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """Logits = n-grams @ text + mean views @ photos + kinds @ their weights + bias."""

    text: Floats  #: (n_buckets, V)
    photos: Floats  #: (F, V)
    bias: Floats  #: (V,)
    said: Floats | None = None  #: (C, V)
    predicted: Floats | None = None  #: (C, V)

    def logits(self, seen: Seen) -> Floats:
        """(N, V) of these rows."""
        found = seen.ngrams @ self.text + seen.photos @ self.photos + self.bias
        for kind, weights in ((seen.said, self.said), (seen.predicted, self.predicted)):
            found = found if kind is None or weights is None else found + kind @ weights
        return np.asarray(found, np.float32)

    def dense(self, n: int) -> Floats:
        """(V, n) weights of photos and of what detectors have beside them: numbers, which have none."""
        return np.pad(self.photos.T, ((0, 0), (0, n - len(self.photos))))

    def scaled(self, scale: Floats, shift: Floats | float = 0.0) -> "Linear":
        """The heads whose logits are `scale` (V,) times these and `shift` (V,) more."""
        kinds = (None if kind is None else kind * scale for kind in (self.said, self.predicted))
        return Linear(self.text * scale, self.photos * scale, np.asarray(self.bias * scale + shift, np.float32), *kinds)


def folds_of(groups: NDArray[np.generic], n: int, seed: int) -> NDArray[np.int64]:
    """(N,) one of n folds for each row, the same for rows of one near-duplicate group."""
    of_row = np.unique(groups, return_inverse=True)[1]
    return np.random.default_rng(seed).permutation(of_row.max(initial=0) + 1)[of_row] % n


def held_out(seen: Seen, present: Floats, weight: Floats, how: How, folds: NDArray[np.int64]) -> Floats:
    """(N, V) logits of heads that did not see the row: each fold's by a fit on the others. folds : (N,)"""
    seen, found = seen.blind, np.zeros_like(present)
    for fold in np.unique(folds):
        rows, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        made = fit(seen.of(rest), present[rest], weight[rest], how)
        found[rows] = made.logits(seen.of(rows))
    return found


def fit(seen: Seen, present: Floats, weight: Floats, how: How) -> Linear:
    """One weighted linear model per violation: logistic regression, or a support vector machine that is not on a scale yet.

    present, weight : (N, V). A violation of which only one answer is known keeps its log-odds. Photos have no weight. Where
    sellers' categories are read each row counts twice, told and, with the share `hide_said` of its weight, as if nobody had told:
    the expectation of hiding it at random.
    """
    rows = _columns(seen)
    if seen.said is not None and how.hide_said:
        rows = vstack([rows, _columns(seen.untold())]).tocsr()
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
    return _parted(found, bias, seen)


def _model(how: How) -> LogisticRegression | LinearSVC:
    about = {"tol": TOLERANCE[how.loss], "max_iter": MAX_ITERATIONS, "random_state": 0}
    if how.loss == LOGISTIC:
        return LogisticRegression(C=how.strength, solver="liblinear", **about)
    return LinearSVC(C=how.strength * HINGE_STRENGTH, loss=how.loss, dual="auto", **about)


def _columns(seen: Seen) -> csr_matrix:
    """(N, n) all that heads see but photos, side by side."""
    kinds = [kind for kind in (seen.said, seen.predicted) if kind is not None]
    rows = hstack([seen.ngrams, *kinds]).tocsr()
    rows.sort_indices()  # or each head's fit does it again
    return rows


def _parted(weights: Floats, bias: Floats, seen: Seen) -> Linear:
    """The weights (n, V) of `_columns` by what they weigh."""
    widths = [seen.ngrams.shape[1], *(0 if kind is None else kind.shape[1] for kind in (seen.said, seen.predicted))]
    text, said, predicted = np.split(weights, np.cumsum(widths)[:-1])
    unseen = np.zeros((seen.photos.shape[1], weights.shape[1]), np.float32)
    kinds = (None if kind is None else part for kind, part in ((seen.said, said), (seen.predicted, predicted)))
    return Linear(text, unseen, bias, *kinds)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Heads, and what is known of them from rows that they did not see."""

    head: Linear
    logits: Floats  #: (N, V) of the rows that it was fitted on, by heads that were fitted on other near-duplicate groups
    error: Floats  #: (V,) standard error of a logit where it says SURE; 0 where no scale was asked for, or only one answer known


def fitted(
    seen: Seen,
    present: Floats,
    weight: Floats,
    groups: NDArray[np.generic],
    how: How,
    *,
    is_scaled: bool,
    folds: NDArray[np.int64],
) -> Fitted:
    """Heads, brought to scale (`trainer.scale`) where that is asked for or their loss has none, and what photos add.

    groups : (N,) near-duplicates, which count once for the scale; folds : (N,), what is held out together. Where a hinge's scale
    cannot be told it has the usual one, the largest error, and on average says what no listing at all says: the log-odds.
    """
    alone = one_of_each(groups, weight)
    found, head = held_out(seen, present, weight, how, folds), fit(seen, present, weight, how)
    scale, shift, error = _scale(found, present, weight, alone, how, is_scaled=is_scaled)
    found, head = np.asarray(found * scale + shift, np.float32), head.scaled(scale, shift)
    told = known_heads(present[alone], weight[alone])
    photos, more = sight.added(seen.photos, found, present, weight, told, folds)
    return Fitted(replace(head, photos=photos), found + more, error)


def _scale(
    logits: Floats, present: Floats, weight: Floats, alone: NDArray[np.int64], how: How, *, is_scaled: bool
) -> tuple[Floats, Floats, Floats]:
    """What `scale_of` says of held-out logits (N, V), one row of each group; a loss with a scale of its own keeps it."""
    if how.loss == LOGISTIC and not is_scaled:
        return np.ones(logits.shape[1], np.float32), *np.zeros((2, logits.shape[1]), np.float32)
    if how.loss == LOGISTIC:
        return scale_of(logits[alone], present[alone], weight[alone])
    start = log_odds(present, weight) - USUAL_SLOPE * _mean(logits, weight)
    scale, shift, error = scale_of(logits[alone], present[alone], weight[alone], USUAL_SLOPE, start)
    is_unknown = (error == 0) & known_heads(present, weight, 1)
    return scale, shift, np.where(is_unknown, np.float32(MAX_ERROR), error)


def one_of_each(groups: NDArray[np.generic], weight: Floats) -> NDArray[np.int64]:
    """Of each near-duplicate group the row that counts most."""
    order = np.argsort(-weight.sum(1), kind="stable")
    found: NDArray[np.int64] = order[np.unique(groups[order], return_index=True)[1]]
    return found


def _mean(logits: Floats, weight: Floats) -> Floats:
    """(V,) weighted; 0 where nothing counts."""
    found: Floats = ((logits * weight).sum(0) / np.maximum(weight.sum(0), 1e-6)).astype(np.float32)
    return found


def log_odds(present: Floats, weight: Floats) -> Floats:
    """(V,) of (N, V) answers and their weights; half an answer is added to either side."""
    positive, negative = (present * weight).sum(0) + 0.5, ((1 - present) * weight).sum(0) + 0.5
    odds: Floats = np.log(positive / negative).astype(np.float32)
    return odds
