"""How much each class counts in the loss of the category, so that a few large ones do not decide it all."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.types import PATH_SEPARATOR

POWERS = {"none": 0.0, "sqrt": 0.5, "inverse": 1.0}
"""Of the class size by which its rows are divided."""

LARGEST = 10.0
"""By what a row's weight is multiplied at most, before all are scaled: a class of one row must not be learnt by heart."""

SMALLEST = 1e-9
"""Size of a class, so that one without rows divides nothing by zero."""

Weights = NDArray[np.float64]


def class_weights(classes: NDArray[np.int64], weight: NDArray[np.floating[Any]], n_classes: int, kind: str) -> Weights:
    """(K,) factor of each class, mean size / its size to the power of `kind`, at most LARGEST times the mean.

    classes : (N,) class of each row, -1 = unknown; weight : (N,) what it counts. The total weight stays as it is.
    """
    known = classes >= 0
    sizes = np.bincount(classes[known], np.asarray(weight, np.float64)[known], n_classes)
    if kind == "none" or not sizes.any():
        return np.ones(n_classes)
    mean = sizes.sum() / np.count_nonzero(sizes)
    found = np.minimum((mean / np.maximum(sizes, SMALLEST)) ** POWERS[kind], LARGEST)
    found = np.where(sizes > 0, found, 1.0)
    balanced: Weights = found * sizes.sum() / (found * sizes).sum()
    return balanced


def report(classes: NDArray[np.int64], weight: NDArray[np.floating[Any]], names: Sequence[str], kind: str) -> dict[str, Any]:
    """What each root counts for before and after: its share of all weight times the number of labelled rows.

    `even` is the number of equally large classes that would be as uneven: exp of the entropy of the classes' shares.
    """
    known = classes >= 0
    plain: Weights = np.bincount(classes[known], np.asarray(weight, np.float64)[known], len(names)).astype(np.float64)
    balanced = plain * class_weights(classes, weight, len(names), kind)
    rows = np.bincount(classes[known], minlength=len(names))
    roots = sorted({name.split(PATH_SEPARATOR)[0] for name in names})
    root_of = np.array([roots.index(name.split(PATH_SEPARATOR)[0]) for name in names])
    by_root = [np.bincount(root_of, values, len(roots)) for values in (rows, plain, balanced)]
    n_rows, before, after = by_root[0], *(total / max(total.sum(), 1e-12) * len(classes[known]) for total in by_root[1:])
    return {
        "balance": kind,
        "even": {"before": _even(plain), "after": _even(balanced), "n_classes": len(names)},
        "roots": {
            root: {"rows": int(n_rows[at]), "before": round(float(before[at]), 1), "after": round(float(after[at]), 1)}
            for at, root in enumerate(roots)
        },
    }


def _even(sizes: Weights) -> float:
    shares = sizes[sizes > 0] / max(sizes.sum(), 1e-12)
    return round(float(np.exp(-(shares * np.log(shares)).sum())), 2)
