"""Everything cleanlab would swallow without a word is refused, with the rows named."""

from dataclasses import replace

import numpy as np
import pytest

from curation.errors import ProbabilityError
from curation.quality.validate import OutOfSample, check

GOOD = OutOfSample(
    np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0], [0.3, 0.3, 0.4]]),
    ("a", "b", "c"),
    ("r0", "r1", "r2", "r3"),
    np.array([0, 1, 0, 1]),
)
LABELS = np.array([0, 1, -1, 2])


def test_good_arrays_pass() -> None:
    """Also as float32, and with rows that sum to 1 only nearly."""
    check(GOOD, LABELS)
    check(replace(GOOD, pred_probs=(GOOD.pred_probs * 1.0005).clip(max=1).astype(np.float32)), LABELS.astype(np.int16))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([np.nan, 0.5, 0.5], "hold NaN or infinity"),
        ([np.inf, 0.0, 0.0], "hold NaN or infinity"),
        ([0.25, 0.15, 0.1], "do not sum to 1"),
        ([0.0, 0.0, 0.0], "are all zero"),
        ([-0.1, 0.6, 0.5], "outside"),
        ([1.2, 0.0, 0.0], "outside"),
    ],
)
def test_a_bad_row_is_named(row: list[float], message: str) -> None:
    """One row of four is wrong: the message says which (faults 34, 35)."""
    probs = GOOD.pred_probs.copy()
    probs[2] = row
    with pytest.raises(ProbabilityError, match=rf"1 rows of pred_probs .*{message}.*\[2\]"):
        check(replace(GOOD, pred_probs=probs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("a", "b")}, "3 columns but classes are 2"),
        ({"classes": ("a", "b", "b")}, "2 distinct"),
        ({"refs": ("r0",)}, "refs 1"),
        ({"refs": ("r0", "r0", "r1", "r2")}, "3 distinct refs"),
        ({"folds": np.array([0, 1])}, "folds 2"),
        ({"folds": np.array([0, -1, 0, -1])}, r"2 rows are in-sample \(r1, r3\)"),
        ({"pred_probs": np.ones(4)}, r"shape \(4,\)"),
        ({"pred_probs": np.eye(4, 3, dtype=int)}, "int64"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(change: dict[str, object], message: str) -> None:
    """Wrong number of classes, duplicate names, in-sample rows, wrong shapes and types (faults 35, 37)."""
    with pytest.raises(ProbabilityError, match=message):
        check(replace(GOOD, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.0, 1.0, 2.0, 2.0]), "float64"),
        (np.array(["a", "b", "c", "a"]), "<U1"),
        (np.array([True, False, True, True]), "bool"),
        (np.array([0, 1, 2]), r"shape \(3,\)"),
        (np.array([[0], [1], [2], [0]]), r"shape \(4, 1\)"),
        (np.array([0, 3, 2, 0]), r"outside -1\.\.2, first rows \[1\]"),
        (np.array([0, 1, -2, 0]), r"outside -1\.\.2, first rows \[2\]"),
    ],
)
def test_labels_that_are_no_class_indices_are_refused(labels: np.ndarray, message: str) -> None:
    """Floats, strings, booleans, wrong lengths, indices out of range (fault 35)."""
    with pytest.raises(ProbabilityError, match=message):
        check(GOOD, labels)


def test_an_empty_array_passes() -> None:
    """No rows is no error."""
    check(OutOfSample(np.zeros((0, 2)), ("a", "b"), (), np.zeros(0, dtype=int)), np.zeros(0, dtype=int))
