"""Out-of-sample probabilities of which only the largest were kept. The provenance travels with them, as with dense ones."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from numpy.typing import NDArray

from curation.errors import ProbabilityError
from curation.quality.sparse import TOP, TopK
from curation.quality.validate import UNLABELLED, OutOfSample, check, check_labels

DENSE_CELLS = 10**8
"""N * K probabilities up to which cleanlab's filter is run: 1.4 GB and 2 CPU-s at 100,000 x 1,000."""

TABLE_CELLS = 10**9
"""N * K probabilities up to which a sparse store is filled up to a table: 4 GB of float32."""


@dataclass(frozen=True, slots=True)
class SparseOutOfSample:
    """The k largest of K probabilities of N rows that the predicting model had not been trained on."""

    store: TopK  #: with the labels the rows had when they were predicted, and the exact probabilities of those
    classes: tuple[str, ...]  #: (K,)
    refs: tuple[str, ...]  #: (N,) row order
    folds: NDArray[np.integer]  #: (N,) >= 0; -1 = in-sample, which is refused


def sparse(oos: OutOfSample, labels: NDArray[np.integer], k: int = TOP) -> SparseOutOfSample:
    """The k largest of each row of `oos`, and the exact one of its label (N,), -1 = unlabelled."""
    check(oos, labels)
    return SparseOutOfSample(TopK.of(oos.pred_probs, labels, k), oos.classes, oos.refs, oos.folds)


def dense(oos: SparseOutOfSample) -> OutOfSample:
    """What a sparse store says of all K classes, float32: the label's probability is exact, what is left is spread evenly.

    Raises ProbabilityError above TABLE_CELLS.
    """
    check_sparse(oos)
    n, n_classes = len(oos.store), oos.store.n_classes
    if n * n_classes > TABLE_CELLS:
        raise ProbabilityError(f"{n} rows of {n_classes} classes do not fit into memory as a table; work on the sparse store")
    rest, rows = _rest(oos.store), np.arange(n)
    probs = np.repeat(rest[:, None], n_classes, axis=1)
    named = rows[oos.store.labels != UNLABELLED]
    probs[named, oos.store.labels[named]] = oos.store.p_given[named]
    np.put_along_axis(probs, oos.store.idx.astype(np.int64), oos.store.p, axis=1)
    probs /= probs.sum(axis=1, keepdims=True)
    return OutOfSample(probs, oos.classes, oos.refs, oos.folds)


def check_sparse(oos: SparseOutOfSample, labels: NDArray[np.integer] | None = None) -> None:
    """Raise ProbabilityError unless `oos`, and `labels` (N,) in -1..K-1 if given, can be worked on."""
    n = len(oos.store)
    names = OutOfSample(np.zeros((n, 0), dtype=np.float32), (), oos.refs, oos.folds)
    check(names)
    if len(oos.classes) != oos.store.n_classes or len(set(oos.classes)) != len(oos.classes):
        raise ProbabilityError(
            f"the store has {oos.store.n_classes} classes but classes are {len(oos.classes)} ({len(set(oos.classes))} distinct)"
        )
    oos.store.check()
    if labels is not None:
        check_labels(labels, n, oos.store.n_classes)


def store_of(oos: OutOfSample | SparseOutOfSample, labels: NDArray[np.integer]) -> TopK:
    """The top-k store of these probabilities with `labels` (N,), -1 = unlabelled. Raises ProbabilityError on bad input."""
    if isinstance(oos, OutOfSample):
        check(oos, labels)
        return TopK.of(oos.pred_probs, labels)
    check_sparse(oos, labels)
    return relabelled(oos.store, labels)


def of_refs(oos: OutOfSample | SparseOutOfSample, refs: Collection[str]) -> OutOfSample | SparseOutOfSample:
    """The rows whose ref is among `refs`, in the order of `oos`."""
    rows = np.flatnonzero(np.array([ref in refs for ref in oos.refs], dtype=np.bool_))
    names, folds = tuple(oos.refs[row] for row in rows), np.asarray(oos.folds)[rows]
    if isinstance(oos, SparseOutOfSample):
        return SparseOutOfSample(oos.store.take(rows), oos.classes, names, folds)
    return OutOfSample(oos.pred_probs[rows], oos.classes, names, folds)


@overload
def renamed(oos: OutOfSample, names: Mapping[str, str]) -> OutOfSample: ...


@overload
def renamed(oos: SparseOutOfSample, names: Mapping[str, str]) -> OutOfSample | SparseOutOfSample: ...


def renamed(oos: OutOfSample | SparseOutOfSample, names: Mapping[str, str]) -> OutOfSample | SparseOutOfSample:
    """The classes by their present names; the columns of classes that were merged are added up, for which a sparse store
    is filled up to a table first."""
    paths = [names.get(path, path) for path in oos.classes]
    present = tuple(dict.fromkeys(paths))
    if len(present) == len(paths):
        return replace(oos, classes=present)
    full = dense(oos) if isinstance(oos, SparseOutOfSample) else oos
    column = {path: k for k, path in enumerate(present)}
    probs = np.zeros((len(full.refs), len(present)), dtype=full.pred_probs.dtype)
    for old, path in enumerate(paths):
        probs[:, column[path]] += full.pred_probs[:, old]
    return OutOfSample(probs, present, full.refs, full.folds)


def relabelled(store: TopK, labels: NDArray[np.integer]) -> TopK:
    """The same rows with other labels. Exact where a label is among the k or was there before; elsewhere its probability
    is an even share of what the row leaves over (`n_guessed` counts those rows)."""
    p_given = _rest(store)
    same = labels == store.labels
    p_given[same] = store.p_given[same]
    own = store.idx == np.maximum(labels, 0)[:, None]
    inside = own.any(axis=1)
    p_given[inside] = store.p[inside, own[inside].argmax(axis=1)]
    p_given[labels == UNLABELLED] = 0.0
    return TopK(store.idx, store.p, labels.astype(np.int32), p_given, store.n_classes)


def n_guessed(store: TopK, labels: NDArray[np.integer]) -> int:
    """Rows whose new label is neither among their k nor the label before: `relabelled` has no exact probability for them."""
    inside = (store.idx == np.maximum(labels, 0)[:, None]).any(axis=1)
    return int(((labels != UNLABELLED) & (labels != store.labels) & ~inside).sum())


def _rest(store: TopK) -> NDArray[np.float32]:
    """(N,) what a class has that is neither among the k nor the label: an even share of what is left, at most the last kept."""
    outside = (store.labels != UNLABELLED) & (store.idx != np.maximum(store.labels, 0)[:, None]).all(axis=1)
    left = 1 - store.p.sum(axis=1, dtype=np.float64) - np.where(outside, store.p_given, 0)
    n_left = np.maximum(store.n_classes - store.k - outside, 1)
    return np.asarray(np.minimum(np.maximum(left, 0) / n_left, store.p[:, -1]), dtype=np.float32)
