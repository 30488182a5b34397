"""Precision against recall, as a run keeps it for its page."""

import numpy as np
import pytest

from curation.errors import InputError
from curation.quality.curves import MAX_POINTS, precision_recall


def test_each_point_is_the_precision_of_one_cut() -> None:
    """Counted by hand on five rows; equal scores are one cut."""
    found = precision_recall(np.array([0.9, 0.8, 0.8, 0.3, 0.1]), np.array([True, True, False, False, True]))
    assert found["score"] == [0.9, 0.8, 0.1]
    assert found["recall"] == pytest.approx([1 / 3, 2 / 3, 1], abs=1e-5)
    assert found["precision"] == pytest.approx([1, 2 / 3, 3 / 5], abs=1e-5)
    assert all(low <= value <= high for low, value, high in zip(found["low"], found["precision"], found["high"], strict=True))


def test_a_long_curve_is_thinned_and_reaches_every_positive() -> None:
    """At most a hundred points, recall never falls, the last is 1."""
    rng = np.random.default_rng(1)
    found = precision_recall(rng.random(5000), rng.random(5000) < 0.2)
    assert len(found["recall"]) == MAX_POINTS and found["recall"][-1] == 1.0
    assert found["recall"] == sorted(found["recall"])


def test_without_a_positive_there_is_no_curve() -> None:
    """Empty columns; scores that are not finite are refused."""
    assert precision_recall(np.array([0.5]), np.array([False]))["score"] == []
    with pytest.raises(InputError, match="finite scores"):
        precision_recall(np.array([np.nan]), np.array([True]))
