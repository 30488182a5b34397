"""The worker job `consensus`: calibrated CROWDLAB (`quality/crowd.py`) over all listings with several votes.

The crowd decides ties and says how sure a label is; it never goes against two people who agree in
favour of one who does not. A suggestion taken over unread counts for a fifth of an answer and names no value by itself.
Who disagrees with everybody is named, and what only they have decided is asked again.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Select, case, func, select
from sqlalchemy.orm import Session

from curation import telemetry
from curation.quality.consensus import majority
from curation.quality.crowd import crowdlab
from curation.quality.validate import OutOfSample
from curation.quality.votes import believe, gather
from curation.review import opinions, probabilities, queue
from curation.store import annotations, jobs, labels
from curation.store.jobrun import JobRun
from curation.store.tables import AnnotationRow, JobRow, LabelRow, ListingRow
from curation.store.workspace import get_state, set_state
from curation.types import Question, Vote

JOB = "consensus"
MIN_LISTINGS = 30
"""With fewer listings that have two votes, an annotator's quality cannot be told from chance."""

MIN_TIE_QUALITY = 0.6
"""A tie is decided by the crowd only where it is this sure (one against one with a sure model: 0.65); else a person is asked."""

NOTABLE = 0.05
"""A smaller change of confidence is not written down: every run shifts all of them a little."""

LOW_QUALITY = 0.5
"""Who agrees with the consensus less often than this is careless, or does it on purpose."""

MIN_SHARED = 10
"""Answers shared with others before anybody is called careless."""

MAX_ASKED_AGAIN = 50
"""Listings asked again in one run, so that one careless person does not flood the queue."""

DELAY_S = 30.0
"""Seconds to gather votes before one run over all of them."""

LOOK_AGAIN = 0.001
"""Where too few listings have several votes, they are counted again when the log has grown by this share: the count reads all
of it, and at every vote that would make a hundred thousand votes take the square of it.
"""

SEEN = "consensus.seen"
LOOKED = "consensus.looked"
ANNOTATORS = "consensus.annotators"

log = telemetry.logger("consensus")


@dataclass(frozen=True, slots=True)
class _Voted:
    """One listing with votes of two people or more on which the model has a probability."""

    listing_id: int
    ref: str
    row: int
    votes: tuple[Vote, ...]

    @property
    def read(self) -> tuple[Vote, ...]:
        """The votes that are no suggestions taken over unread."""
        return tuple(vote for vote in self.votes if not annotations.is_rubber_stamp(vote))


@dataclass(frozen=True, slots=True)
class _Crowd:
    """What the crowd says: listing id → (value, quality), and annotator → (quality, answers shared)."""

    decided: Mapping[int, tuple[str, float]]
    quality: Mapping[str, float]
    n_shared: Mapping[str, int]

    @property
    def careless(self) -> list[str]:
        return sorted(name for name, q in self.quality.items() if q < LOW_QUALITY and self.n_shared[name] >= MIN_SHARED)


def consider(session: Session, *, now: datetime) -> bool:
    """Ask for a consensus run if enough listings have several votes and there are new ones; True if asked.

    Cheap enough to be called at every vote: while a run is waiting nothing is counted.
    """
    waiting = select(JobRow.id).where(JobRow.dedupe_key == JOB, JobRow.state == "todo").limit(1)
    if session.execute(waiting).first() is not None:
        return False
    newest = _newest(session)
    if newest <= (get_state(session, SEEN) or {}).get("newest", 0):
        return False
    looked = (get_state(session, LOOKED) or {}).get("newest", -1)
    if looked >= 0 and newest - looked < newest * LOOK_AGAIN:
        return False
    several = _several().limit(MIN_LISTINGS).subquery()
    if session.execute(select(func.count()).select_from(several)).scalar_one() < MIN_LISTINGS:
        if newest * LOOK_AGAIN >= 1:
            set_state(session, LOOKED, {"newest": newest}, now=now)
        return False
    return jobs.enqueue(session, JOB, {}, key=JOB, now=now, delay_s=DELAY_S)


def handle(run: JobRun) -> None:
    """Decide multiply-answered listings by CROWDLAB and keep its estimate of each annotator."""
    found = probabilities.newest(run.workspace)
    with run.workspace.db.read() as session:
        newest = _newest(session)
        voted = _voted(session, found[1]) if found else []
    is_enough = sum(len(item.read) > 1 for item in voted) >= MIN_LISTINGS
    said = _ask(voted, found[1]) if found and is_enough else None
    with run.finishing() as session:
        now = run.workspace.db.now(session)
        if found and said:
            _write(session, voted, said, run_id=found[0], now=now)
        set_state(session, SEEN, {"newest": newest}, now=now)


def _newest(session: Session) -> int:
    return int(session.execute(select(func.max(AnnotationRow.id))).scalar_one() or 0)


