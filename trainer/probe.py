"""Cheap out-of-sample evidence about every row: closed-form classifiers, each row judged by folds that left it out.

Both are counted once for all rows; a fold's model is the whole less the fold, so that five folds cost little
more than one. They are far from the best classifiers, and hard to mislead: neither can learn a single listing
by heart, which is what a trained network does with wrong labels.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

SMOOTHING = 0.5
RIDGE = 100.0
N_COMPONENTS = 192
N_DECOMPOSED = 500

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Part = tuple[Ints, Floats]
"""Rows that a fold holds out, and their scores (n, K)."""

N_DENSE = 2**23
"""Scores that are dense at a time."""


def text_scores(ngrams: csr_matrix, labels: Ints, folds: Ints, n_classes: int) -> Iterator[Part]:
    """Complement naive Bayes scores (Rennie et al., ICML 2003, §3), best class 0, one fold after the other.

    ngrams : (N, F) weights, none negative; labels : (N,) class, -1 = not used to fit; folds : (N,) the fold that
    holds each row out. A class is described by what all others contain, which is steadier for small ones.
    With n the weight of a term in class c and t in all, the score of a term is -log(1 - n / t), which is zero
    wherever the class does not have it: the model stays as sparse as the texts.
    """
    members = _one_hot(labels, n_classes)
    counts = (members.T @ ngrams).tocsr()
    for fold in np.unique(folds):
        held = np.flatnonzero(folds == fold)
        weights, of_others = _complement((counts - members[held].T @ ngrams[held]).tocsr())
        for part in _parts(held, n_classes):
            found = (ngrams[part] @ weights).toarray() + np.asarray(ngrams[part].sum(1)) * of_others
            yield part, np.asarray(found - found.max(1, keepdims=True))


def _complement(counts: csr_matrix) -> tuple[csr_matrix, Floats]:
    """The weight of each term in each class (F, K), and what each n-gram adds whatever it is (K,)."""
    counts.data = np.maximum(counts.data, 0.0)
    of_term = np.asarray(counts.sum(0)).ravel() + SMOOTHING
    of_others = np.log(of_term.sum() - np.asarray(counts.sum(1)).ravel())
    counts.data = -np.log1p(-np.minimum(counts.data / of_term[counts.indices], 1 - 1e-9))
    return counts.T.tocsr(), of_others


def _parts(rows: Ints, n_classes: int) -> Iterator[Ints]:
    size = max(1, N_DENSE // n_classes)
    return (rows[at : at + size] for at in range(0, len(rows), size))


def photo_scores(photos: NDArray[np.floating], labels: Ints, folds: Ints, n_classes: int) -> Iterator[Part]:
    """Ridge regression of the class indicator on the photos' first components, one fold after the other; 0 without photos.

    photos : (N, F) mean view, all zero = none.
    """
    there = np.abs(photos).sum(1) > 0
    if there.sum() <= N_COMPONENTS:
        for fold in np.unique(folds):
            for part in _parts(np.flatnonzero(folds == fold), n_classes):
                yield part, np.zeros((len(part), n_classes))
        return
    inputs = np.hstack([_components(photos, there), np.ones((len(photos), 1))]) * there[:, None]
    fits = there & (labels >= 0)
    members = _one_hot(np.where(fits, labels, -1), n_classes)
    used = inputs * fits[:, None]
    gram, cross = used.T @ used, (members.T @ inputs).T
    for fold in np.unique(folds):
        held = np.flatnonzero(folds == fold)
        left = gram - used[held].T @ used[held] + RIDGE * np.eye(len(gram))
        weights = np.linalg.solve(left, cross - (members[held].T @ inputs[held]).T)
        for part in _parts(held, n_classes):
            yield part, inputs[part] @ weights


def _components(photos: NDArray[np.floating], there: NDArray[np.bool_]) -> Floats:
    """(N, 192) coordinates along the directions in which a sample of the photos differs most, on one common scale.

    The sample is smaller than a photo is wide, so that its own products are decomposed.
    """
    known = np.flatnonzero(there)
    sample = photos[known[:: max(1, len(known) // N_DECOMPOSED)]].astype(np.float32)
    centred = sample - sample.mean(0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    kept = slice(-1, -N_COMPONENTS - 1, -1)
    directions = (np.ascontiguousarray(vectors[:, kept].T) @ centred) / np.sqrt(np.maximum(values[kept], 1e-6))[:, None]
    found = (photos - sample.mean(0)) @ directions.T
    return np.asarray(found / max(float(found[there].std()), 1e-9), np.float64)


def _one_hot(labels: Ints, n_classes: int) -> csr_matrix:
    rows = np.flatnonzero(labels >= 0)
    return csr_matrix((np.ones(len(rows)), (rows, labels[rows])), shape=(len(labels), n_classes))
