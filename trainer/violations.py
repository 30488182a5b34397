"""The violation head: linear in n-grams, photos and numbers, fitted to its optimum at once.

Violations are rare. Trained by small steps beside the category, their few positives drown: average
precision on real ads stayed at half of what logistic regression reaches. The same linear model is
convex, so liblinear finds its best weights in less than a second.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression

N_COMPONENTS = 16
MAX_DECOMPOSED = 600
PHOTO_SCALE = 0.1  # root mean square length of a photo's components, beside n-gram blocks of length 1
NUMBER_SCALE = 0.03
MAX_ITERATIONS = 1000
TOLERANCE = 1e-3
MIN_OF_EACH = 10
"""Rows with and without a violation that the scale of its logits needs."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Linear:
    """Logits = ngrams @ text + other @ dense + bias."""

    text: Floats  #: (n_buckets, V)
    dense: Floats  #: (F + 5, V)
    bias: Floats  #: (V,)

    def logits(self, ngrams: csr_matrix, photos: Floats, numbers: Floats) -> Floats:
        """(N, V) of these rows."""
        found: Floats = np.asarray(ngrams @ self.text + np.hstack([photos, numbers]) @ self.dense + self.bias, np.float32)
        return found


def held_out(
    ngrams: csr_matrix,
    photos: Floats,
    numbers: Floats,
    present: Floats,
    weight: Floats,
    strength: float,
    folds: NDArray[np.int64],
) -> Floats:
    """(N, V) logits of heads that did not see the row: each fold's by a fit on the others. folds : (N,)"""
    found = np.zeros_like(present)
    for fold in np.unique(folds):
        rows, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        made = fit(ngrams[rest], photos[rest], numbers[rest], present[rest], weight[rest], strength)
        found[rows] = made.logits(ngrams[rows], photos[rows], numbers[rows])
    return found


def fit(ngrams: csr_matrix, photos: Floats, numbers: Floats, present: Floats, weight: Floats, strength: float) -> Linear:
    """One weighted logistic regression per violation, with C = `strength`.

    ngrams : (N, n_buckets); photos : (N, F) mean view, 0 = none; numbers : (N, 5) standardised;
    present, weight : (N, V). A violation of which only one answer is known keeps its log-odds.
    Photos enter by their first 16 principal components: more would fit the few positives by heart.
    """
    projection = _components(photos)
    dense = np.hstack([photos @ projection, numbers * NUMBER_SCALE])
    rows = hstack([ngrams, csr_matrix(dense)]).tocsr()
    n_heads, n_text = present.shape[1], ngrams.shape[1]
    text, other = np.zeros((n_text, n_heads), np.float32), np.zeros((dense.shape[1], n_heads), np.float32)
    bias = log_odds(present, weight)
    for head in range(n_heads):
        known = weight[:, head] > 0
        answers = present[known, head]
        if len(set(answers.tolist())) < 2:
            continue
        model = LogisticRegression(C=strength, solver="liblinear", tol=TOLERANCE, max_iter=MAX_ITERATIONS)
        model.fit(rows[known], answers, sample_weight=weight[known, head])
        text[:, head], other[:, head] = model.coef_[0, :n_text], model.coef_[0, n_text:]
        bias[head] = model.intercept_[0]
    n_photo = projection.shape[1]
    return Linear(text, np.vstack([projection @ other[:n_photo], other[n_photo:] * NUMBER_SCALE]).astype(np.float32), bias)


def scale_of(logits: Floats, present: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Scale (V,) above 0 and shift (V,) with which (N, V) held-out logits are as sure as they are often right (Platt 1999).

    1 and 0 for a head with fewer than ten of either answer, or whose logits point the wrong way.
    """
    scale, shift = np.ones(logits.shape[1], np.float32), np.zeros(logits.shape[1], np.float32)
    for head in range(logits.shape[1]):
        known = weight[:, head] > 0
        if np.bincount(present[known, head].astype(int), minlength=2).min() < MIN_OF_EACH:
            continue
        model = LogisticRegression(C=1e3, solver="liblinear", intercept_scaling=10.0)
        model.fit(logits[known, head, None], present[known, head], sample_weight=weight[known, head])
        if model.coef_[0, 0] > 0:
            scale[head], shift[head] = model.coef_[0, 0], model.intercept_[0]
    return scale, shift


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
