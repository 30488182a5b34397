"""How far moderators agree with each other and how long they take. Not a ranking: few answers say nothing, and tasks differ."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.quality.consensus import majority
from curation.quality.metrics import Estimate, share
from curation.release.labels import renamed_paths
from curation.review.opinions import newest_by_person
from curation.store.annotations import is_rubber_stamp
from curation.store.tables import AnnotationRow
from curation.types import Origin, Outcome, Question, Vote

MIN_ANSWERS = 20
"""With fewer answers nothing is said of a person."""

Z = 1.96


@dataclass(frozen=True, slots=True)
class Person:
    """One moderator's answers to one question. Figures are None under 20 answers."""

    name: str
    question: Question
    n: int  #: answers that count now
    n_compared: int  #: of these, on listings where the others agree on an answer
    agreement: Estimate | None  #: share that is what most of the others said
    median_s: Estimate | None  #: time of an answer in seconds, with a 95 % interval by order statistics


@dataclass(slots=True)
class _Tally:
    n: int = 0
    n_compared: int = 0
    n_agreeing: int = 0
    times_s: list[float] = field(default_factory=list)


def people(session: Session) -> tuple[Person, ...]:
    """Everybody whose answers count now, by name. Reads every answer: for a job, not for a page."""
    found: dict[tuple[str, Question], _Tally] = {}
    renames = renamed_paths(session)
    for (_, question), rows in groupby(_answers(session), key=lambda row: (row.listing_ref, row.question)):
        _count(found, Question(question), [_vote(row, renames) for row in rows])
    return tuple(_person(name, question, tally) for (name, question), tally in sorted(found.items()))


def median(times_s: Iterable[float]) -> Estimate | None:
    """The median with its distribution-free 95 % interval (Conover 1999, §3.2, normal approximation); None without times."""
    ranked = np.sort(np.fromiter(times_s, dtype=np.float64))
    n = len(ranked)
    if not n:
        return None
    spread = Z * math.sqrt(n) / 2
    low, high = max(math.floor(n / 2 - spread), 0), min(math.ceil(n / 2 + spread), n - 1)
    return Estimate(float(np.median(ranked)), float(ranked[low]), float(ranked[high]), n)


def _answers(session: Session) -> Iterator[Any]:
    query = select(AnnotationRow).where(AnnotationRow.is_current.is_(True), AnnotationRow.outcome == Outcome.LABEL.value)
    ordered = query.where(AnnotationRow.listing_ref.is_not(None)).order_by(AnnotationRow.listing_ref, AnnotationRow.question)
    return session.execute(ordered.execution_options(yield_per=5000)).scalars()


def _vote(row: AnnotationRow, renames: dict[str, str]) -> Vote:
    value = row.value or ""
    return Vote(row.annotator, renames.get(value, value), row.at, Origin(row.origin), row.lead_time_s, row.ground_truth, row.id)


def _count(found: dict[tuple[str, Question], _Tally], question: Question, votes: list[Vote]) -> None:
    newest = newest_by_person(votes)
    read = [vote for vote in newest if not is_rubber_stamp(vote)]
    for vote in newest:
        mine = found.setdefault((vote.annotator, question), _Tally())
        mine.n += 1
        if vote.lead_time_s is not None and math.isfinite(vote.lead_time_s):
            mine.times_s.append(vote.lead_time_s)
        others = majority([other for other in read if other.annotator != vote.annotator]).value
        if others is not None:
            mine.n_compared += 1
            mine.n_agreeing += vote.value == others


def _person(name: str, question: Question, tally: _Tally) -> Person:
    agreement = share(tally.n_agreeing, tally.n_compared) if tally.n_compared >= MIN_ANSWERS else None
    speed = median(tally.times_s) if len(tally.times_s) >= MIN_ANSWERS else None
    return Person(name, question, tally.n, tally.n_compared, agreement, speed)
