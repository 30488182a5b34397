"""A figure over time: shares of each period with their intervals, and where they fell for certain."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from curation.errors import InputError
from curation.quality.metrics import Estimate, share

MIN_PERIOD = 10
"""A share of fewer than this says nothing about drift, neither of its own period nor of a later one."""


class By(StrEnum):
    """How long a period is; weeks are ISO 8601 weeks, Monday first."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Series:
    """One figure, P periods in order."""

    shares: tuple[Estimate | None, ...]  #: (P,) with 95 % Wilson intervals; None where nothing was counted
    is_drift: tuple[bool, ...]  #: (P,) worse than every earlier period, intervals apart


def period_of(at: datetime, by: By) -> str:
    """The period of an aware moment in UTC, as sortable text: 2026-03-01, 2026-W09, 2026-03, 2026-Q1, 2026."""
    if at.tzinfo is None:
        raise InputError(f"time {at.isoformat()} has no time zone; pass an aware datetime")
    day = at.astimezone(UTC)
    match by:
        case By.DAY:
            return day.strftime("%Y-%m-%d")
        case By.WEEK:
            year, week, _ = day.isocalendar()
            return f"{year:04d}-W{week:02d}"
        case By.MONTH:
            return day.strftime("%Y-%m")
        case By.QUARTER:
            return f"{day.year:04d}-Q{(day.month + 2) // 3}"
        case By.YEAR:
            return f"{day.year:04d}"


def series(
    period: NDArray[np.integer],
    hit: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    n_periods: int,
    *,
    lower_is_worse: bool = True,
) -> Series:
    """The share of `hit` among the `counted` rows of each period.

    All three are (N,); `period` is 0 … P-1 in the order of time. A period drifts where its whole interval lies beneath those of
    all earlier ones (above, where more is worse), of at least 10 rows each. Raises InputError on a period out of range.
    """
    if not len(period) == len(hit) == len(counted):
        raise InputError(f"{len(period)} periods, {len(hit)} hits and {len(counted)} marks were given; all need the same rows")
    if len(period) and not 0 <= int(period.min()) <= int(period.max()) < n_periods:
        raise InputError(f"periods go from {period.min()} to {period.max()}; with {n_periods} they must be 0 to {n_periods - 1}")
    total = np.bincount(period[counted], minlength=n_periods)
    right = np.bincount(period[counted & hit], minlength=n_periods)
    shares = tuple(share(int(k), int(n)) for k, n in zip(right, total, strict=True))
    return Series(shares, _drifts(shares, lower_is_worse))


def _drifts(shares: Sequence[Estimate | None], lower_is_worse: bool) -> tuple[bool, ...]:
    found, floor = [], None
    for one in shares:
        if one is None or one.n < MIN_PERIOD:
            found.append(False)
            continue
        low, high = (one.low, one.high) if lower_is_worse else (-one.high, -one.low)
        found.append(floor is not None and high < floor)
        floor = low if floor is None else min(low, floor)
    return tuple(found)
