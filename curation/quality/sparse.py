"""What confident learning needs of (N, K) probabilities, in 68 bytes a row instead of 4 K.

A catalog of 8.5 million listings in 14,000 categories would need 476 GB of dense float32; its ten largest
probabilities per row need 0.58 GB. Probabilities are kept as float32: with float16 a row near a class's
threshold would change sides, and the only row of a class would fall below its own mean.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from curation.errors import ProbabilityError
from curation.quality.validate import SUM_TOLERANCE, UNLABELLED, check_labels

TOP = 10
"""Probabilities kept per row; decisions then agree with dense ones to Jaccard 0.999 and better.

`tests/benchmarks/confident_learning.py` prints it, and `undecided` in `confident` says of which rows that is certain.
"""

CHUNK_BYTES = 16 * 2**20
"""Temporary memory of a pass over rows; small enough to stay in a processor's cache."""

Rows = slice | NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class TopK:
    """The k largest of K out-of-sample probabilities of N rows, and the exact one of each given label.

    Rows are written in place by `write` and by nothing else. A row whose label is -1 stays in the store and
    does not count. Raises ProbabilityError if the arrays do not fit together.
    """

    idx: NDArray[np.unsignedinteger[Any]]  #: (N, k) class indices by falling probability, equal ones by index
    p: NDArray[np.float32]  #: (N, k) their probabilities
    labels: NDArray[np.int32]  #: (N,) given class index, -1 = unlabelled
    p_given: NDArray[np.float32]  #: (N,) probability of the given label, also where it is not among the k; 0 if unlabelled
    n_classes: int  #: K

    def __post_init__(self) -> None:
        n, k = self.idx.shape if self.idx.ndim == 2 else (-1, -1)
        if n < 0 or self.p.shape != (n, k) or self.labels.shape != (n,) or self.p_given.shape != (n,):
            shapes = [part.shape for part in (self.idx, self.p, self.labels, self.p_given)]
            raise ProbabilityError(f"idx, p, labels, p_given have shapes {shapes}; they must be (N, k), (N, k), (N,), (N,)")
        types = [part.dtype.name for part in (self.idx, self.p, self.labels, self.p_given)]
        wanted = [index_type(self.n_classes).name, "float32", "int32", "float32"]
        if types != wanted:
            raise ProbabilityError(f"idx, p, labels, p_given are {types} for {self.n_classes} classes; give {wanted}")
        if not min(2, self.n_classes) <= k <= self.n_classes:
            raise ProbabilityError(
                f"k = {k} probabilities per row of {self.n_classes} classes; keep at least two and at most all"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def k(self) -> int:
        """Probabilities kept per row."""
        return int(self.idx.shape[1])

    @classmethod
    def of(cls, pred_probs: NDArray[np.floating], labels: NDArray[np.integer], k: int = TOP) -> Self:
        """The store of dense (N, K) probabilities (a memory map will do), read in chunks and never copied whole.

        `labels`: (N,) class index in column order, -1 = unlabelled. k is lowered to K. Raises ProbabilityError
        on rows that hold NaN, infinity or values outside [0, 1], are all zero or do not sum to 1.
        """
        if pred_probs.ndim != 2 or not np.issubdtype(pred_probs.dtype, np.floating):
            raise ProbabilityError(f"pred_probs must be (N, K) floats, got shape {pred_probs.shape} of {pred_probs.dtype}")
        n, n_classes = pred_probs.shape
        check_labels(labels, n, n_classes)
        store, faults = cls.empty(n, n_classes, k), Faults("pred_probs")
        for rows in chunks(n, 20 * n_classes):
            dense = pred_probs[rows]
            faults.note(rows.start, _dense_faults(dense))
            if not faults:
                store.idx[rows], store.p[rows] = _largest(dense.astype(np.float32), store.k)
                store.labels[rows] = labels[rows]
                named = np.flatnonzero(labels[rows] != UNLABELLED)
                store.p_given[rows.start + named] = dense[named, labels[rows][named]]
        faults.refuse()
        return store

    @classmethod
    def empty(cls, n: int, n_classes: int, k: int = TOP) -> Self:
        """Room for `n` rows, to be filled by `write`; a row that was not is refused by `check`."""
        shape = (n, min(k, n_classes))
        return cls(
            idx=np.zeros(shape, dtype=index_type(n_classes)),
            p=np.zeros(shape, dtype=np.float32),
            labels=np.full(n, UNLABELLED, dtype=np.int32),
            p_given=np.zeros(n, dtype=np.float32),
            n_classes=n_classes,
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The rows of all `parts`, in their order; they must agree on k and K."""
        if len({(part.k, part.n_classes) for part in parts}) != 1:
            raise ProbabilityError(f"stores of (k, K) = {[(part.k, part.n_classes) for part in parts]} cannot be joined")
        return cls(
            idx=np.concatenate([part.idx for part in parts]),
            p=np.concatenate([part.p for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            p_given=np.concatenate([part.p_given for part in parts]),
            n_classes=parts[0].n_classes,
        )

    def take(self, rows: Rows) -> Self:
        """A copy of some rows (a view for a slice)."""
        return type(self)(self.idx[rows], self.p[rows], self.labels[rows], self.p_given[rows], self.n_classes)

    def write(self, rows: Rows, part: "TopK") -> None:
        """Put the rows of `part` in the place of `rows`."""
        self.check_fits(part)
        self.idx[rows], self.p[rows], self.labels[rows], self.p_given[rows] = part.idx, part.p, part.labels, part.p_given

    def check_fits(self, part: "TopK") -> None:
        """Raise ProbabilityError unless `part` has this store's k and K."""
        if (part.k, part.n_classes) != (self.k, self.n_classes):
            raise ProbabilityError(
                f"rows of (k, K) = {(part.k, part.n_classes)} do not fit a store of {(self.k, self.n_classes)}"
            )

    def check(self) -> None:
        """Raise ProbabilityError unless every row can be one of probabilities; rows are named by reason."""
        faults = Faults("the top-k store")
        for rows in chunks(len(self), 20 * self.k):
            faults.note(rows.start, _stored_faults(self.take(rows)))
        faults.refuse()

    def best_other(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """(N,) the most probable class other than the given label, and its probability; (0, 0.0) if there is none."""
        best, p_best = self.idx[:, 0].astype(np.int32), self.p[:, 0].copy()
        own = np.flatnonzero(best == self.labels)
        if self.k == 1:
            best[own], p_best[own] = 0, 0.0
        else:
            best[own], p_best[own] = self.idx[own, 1], self.p[own, 1]
        return best, p_best


class Faults:
    """Rows that no method may be run on, gathered by reason over the chunks of one array."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.rows: dict[str, list[NDArray[np.int64]]] = {}

    def __bool__(self) -> bool:
        return bool(self.rows)

    def note(self, start: int, bad: dict[str, NDArray[np.bool_]]) -> None:
        """Add the masks `bad` by reason; row 0 of a mask is row `start` of the array."""
        for reason, mask in bad.items():
            if mask.any():
                self.rows.setdefault(reason, []).append(np.flatnonzero(mask) + start)

    def refuse(self) -> None:
        """Raise ProbabilityError if anything was noted."""
        for reason, parts in self.rows.items():
            rows = np.concatenate(parts)
            raise ProbabilityError(
                f"{rows.size} rows of {self.what} {reason}, first rows {rows[:10].tolist()}; mend the model that made them"
            )


def index_type(n_classes: int) -> np.dtype[Any]:
    """The smallest unsigned type that holds 0 … n_classes - 1."""
    return np.dtype(np.uint16 if n_classes <= 2**16 else np.uint32)


def chunks(n: int, row_bytes: int) -> Iterator[slice]:
    """Slices over `n` rows whose temporaries take `row_bytes` each."""
    size = max(1, CHUNK_BYTES // max(row_bytes, 1))
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _largest(dense: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Columns and values of the k largest of each row, equal ones by column as `argmax` would take them.

    The bits of floats that are not negative sort like integers, so value and column make one key.
    """
    n_classes = dense.shape[1]
    keys = (dense + np.float32(0)).view(np.int32).astype(np.int64) << 32
    keys |= np.arange(n_classes - 1, -1, -1)
    if k < n_classes:
        keys.partition(n_classes - k, axis=1)
        keys = keys[:, n_classes - k :]
    keys = -np.sort(-keys, axis=1)
    return n_classes - 1 - (keys & (2**32 - 1)), (keys >> 32).astype(np.int32).view(np.float32)


def _dense_faults(dense: NDArray[np.floating]) -> dict[str, NDArray[np.bool_]]:
    with np.errstate(invalid="ignore"):
        sums, low, high = dense.sum(axis=1, dtype=np.float64), dense.min(axis=1), dense.max(axis=1)
    return _faults(sums, low, high, np.abs(sums - 1) > SUM_TOLERANCE)


def _stored_faults(part: TopK) -> dict[str, NDArray[np.bool_]]:
    p = part.p
    with np.errstate(invalid="ignore"):
        sums = p.sum(axis=1, dtype=np.float64)
    short = np.abs(sums - 1) > SUM_TOLERANCE if part.k == part.n_classes else sums > 1 + SUM_TOLERANCE
    bad = _faults(sums, p.min(axis=1), p.max(axis=1), short)
    bad["name a class outside the store's"] = part.idx.max(axis=1, initial=0) >= part.n_classes
    ordered = np.sort(part.idx, axis=1)
    bad["name a class twice"] = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    bad["are not sorted by falling probability"] = np.any(p[:, 1:] > p[:, :-1], axis=1)
    bad["have a label outside the classes"] = (part.labels < UNLABELLED) | (part.labels >= part.n_classes)
    bad["give their label a probability that cannot be"] = _wrong_given(part)
    return bad


def _wrong_given(part: TopK) -> NDArray[np.bool_]:
    """The label's probability is in [0, 1], that of its column if it has one, else none above the last column."""
    own = part.idx == part.labels[:, None]
    inside = own.any(axis=1)
    stored = part.p[np.arange(len(part)), own.argmax(axis=1)]
    off = np.where(inside, np.abs(part.p_given - stored) > SUM_TOLERANCE, part.p_given > part.p[:, -1] + SUM_TOLERANCE)
    named = part.labels != UNLABELLED
    return np.asarray(named & (off | ~(part.p_given >= 0)), dtype=np.bool_)


def _faults(
    sums: NDArray[np.float64],
    low: NDArray[np.floating],
    high: NDArray[np.floating],
    off_sum: NDArray[np.bool_],
) -> dict[str, NDArray[np.bool_]]:
    finite = np.isfinite(sums)
    return {
        "hold NaN or infinity": ~finite,
        "hold values outside [0, 1]": finite & ((low < 0) | (high > 1 + SUM_TOLERANCE)),
        "are all zero": finite & (sums == 0),
        "do not sum to 1": finite & off_sum,
    }
