"""Precision against recall at every score one could cut at, thinned to what a chart can show."""

import numpy as np
from numpy.typing import NDArray

from curation.errors import InputError
from curation.quality.thresholds import exact

MAX_POINTS = 100
DIGITS = 5

Columns = dict[str, list[float]]


def precision_recall(scores: NDArray[np.floating], truth: NDArray[np.bool_], *, max_points: int = MAX_POINTS) -> Columns:
    """Columns of equal length, by rising recall: ``score`` (flagged from here on), ``recall``, ``precision``, ``low``, ``high``.

    scores : (N,) finite, truth : (N,). `low` and `high` are the exact 95 % interval of the precision, of one cut looked at by
    itself. A cut stands between two different scores; where there are more than `max_points`, they are taken at even steps of
    recall, the last one always. Empty columns without a positive. Raises InputError if the arrays do not fit.
    """
    if scores.shape != truth.shape or scores.ndim != 1 or not np.isfinite(scores).all():
        raise InputError(f"finite scores and truth of one length are needed, got {scores.shape} and {truth.shape}")
    columns: Columns = {name: [] for name in ("score", "recall", "precision", "low", "high")}
    n_positive = int(truth.sum())
    if not n_positive:
        return columns
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], truth[order].cumsum()
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    for end in _thinned(ends, hits, max_points):
        found = exact(int(hits[end]), int(end) + 1)
        row = (float(ranked[end]), hits[end] / n_positive, found.value, found.low, found.high)
        for name, value in zip(columns, row, strict=True):
            columns[name].append(round(float(value), DIGITS))
    return columns


def _thinned(ends: NDArray[np.int64], hits: NDArray[np.int64], max_points: int) -> list[int]:
    """Of each recall only its best cut, the first; then at most `max_points` of those, evenly."""
    gains = ends[np.flatnonzero(np.diff(hits[ends], prepend=0) > 0)]
    kept = gains[np.unique(np.linspace(0, len(gains) - 1, min(len(gains), max_points)).round().astype(np.int64))]
    return [int(end) for end in kept]
