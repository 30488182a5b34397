"""What a label probably should be: out-of-sample evidence of the listing, read through a noisy channel.

Somebody with a listing of true class y says class s with probability

    T(y, s) = 1 - e(y)            if s = y,
              e(y) C(y, s)        else,

and the posterior of the true class is q(y | x) T(y, s) / sum (Dawid and Skene 1979, with the model's evidence q as
prior; transitions as in Patrini et al., CVPR 2017). The rates e and the confusions C are estimated by EM from all
rows together, each row left out of what it is judged by. A rate is shared by the class and by whoever said it: the
log odds of a class's rate and of a seller's record add up, so that careless sellers are doubted sooner. What
moderators decided tells confusions and sellers' records; the rates of classes are those of the undecided rows, because
moderators were asked where something looked wrong; for the same reason their mean is held below the upper end of the
interval of decided labels that were wrong. Rates are drawn to the common one, confusions to the siblings of
the class, each by a stated number of rows. Evidence is a sum of views (text, photos, …), each divided by a scale: the one
at which moderators' decisions are most probable, each read as if it were not known. Moderators were mostly asked where
evidence and label disagree; that is given in what is maximised, but views that led to a question are seen at their worst.
With few decisions it is the scale that makes what was said most likely, which takes too sharp a view's errors for sellers'.

Only candidates are looked at: cost and memory are O(N k), whatever the number of classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, logit

from curation.errors import InputError
from curation.quality.metrics import wilson
from curation.quality.validate import UNLABELLED

CLASS_PRIOR = 5.0
"""Rows of everybody's rate that a class's own rate is drawn to."""

SELLER_PRIOR = 4.0
"""The same of a seller's rate."""

CONFUSION_PRIOR = 10.0
"""Rows that a class's confusions are drawn to its siblings by."""

SIBLING_SHARE = 0.85
"""Share of unseen confusions that stay under the same root."""

RATE_BOUNDS = (0.005, 0.97)
N_ROUNDS = 15
SCALED_AT = (0, 2, 6, 10)
"""Rounds in which the scales of the views are fitted anew."""

MIN_DECIDED = 50
"""Decided rows from which on they choose the scales."""

N_TELLING = 20_000
"""At most so many rows choose them."""

LEAST_PROBABLE = 1e-4
"""A decision that no scale can explain, a mistaken one perhaps, weighs no more than this."""

START_RATE = 0.2
TINY = 1e-30

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class View:
    """One kind of evidence: log odds of N rows and their k candidates; equal within a row where it knows nothing."""

    name: str
    scores: Floats  #: (N, k)
    scales: tuple[float, ...]  #: among which the best is taken; infinity = not used


@dataclass(frozen=True, slots=True)
class Said:
    """What was said about N listings, by whom, and what is known for sure."""

    label: Ints  #: (N,) class that the seller chose, -1 = none
    seller: Ints  #: (N,) 0 … S-1, -1 = unknown
    truth: Ints  #: (N,) class that moderators decided, -1 = unknown

    def of(self, rows: Ints) -> "Said":
        """Of these rows."""
        return Said(self.label[rows], self.seller[rows], self.truth[rows])

    @property
    def judged(self) -> NDArray[np.bool_]:
        """(N,) said and decided."""
        return np.asarray((self.label != UNLABELLED) & (self.truth != UNLABELLED))

    @property
    def tells_scales(self) -> bool:
        """Enough was decided for the scales of the views to be chosen by it."""
        return bool(self.judged.sum() >= MIN_DECIDED)

    @property
    def most_wrong(self) -> float:
        """Upper bound of the share of wrong labels. People are asked where something looks wrong; of the others no more are."""
        if not self.tells_scales:
            return RATE_BOUNDS[1]
        wrong = self.label[self.judged] != self.truth[self.judged]
        return min(RATE_BOUNDS[1], wilson(int(wrong.sum()), len(wrong)).high)


@dataclass(frozen=True, slots=True)
class Posterior:
    """What the labels of N rows probably should be."""

    classes: Ints  #: (N, k) candidates
    p: Floats  #: (N, k) their probabilities, rows sum to 1
    unseen: Floats  #: (N, k) the same where moderators decided as if this row were undecided
    wrong: Floats  #: (N,) probability that what was said is wrong; 0 where nothing was said
    rate: float  #: mean of `wrong` over what was said
    scales: dict[str, float]  #: of the views; infinity = not used
    log_likelihood: float  #: mean over what was said

    @property
    def best(self) -> Ints:
        """(N,) most probable class."""
        return np.take_along_axis(self.classes, self.p.argmax(1)[:, None], 1)[:, 0]


