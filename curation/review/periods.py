"""Accuracy and noise by the date of the listings, so that a drift is seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from curation.quality.metrics import Estimate
from curation.quality.periods import By, Series, period_of, series
from curation.review.judged import Judged


class Figure(StrEnum):
    """What is followed over time."""

    #: the held-out model's answer is the current label
    AGREEMENT = "agreement"
    #: the same among listings that moderators decided: mostly doubted ones, so lower than over all
    ACCURACY = "accuracy"
    #: the same among the decided listings of the audit sample, which was drawn uniformly
    AUDIT_ACCURACY = "audit_accuracy"
    #: share of the audit sample whose seller's category moderators changed
    NOISE = "noise"


@dataclass(frozen=True, slots=True)
class Period:
    """One stretch of time; a figure is None where nothing was counted."""

    name: str
    n: int  #: listings
    figures: Mapping[Figure, Estimate | None]
    drifts: tuple[Figure, ...]  #: worse than in every earlier period, intervals apart


@dataclass(frozen=True, slots=True)
class History:
    """Periods from the first to the last; those without a listing are left out."""

    run_id: int
    dated_by: str  #: `listed_at`, or `first_seen` where no listing has a date of its own
    n_undated: int
    periods: tuple[Period, ...]


def history(judged: Judged, by: By) -> History:
    """The four figures of each period of the listings' own dates (in UTC), with 95 % Wilson intervals.

    A listing without a date is counted in `n_undated` only. Where no listing has one, the time it was first read here is
    taken, and `dated_by` says so.
    """
    own = any(at is not None for at in judged.listed_at)
    dates = judged.listed_at if own else judged.created_at
    dated = np.array([at is not None for at in dates], dtype=bool)
    names = sorted({period_of(at, by) for at in dates if at is not None})
    index = {name: i for i, name in enumerate(names)}
    period = np.array([index[period_of(at, by)] if at is not None else 0 for at in dates], dtype=np.int64)
    found = _series(judged, period, dated, len(names))
    sizes = np.bincount(period[dated], minlength=len(names))
    periods = tuple(
        Period(
            name,
            int(sizes[i]),
            {figure: one.shares[i] for figure, one in found.items()},
            tuple(figure for figure, one in found.items() if one.is_drift[i]),
        )
        for i, name in enumerate(names)
    )
    return History(judged.run_id, "listed_at" if own else "first_seen", int((~dated).sum()), periods)


def _series(judged: Judged, period: NDArray[np.int64], dated: NDArray[np.bool_], n: int) -> dict[Figure, Series]:
    best = np.asarray(judged.oos.pred_probs).argmax(axis=1) if len(judged.oos.refs) else np.zeros(0, dtype=np.int64)
    answers = [judged.oos.classes[best[row]] if row >= 0 else None for row in judged.row]
    right = np.array([answer == label for answer, label in zip(answers, judged.label, strict=True)], dtype=bool)
    both = dated & (judged.row >= 0) & np.array([label is not None for label in judged.label], dtype=bool)
    return {
        Figure.AGREEMENT: series(period, right, both, n),
        Figure.ACCURACY: series(period, right, both & judged.is_verified, n),
        Figure.AUDIT_ACCURACY: series(period, right, both & judged.is_verified & judged.is_audited, n),
        Figure.NOISE: series(period, judged.is_wrong, dated & judged.is_decided, n, lower_is_worse=False),
    }