def _several() -> Select[Any]:
    """Refs of listings whose category two people or more have said."""
    return annotations.answered(Question.CATEGORY).having(func.count(AnnotationRow.annotator.distinct()) > 1)


def _voted(session: Session, oos: OutOfSample) -> list[_Voted]:
    rows, known = {ref: i for i, ref in enumerate(oos.refs)}, set(oos.classes)
    pairs = session.execute(
        select(ListingRow.ref, ListingRow.id).where(ListingRow.ref.in_(_several())).order_by(ListingRow.id)
    ).all()
    found = []
    for ref, listing_id in pairs:
        votes = _newest_votes(session, ref)
        if ref in rows and len(votes) > 1 and all(vote.value in known for vote in votes):
            found.append(_Voted(listing_id, ref, rows[ref], votes))
    return found


def _newest_votes(session: Session, ref: str) -> tuple[Vote, ...]:
    """One vote a person; none where nobody has read the listing."""
    found = opinions.newest_by_person(annotations.votes(session, ref, Question.CATEGORY))
    return () if all(annotations.is_rubber_stamp(vote) for vote in found) else found


def _ask(voted: Sequence[_Voted], oos: OutOfSample) -> _Crowd:
    people = sorted({vote.annotator for item in voted for vote in item.votes})
    person, index = {name: a for a, name in enumerate(people)}, {path: k for k, path in enumerate(oos.classes)}
    said = [(i, person[vote.annotator], index[vote.value], vote) for i, item in enumerate(voted) for vote in item.votes]
    item, who, label, cast = zip(*said, strict=True)
    votes = gather(item, who, label, (len(voted), len(people), len(index)), [opinions.weight(vote) for vote in cast])
    found = crowdlab(votes, believe(oos.pred_probs[[one.row for one in voted]]), calibrate=True)
    decided = {
        one.listing_id: (oos.classes[k], round(float(q), 4))
        for one, k, q in zip(voted, found.consensus, found.quality, strict=True)
        if _may_decide(one.read, oos.classes[k], float(q))
    }
    quality = {name: round(float(q), 4) for name, q in zip(people, found.annotator_quality, strict=True) if np.isfinite(q)}
    return _Crowd(decided, quality, dict(zip(people, found.n_shared.tolist(), strict=True)))


def _may_decide(votes: Sequence[Vote], value: str, quality: float) -> bool:
    """Never a value nobody named, nor one person's against two who agree, nor a tie it is unsure of."""
    counts = Counter(vote.value for vote in votes)
    if counts[value] == 0 or counts[value] == 1 < max(counts.values()):
        return False
    return quality >= MIN_TIE_QUALITY or not majority(votes).is_tie


def _write(session: Session, voted: Sequence[_Voted], said: _Crowd, *, run_id: int, now: datetime) -> None:
    """Write what changes a label notably, settle the questions, note and act on who is careless."""
    locked = select(ListingRow.id).where(ListingRow.id.in_([item.listing_id for item in voted])).order_by(ListingRow.id)
    session.execute(locked.with_for_update()).all()
    same = [item for item in voted if _newest_votes(session, item.ref) == item.votes]  # others changed while we computed
    changed = {
        item.listing_id: said.decided[item.listing_id]
        for item in same
        if item.listing_id in said.decided and _is_notable(session, item.listing_id, *said.decided[item.listing_id])
    }
    labels.set_crowd(session, Question.CATEGORY, changed, evidence={"run": run_id}, now=now)
    for listing_id in changed:
        queue.settle(session, listing_id, Question.CATEGORY, now=now)
    set_state(session, ANNOTATORS, {"quality": dict(said.quality), "n_listings": len(voted), "careless": said.careless}, now=now)
    if said.careless:
        n_again = queue.ask_again(session, _alone(session, said.careless), limit=MAX_ASKED_AGAIN)
        log.warning("annotators disagree with the consensus", careless=said.careless, n_asked_again=n_again)
        if n_again:
            jobs.enqueue(session, "push", {}, key="push", now=now)


def _is_notable(session: Session, listing_id: int, value: str, quality: float) -> bool:
    row = session.execute(
        select(LabelRow).where(LabelRow.listing_id == listing_id, LabelRow.question == Question.CATEGORY.value)
    ).scalar_one_or_none()
    return row is None or row.value != value or row.confidence is None or abs(row.confidence - quality) >= NOTABLE


def _alone(session: Session, careless: Sequence[str]) -> list[int]:
    """Listings on whose category only these people have answered."""
    by_others = func.sum(case((AnnotationRow.annotator.in_(careless), 0), else_=1))
    refs = annotations.answered(Question.CATEGORY).having(by_others == 0)
    return list(session.execute(select(ListingRow.id).where(ListingRow.ref.in_(refs)).order_by(ListingRow.id)).scalars())