def candidates(scores: NDArray[np.floating], said: Said, k: int) -> Ints:
    """(N, k) classes worth looking at: what was said and decided, and the best of dense (N, K) scores; each once."""
    forced = np.array(scores, dtype=np.float64)
    rows = np.arange(len(forced))
    for named in (said.label, said.truth):
        known = named != UNLABELLED
        forced[rows[known], named[known]] = np.inf
    k = min(k, forced.shape[1])
    found: Ints = np.sort(np.argpartition(-forced, k - 1, axis=1)[:, :k], axis=1).astype(np.int64)
    return found


def read(views: Sequence[View], classes: Ints, said: Said, root_of: NDArray[np.integer]) -> Posterior:
    """The posterior of the true class of each row, by EM over all of them.

    `classes`: (N, k) candidates, each row's distinct, what was said and decided among them. `root_of`: (K,) branch
    of each class. Raises InputError if the arrays do not fit together or a score is not finite.
    """
    _check(views, classes, said, root_of)
    model = _Channel(classes, said, root_of)
    scales = {view.name: view.scales[len(view.scales) // 2] for view in views}
    evidence = _evidence(views, scales)
    p = unseen = np.zeros(classes.shape)
    transition = model.first()
    likelihood = 0.0
    for n_round in range(N_ROUNDS):
        if n_round in SCALED_AT:
            scales = _fitted(views, scales, transition, model)
            evidence = _evidence(views, scales)
        unseen, total = _posterior(evidence, transition)
        likelihood = float(np.log(total[model.spoken]).mean()) if model.spoken.any() else 0.0
        p = np.where(model.decided[:, None], model.is_true, unseen)
        transition = model.transition(p)
    wrong = np.where(model.spoken, 1 - (p * model.is_said).sum(1), 0.0)
    rate = float(wrong[model.spoken].mean()) if model.spoken.any() else 0.0
    return Posterior(classes, p, unseen, wrong, rate, scales, likelihood)


class _Channel:
    """Counts of one EM: pairs (true, said) are numbered once, so that each round is a few passes over (N, k)."""

    def __init__(self, classes: Ints, said: Said, root_of: NDArray[np.integer]) -> None:
        self.classes = classes
        self.n_classes = len(root_of)
        self.spoken = said.label != UNLABELLED
        self.decided = said.truth != UNLABELLED
        self.is_said = (classes == said.label[:, None]) & self.spoken[:, None]
        self.is_true = (classes == said.truth[:, None]) & self.decided[:, None]
        self.is_told = said.tells_scales
        telling = np.flatnonzero(said.judged if self.is_told else self.spoken)
        self.telling = telling[:: 1 + len(telling) // N_TELLING]
        self.most = said.most_wrong
        self.seller = np.where(self.spoken, said.seller, -1)
        pairs = classes * self.n_classes + np.maximum(said.label, 0)[:, None]
        _, self.pair = np.unique(pairs, return_inverse=True)
        self.pair = self.pair.reshape(classes.shape)
        self.unseen = _unseen(classes, np.maximum(said.label, 0), np.asarray(root_of))

    def first(self) -> Floats:
        """Transitions before anything is known."""
        return self._joined(np.full(self.classes.shape, START_RATE), self.unseen)

    def transition(self, p: Floats) -> Floats:
        """(N, k) probability of what was said, for each candidate as the truth; the row itself left out of the counts."""
        mass = p * self.spoken[:, None]
        moved = np.where(self.is_said, 0.0, mass)
        open_mass, open_moved = mass * ~self.decided[:, None], moved * ~self.decided[:, None]
        total, left = self._per_class(open_mass), self._per_class(open_moved)
        common = self._share(open_moved, self.spoken & ~self.decided)
        own = (left[self.classes] - open_moved + CLASS_PRIOR * common) / (total[self.classes] - open_mass + CLASS_PRIOR)
        too_much = np.maximum(_log_odds(common) - _log_odds(self.most), 0.0)
        rate = expit(_log_odds(own) - too_much + self._seller_shift(moved.sum(1), self._share(moved, self.spoken))[:, None])
        left = self._per_class(moved)
        counts = np.bincount(self.pair.ravel(), weights=moved.ravel())
        confusion = counts[self.pair] - moved + CONFUSION_PRIOR * self.unseen
        return self._joined(np.clip(rate, *RATE_BOUNDS), confusion / (left[self.classes] - moved + CONFUSION_PRIOR))

    def explained(self, evidence: Floats, transition: Floats) -> float:
        """Log-likelihood of the telling rows: of what moderators decided given what was said, or of what was said."""
        p, total = _posterior(evidence, transition)
        if self.is_told:
            total = np.maximum((p * self.is_true[self.telling]).sum(1), LEAST_PROBABLE)
        return float(np.log(total).sum())

    def _joined(self, rate: Floats, confusion: Floats) -> Floats:
        found = np.where(self.is_said, 1 - rate, rate * confusion)
        found[~self.spoken] = 1.0
        return found

    def _per_class(self, mass: Floats) -> Floats:
        found: Floats = np.bincount(self.classes.ravel(), weights=mass.ravel(), minlength=self.n_classes).astype(np.float64)
        return found

    @staticmethod
    def _share(moved: Floats, among: NDArray[np.bool_]) -> float:
        return float(np.clip(moved.sum() / max(int(among.sum()), 1), *RATE_BOUNDS))

    def _seller_shift(self, wrong: Floats, common: float) -> Floats:
        """(N,) log odds of a seller's other labels being wrong, against everybody's."""
        shift = np.zeros(len(wrong))
        known = self.seller >= 0
        if known.any():
            mine = self.seller[known]
            others, n = np.bincount(mine, weights=wrong[known])[mine] - wrong[known], np.bincount(mine)[mine] - 1
            shift[known] = _log_odds((others + SELLER_PRIOR * common) / (n + SELLER_PRIOR)) - _log_odds(common)
        return shift


def _unseen(classes: Ints, said: Ints, root_of: NDArray[np.integer]) -> Floats:
    """(N, k) share of said among the wrong labels of each candidate, before any was seen: mostly siblings."""
    n_classes, sizes = len(root_of), np.bincount(root_of)
    root = root_of[classes]
    n_siblings = sizes[root] - 1
    near = (root == root_of[said][:, None]) / np.maximum(n_siblings, 1)
    share = np.where(n_siblings > 0, SIBLING_SHARE, 0.0)
    return np.asarray(share * near + (1 - share) / max(n_classes - 1, 1))


def _posterior(evidence: Floats, transition: Floats) -> tuple[Floats, Floats]:
    """(N, k) probabilities of the candidates, and (N,) the probability of what was said."""
    joint = np.exp(evidence) * transition
    total = np.maximum(joint.sum(1), TINY)
    return joint / total[:, None], total


def _evidence(views: Sequence[View], scales: dict[str, float]) -> Floats:
    """(N, k) log-probabilities of the candidates by all views."""
    total = np.zeros(views[0].scores.shape)
    for view in views:
        total = total + view.scores / scales[view.name]
    return np.asarray(log_softmax(total, axis=1))


def _fitted(views: Sequence[View], scales: dict[str, float], transition: Floats, model: _Channel) -> dict[str, float]:
    """One view after the other, the scale that explains best what is known."""
    rows, found = model.telling, dict(scales)
    parts = [View(view.name, view.scores[rows], view.scales) for view in views]
    for view in views:
        explained = [model.explained(_evidence(parts, {**found, view.name: scale}), transition[rows]) for scale in view.scales]
        found[view.name] = view.scales[int(np.argmax(explained))]
    return found


def _log_odds(rate: Floats | float) -> Floats:
    return np.asarray(logit(np.clip(rate, *RATE_BOUNDS)))


def _check(views: Sequence[View], classes: Ints, said: Said, root_of: NDArray[np.integer]) -> None:
    n, k = classes.shape
    shapes = {view.scores.shape for view in views}
    if shapes != {(n, k)} or {said.label.shape, said.seller.shape, said.truth.shape} != {(n,)}:
        raise InputError(
            f"views have shapes {sorted(shapes)}, candidates ({n}, {k}), labels {said.label.shape}; give one row each"
        )
    for name, column in (("said", said.label), ("decided", said.truth)):
        known = column != UNLABELLED
        missing = np.flatnonzero(known & ~(classes == column[:, None]).any(1))
        if missing.size:
            raise InputError(f"what was {name} is not among the candidates of {missing.size} rows, first {missing[:10].tolist()}")
    for view in views:
        bad = np.flatnonzero(~np.isfinite(view.scores).all(1))
        if bad.size:
            raise InputError(f"view {view.name} is not finite in {bad.size} rows, first {bad[:10].tolist()}; mend the probe")
    if n and classes.max() >= len(root_of):
        raise InputError(f"candidates name class {classes.max()}, but root_of knows {len(root_of)} classes")
