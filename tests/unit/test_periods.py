"""Periods by name, shares over time and where they fall."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from curation.errors import InputError
from curation.quality.metrics import wilson
from curation.quality.periods import By, period_of, series

EVENING = datetime(2027, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=9)))
"""New Year in Seoul, still 31 December in UTC."""


@pytest.mark.parametrize(
    ("by", "name"),
    [(By.DAY, "2026-12-31"), (By.WEEK, "2026-W53"), (By.MONTH, "2026-12"), (By.QUARTER, "2026-Q4"), (By.YEAR, "2026")],
)
def test_a_moment_belongs_to_its_period_in_utc(by: By, name: str) -> None:
    """Whatever zone it was written in; weeks are ISO weeks."""
    assert period_of(EVENING, by) == name


@pytest.mark.parametrize("by", list(By))
def test_names_sort_as_time_goes(by: By) -> None:
    """Over the turn of years and of ISO years."""
    days = [datetime(2019, 12, 20, tzinfo=UTC) + timedelta(days=i) for i in range(800)]
    names = [period_of(day, by) for day in days]
    assert names == sorted(names)


def test_a_moment_without_a_zone_is_refused() -> None:
    """It could lie in two periods."""
    with pytest.raises(InputError, match="no time zone"):
        period_of(datetime(2026, 1, 1), By.MONTH)  # noqa: DTZ001


def shares(*right: tuple[int, int], lower_is_worse: bool = True) -> list[bool]:
    """Whether each period of (hits, rows) drifts."""
    period = np.repeat(np.arange(len(right)), [n for _, n in right])
    hit = np.concatenate([np.arange(n) < k for k, n in right])
    return list(series(period, hit, np.ones(len(hit), dtype=bool), len(right), lower_is_worse=lower_is_worse).is_drift)


def test_shares_have_wilsons_interval_and_count_only_what_is_counted() -> None:
    """Two of three counted rows; a period without any is None."""
    found = series(np.array([0, 0, 0, 0, 1]), np.array([1, 1, 0, 0, 1], bool), np.array([1, 1, 1, 0, 0], bool), 2)
    first, second = found.shares
    assert first and (first.value, first.n) == (2 / 3, 3) and second is None
    assert (first.low, first.high) == (wilson(2, 3).low, wilson(2, 3).high)


def test_a_fall_below_all_earlier_periods_is_a_drift() -> None:
    """Not the first period, not one whose interval still touches an earlier one, and not a rise."""
    assert shares((95, 100), (94, 100), (60, 100), (62, 100), (20, 100), (99, 100)) == [False, False, True, False, True, False]


def test_of_noise_a_rise_is_the_drift() -> None:
    """The same, turned round."""
    assert shares((5, 100), (40, 100), (1, 100), lower_is_worse=False) == [False, True, False]


def test_a_thin_period_neither_drifts_nor_hides_a_drift() -> None:
    """Nine rows with an interval as wide as a barn door stand in between."""
    assert shares((95, 100), (5, 9), (50, 100)) == [False, False, True]
    assert shares((95, 100), (0, 9)) == [False, False]


def test_drift_is_seldom_seen_where_there_is_none() -> None:
    """Over 500 histories of twelve months at 90 %, in fewer than one in twenty."""
    rng = np.random.default_rng(0)
    n_false = sum(any(shares(*[(int(k), 100) for k in rng.binomial(100, 0.9, 12)])) for _ in range(500))
    assert n_false < 25


def test_rows_that_do_not_fit_together_are_refused() -> None:
    """Unequal lengths, and a period that is not there."""
    mark = np.ones(2, dtype=bool)
    with pytest.raises(InputError, match="same rows"):
        series(np.array([0]), mark, mark, 1)
    with pytest.raises(InputError, match="must be 0 to 0"):
        series(np.array([0, 1]), mark, mark, 1)


def test_no_rows_and_no_periods() -> None:
    """An empty catalog has an empty history."""
    assert series(np.zeros(0, int), np.zeros(0, bool), np.zeros(0, bool), 0).shares == ()
