"""Noise rates and confusions as sums of probabilities."""

import numpy as np
import pytest

from curation.quality.expected import ExpectedNoise
from curation.quality.noise import NotEstimable

GIVEN = np.array([0] * 20 + [1] * 10 + [2] * 3 + [-1] * 5)
SUGGESTED = np.array([1] * 10 + [2] * 10 + [0] * 10 + [0] * 3 + [2] * 5)
WRONG = np.array([0.5] * 10 + [0.1] * 10 + [0.0] * 10 + [1.0] * 3 + [0.9] * 5)


def found() -> ExpectedNoise:
    return ExpectedNoise.of(GIVEN, SUGGESTED, WRONG, 4)


def test_rates_are_mean_probabilities_with_an_interval() -> None:
    """Six of twenty are expected to be wrong; unlabelled rows do not count."""
    rate, overall = found().rate(0), found().overall
    assert rate is not None and overall is not None
    assert (rate.value, rate.n) == (pytest.approx(0.3), 20) and rate.low < 0.2 and rate.high > 0.45
    assert (overall.value, overall.n) == (pytest.approx(9 / 33), 33)


def test_thin_and_empty_categories_are_not_estimable() -> None:
    """And it is said why; a clean one has the rate 0."""
    assert [found().rate(k) and found().rate(k).value for k in (1, 2, 3)] == [0.0, None, None]  # type: ignore[union-attr]
    assert [found().why_not(k) for k in range(4)] == [None, None, NotEstimable.FEW_LABELS, NotEstimable.NO_LABELS]


def test_confusions_come_by_size_and_thin_categories_have_no_rate() -> None:
    """A pair with nothing wrong is no confusion."""
    pairs = [(one.given, one.suggested, one.n_wrong, one.rate and round(one.rate.value, 6)) for one in found().confusions()]
    assert pairs == [
        (0, 1, pytest.approx(5), 0.25),
        (2, 0, pytest.approx(3), None),
        (0, 2, pytest.approx(1), 0.05),
    ]
    assert [one.given for one in found().confusions(min_wrong=2)] == [0, 2]


def test_rounding_is_no_error() -> None:
    """Probabilities that leave [0, 1] by the last digits make rates of 0 and 1."""
    beyond = ExpectedNoise.of(np.repeat([0, 1], 10), np.repeat([1, 0], 10), np.repeat([-1e-13, 1 + 1e-13], 10), 2)
    assert [rate and (rate.value, rate.n) for rate in (beyond.rate(0), beyond.rate(1))] == [(0.0, 10), (1.0, 10)]


def test_no_labels_no_figures() -> None:
    """Nothing is made up."""
    none = ExpectedNoise.of(np.full(3, -1), np.zeros(3, dtype=int), np.zeros(3), 2)
    assert none.overall is None and not list(none.confusions())
