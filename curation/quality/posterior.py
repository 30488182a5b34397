"""How probable it is that a label is wrong, judged without any verified one.

A model's probabilities answer which label a listing *gets*: a hard listing, a careless seller and an unsure model look
alike in them. Two numbers tell these apart by maximum likelihood of the given labels y, on out-of-sample probabilities p:

    P(y | x) = (1 - rate) q_y(x) + rate u_y(x),   q_j ~ p_j ^ sharpness,   u_y(x) = sum over j != y of q_j(x) M[j, y]

q is the model sharpened or flattened to what it would say of clean labels; u is where wrong labels come from: M[j, y] is
how often listings of class j are given y, from the confident joint, drawn to how frequent y is by MIN_CONFIDENT rows'
worth. A row's own count in the joint is left out of its u. The probability that a label is wrong is the share of
the second term, and its mean is the rate. Noise-adapted calibration in the sense of Goldberger and Ben-Reuven
(ICLR 2017), with the transitions of confident learning.

What the model has learnt of the noise itself counts as right, so the rate is rather low: 11.5, 20, 24 and 43 % on real ads
with 8, 16, 20 and 40 % of added noise and some 6 % of the sellers' own (`tests/benchmarks/suspect_cut.py`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from curation.quality.confident import NO_GUESS, Confidence
from curation.quality.noise import MIN_CONFIDENT
from curation.quality.pairs import PairCounts
from curation.quality.sparse import TopK, chunks
from curation.quality.validate import UNLABELLED

SAMPLE = 200_000
"""Rows that the two numbers are fitted on, evenly spaced; all of them if there are fewer."""

SHARPEST = 10.0
"""Bounds of the sharpness: 1 / SHARPEST … SHARPEST."""

EM_STEPS = 100

TINY = 1e-30

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """The two numbers, and the likelihood that chose them."""

    sharpness: float  #: exponent of the probabilities; above 1 the model was too unsure
    rate: float  #: in [0, 1], share of the labels that is wrong
    log_likelihood: float  #: mean over the rows it was fitted on


@dataclass(frozen=True, slots=True)
class Sources:
    """Where wrong labels come from: transitions M[true, given] out of the confident joint."""

    joint: PairCounts  #: confident rows by [given, true]
    leaving: Floats  #: (K,) confident rows guessed to be of a class and given another
    frequency: Floats  #: (K,) share of each label

    @classmethod
    def of(cls, state: Confidence) -> "Sources":
        """Transitions by the state of confident learning."""
        joint = state.joint
        arriving = np.bincount(joint.guess, weights=joint.counts, minlength=joint.n_classes)
        count = state.sums.count
        return cls(joint, (arriving - joint.diagonal()).astype(np.float64), count / max(int(count.sum()), 1))

    def shares(self, true: NDArray[np.int64], given: NDArray[np.int64], own: NDArray[np.bool_]) -> Floats:
        """M[true, given] elementwise; where `own`, one row less was counted there. 0 where they are the same class."""
        counted = self.joint.get(given * len(self.frequency) + true) - own
        total = self.leaving[true] - own + MIN_CONFIDENT * (1 - self.frequency[true])
        share = (counted + MIN_CONFIDENT * self.frequency[given]) / np.maximum(total, TINY)
        return np.asarray(np.where(true == given, 0.0, share))


def fit(store: TopK, state: Confidence) -> NoiseModel:
    """The sharpness and the rate under which the given labels are most likely; rate 0 if nothing is labelled."""
    labelled = np.flatnonzero(store.labels != UNLABELLED)
    rows = labelled[:: max(1, -(-labelled.size // SAMPLE))]
    if not rows.size or store.n_classes < 2:
        return NoiseModel(1.0, 0.0, 0.0)
    part, sources = store.take(rows), Sources.of(state)
    shares = _shares(part, state.guess[rows], sources)

    def loss(log_sharpness: float) -> float:
        return -_rate(*_terms(part, shares, sources, float(np.exp(log_sharpness))))[1]

    bound = np.log(SHARPEST)
    sharpness = float(np.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 0.02}).x))
    return NoiseModel(sharpness, *_rate(*_terms(part, shares, sources, sharpness)))


def wrong_probability(store: TopK, state: Confidence, model: NoiseModel) -> NDArray[np.float32]:
    """(N,) probability in [0, 1] that the given label is wrong; 0 for unlabelled rows."""
    sources = Sources.of(state)
    wrong = np.zeros(len(store), dtype=np.float32)
    for rows in chunks(len(store), 64 * store.k):
        part = store.take(rows)
        right, other = _terms(part, _shares(part, state.guess[rows], sources), sources, model.sharpness)
        mixed = model.rate * other / np.maximum((1 - model.rate) * right + model.rate * other, TINY)
        wrong[rows] = np.where(part.labels == UNLABELLED, 0.0, mixed)
    return wrong


def _shares(part: TopK, guess: NDArray[np.int32], sources: Sources) -> Floats:
    """(n, k) M[class of the column, given label], the row itself left out."""
    given, true = np.maximum(part.labels, 0).astype(np.int64)[:, None], part.idx.astype(np.int64)
    own = (true == guess[:, None]) & (true != given) & (guess != NO_GUESS)[:, None]
    return sources.shares(true, given, own)


def _terms(part: TopK, shares: Floats, sources: Sources, sharpness: float) -> tuple[Floats, Floats]:
    """(n,) q and u of the given label; what lies outside the top-k counts as spread over the other classes evenly."""
    powers = part.p.astype(np.float64) ** sharpness
    n_left = max(part.n_classes - part.k, 1)
    left = np.maximum(1 - part.p.sum(axis=1, dtype=np.float64), 0.0) * (part.n_classes > part.k)
    outside = n_left * (left / n_left) ** sharpness
    total = np.maximum(powers.sum(axis=1) + outside, TINY)
    frequency = sources.frequency[np.maximum(part.labels, 0)]
    right = part.p_given.astype(np.float64) ** sharpness / total
    return right, ((powers * shares).sum(axis=1) + outside * frequency) / total


def _rate(right: Floats, other: Floats) -> tuple[float, float]:
    """The share of `other` in the mixture that makes it most likely, by EM, and the mean log likelihood."""
    rate = 0.2
    for _ in range(EM_STEPS):
        rate = float(np.mean(rate * other / np.maximum((1 - rate) * right + rate * other, TINY)))
    return rate, float(np.log(np.maximum((1 - rate) * right + rate * other, TINY)).mean())
