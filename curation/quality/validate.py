"""What must hold of labels and probabilities before any method is run on them.

cleanlab accepts NaN, wrong row sums and permuted columns silently and then reports nothing or
nonsense; everything here is refused with the rows named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import ProbabilityError

SUM_TOLERANCE = 1e-3
UNLABELLED = -1
IN_SAMPLE = -1


@dataclass(frozen=True, slots=True)
class OutOfSample:
    """Probabilities for rows that the predicting model had not been trained on.

    The provenance travels with the array: `folds` says which fold each row was held out of.
    """

    pred_probs: NDArray[np.floating]  #: (N, K), rows sum to 1
    classes: tuple[str, ...]  #: (K,) column order
    refs: tuple[str, ...]  #: (N,) row order
    folds: NDArray[np.integer]  #: (N,) >= 0; -1 = in-sample, which is refused


def check(oos: OutOfSample, labels: NDArray[np.integer] | None = None) -> None:
    """Raise ProbabilityError unless `oos`, and `labels` (N,) in -1..K-1 if given, can be worked on."""
    check_probabilities(oos.pred_probs)
    n, k = oos.pred_probs.shape
    if len(oos.classes) != k or len(set(oos.classes)) != k:
        raise ProbabilityError(
            f"pred_probs has {k} columns but classes are {len(oos.classes)} ({len(set(oos.classes))} distinct)"
        )
    if len(oos.refs) != n or len(oos.folds) != n:
        raise ProbabilityError(f"pred_probs has {n} rows but refs {len(oos.refs)} and folds {len(oos.folds)}")
    if len(set(oos.refs)) != n:
        raise ProbabilityError(f"{n} rows hold only {len(set(oos.refs))} distinct refs; each listing needs one row")
    in_sample = np.flatnonzero(np.asarray(oos.folds) < 0)
    if in_sample.size:
        raise ProbabilityError(
            f"{in_sample.size} rows are in-sample ({_names(oos.refs, in_sample)}); predict them by a fold that held them out"
        )
    if labels is not None:
        check_labels(labels, n, k)


def check_probabilities(pred_probs: NDArray[np.floating]) -> None:
    """Raise ProbabilityError unless (N, K) is finite, in [0, 1] and each row sums to 1."""
    if pred_probs.ndim != 2 or not np.issubdtype(pred_probs.dtype, np.floating):
        raise ProbabilityError(f"pred_probs must be a (N, K) array of floats, got shape {pred_probs.shape} of {pred_probs.dtype}")
    if pred_probs.size == 0:
        return
    _refuse(~np.isfinite(pred_probs).all(axis=1), "hold NaN or infinity")
    _refuse(np.any((pred_probs < 0) | (pred_probs > 1 + SUM_TOLERANCE), axis=1), "hold values outside [0, 1]")
    sums = pred_probs.sum(axis=1, dtype=np.float64)
    _refuse(sums == 0, "are all zero")
    _refuse(np.abs(sums - 1) > SUM_TOLERANCE, "do not sum to 1")


def check_labels(labels: NDArray[np.integer], n: int, k: int) -> None:
    """Raise ProbabilityError unless `labels` is (n,) of whole numbers in -1..k-1 (-1 = unlabelled)."""
    if labels.shape != (n,):
        raise ProbabilityError(f"labels have shape {labels.shape}, pred_probs have {n} rows")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ProbabilityError(f"labels are {labels.dtype}; give class indices as integers, in the column order of pred_probs")
    wrong = np.flatnonzero((labels < UNLABELLED) | (labels >= k))
    if wrong.size:
        raise ProbabilityError(f"{wrong.size} labels are outside -1..{k - 1}, first rows {wrong[:10].tolist()}")


def _refuse(bad: Any, what: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        raise ProbabilityError(
            f"{rows.size} rows of pred_probs {what}, first rows {rows[:10].tolist()}; mend the model that made them"
        )


def _names(refs: Sequence[str], rows: NDArray[np.integer]) -> str:
    return ", ".join(refs[row] for row in rows[:5])
