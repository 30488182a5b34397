"""Doubted labels as an engineer looks at them: filtered, the most doubtful first, and sent to the moderators."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Select, exists, func, select
from sqlalchemy.orm import Session

from curation.release import registry
from curation.review import selection
from curation.review.branches import Names, child
from curation.review.selection import Batch
from curation.settings import Settings
from curation.store import jobs, search
from curation.store.search import Found
from curation.store.tables import LabelRow, ListingRow, ReviewItem, SuspectRow
from curation.store.taxonomy import chunks
from curation.store.workspace import get_state, lock_state
from curation.types import OPEN, LabelSource, Question, Reason

ASKED = "engineer"
"""Reason code of what an engineer asked for."""

MAX_ASKED = 1000
"""Listings sent to the moderators at once."""

LOCK = "review.ask"
SETTLED = (*OPEN, "decided")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which doubted labels: those that all of this holds for."""

    question: Question = Question.CATEGORY
    branch: str = ""  #: the given label lies under it
    given: str = ""
    suggested: str = ""  #: a category, or a branch of them
    least_doubt: float = 0.0  #: in [0, 1], 1 - quality of the label
    is_unasked: bool = False  #: neither open nor decided


@dataclass(frozen=True, slots=True)
class Doubt:
    """One doubted label."""

    rank: int  #: 1 = most doubtful
    listing: Found
    seller: str | None
    given: str | None
    suggested: str
    suggested_score: float  #: probability in [0, 1]
    doubt: float  #: in [0, 1]
    reasons: tuple[Reason, ...]
    asked: str | None  #: state of the question to the moderators, if there is one


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of a wish to ask moderators, in listings."""

    n_sent: int
    n_already: int  #: with the moderators, or decided by them
    n_similar: int  #: near-duplicates of one that is asked about
    n_left: int  #: matching ones that did not fit
    is_connected: bool = True  #: a push will take them to Label Studio


def page(session: Session, wanted: Filter, names: Names, *, after_rank: int = 0, limit: int = 24) -> list[Doubt]:
    """The doubted labels after this rank, most doubtful first. A label that moderators decided is not doubted."""
    columns = (*search.COLUMNS, ListingRow.seller_ref, ReviewItem.state, SuspectRow)
    item = (ReviewItem.listing_id == SuspectRow.listing_id) & (ReviewItem.question == SuspectRow.question)
    query = _matching(select(*columns), wanted, names).outerjoin(ReviewItem, item).where(SuspectRow.rank > after_rank)
    return [_doubt(row) for row in session.execute(query.order_by(SuspectRow.rank).limit(limit))]


def counts(session: Session, question: Question, names: Names, branch: str = "") -> dict[str, int]:
    """Doubted labels by child of the branch that was given; a violation is its own. Reads an index only."""
    query = select(SuspectRow.given, func.count()).where(SuspectRow.question == question.value, SuspectRow.is_issue.is_(True))
    found: dict[str, int] = {}
    mine = names.under(branch) if branch else None
    for given, n in session.execute(query.group_by(SuspectRow.given)):
        if given is not None and (mine is None or given in mine):
            name = child(names.now(given), branch) if question is Question.CATEGORY else given
            found[name] = found.get(name, 0) + n
    return found


def ask(
    session: Session,
    wanted: Filter,
    names: Names,
    settings: Settings,
    *,
    by: str,
    now: datetime,
    rng: np.random.Generator,
    listing_ids: Collection[int] | None = None,
) -> Asked:
    """Open both questions about these listings (None = all that match, up to 1,000) and have them pushed.

    What is open or decided is left as it is, so sending twice is harmless; of near-duplicates one is asked about.
    """
    lock_state(session, LOCK)
    found = _chosen(session, wanted, names, listing_ids)
    settled = _settled(session, [one.listing_id for one in found])
    fresh = [one for one in found if one.listing_id not in settled]
    batch = Batch(set(), groups=_open_groups(session, {one.group_key for one in fresh}))
    n_looked = 0
    for one in fresh:
        if len(batch.main) >= MAX_ASKED:
            break
        batch.add(one.listing_id, one.group_key, _reasons(by, one.reasons), max(0.0, min(1.0, 1 - one.score)))
        n_looked += 1
    is_connected = get_state(session, registry.PROJECT) is not None
    if batch.main:
        selection.open_batch(session, batch, settings, rng, now, n_again=0)
        if is_connected:  # a key of its own: a push that is under way has read the queue already
            jobs.enqueue(session, "push", {}, key=f"push-{now:%Y%m%dT%H%M%S%f}", now=now)
    n_sent = len(batch.main)
    return Asked(n_sent, len(found) - len(fresh), n_looked - n_sent, len(fresh) - n_looked, is_connected)


def _matching(query: Select[Any], wanted: Filter, names: Names) -> Select[Any]:
    query = query.join_from(SuspectRow, ListingRow, ListingRow.id == SuspectRow.listing_id)
    query = query.where(SuspectRow.question == wanted.question.value, SuspectRow.is_issue.is_(True), ~_verified())
    if wanted.branch:
        query = query.where(SuspectRow.given.in_(names.under(wanted.branch)))
    if wanted.given:
        query = query.where(SuspectRow.given.in_(names.under(wanted.given)))
    if wanted.suggested:
        query = query.where(SuspectRow.suggested.in_(names.under(wanted.suggested)))
    if wanted.least_doubt > 0:
        query = query.where(SuspectRow.score <= 1 - wanted.least_doubt)
    return query.where(~_asked()) if wanted.is_unasked else query


def _verified() -> Any:
    mine = (LabelRow.listing_id == SuspectRow.listing_id) & (LabelRow.question == SuspectRow.question)
    return exists().where(mine, LabelRow.source == LabelSource.MODERATORS.value).correlate(SuspectRow)


def _asked() -> Any:
    mine = (ReviewItem.listing_id == SuspectRow.listing_id) & (ReviewItem.question == SuspectRow.question)
    return exists().where(mine, ReviewItem.state.in_(SETTLED)).correlate(SuspectRow)


def _doubt(row: Any) -> Doubt:
    one = row.SuspectRow
    reasons = tuple(Reason(**reason) for reason in one.reasons)
    return Doubt(
        one.rank,
        search.found(row),
        row.seller_ref,
        one.given,
        one.suggested,
        one.suggested_score,
        1 - one.score,
        reasons,
        row.state,
    )


def _chosen(session: Session, wanted: Filter, names: Names, listing_ids: Collection[int] | None) -> Sequence[Any]:
    columns = (SuspectRow.listing_id, SuspectRow.score, SuspectRow.reasons, ListingRow.group_key)
    if listing_ids is None:
        query = _matching(select(*columns), replace(wanted, is_unasked=True), names).order_by(SuspectRow.rank)
        return session.execute(query.limit(4 * MAX_ASKED)).all()
    query = select(*columns).join_from(SuspectRow, ListingRow, ListingRow.id == SuspectRow.listing_id)
    mine = (SuspectRow.question == wanted.question.value, SuspectRow.listing_id.in_(set(listing_ids)))
    return session.execute(query.where(*mine).order_by(SuspectRow.rank)).all()


def _settled(session: Session, listing_ids: Sequence[int]) -> set[int]:
    """Those that are open or decided, or whose category moderators decided unasked."""
    found: set[int] = set()
    for part in chunks(listing_ids):
        items = select(ReviewItem.listing_id).where(ReviewItem.listing_id.in_(part), ReviewItem.state.in_(SETTLED))
        labels = select(LabelRow.listing_id).where(
            LabelRow.listing_id.in_(part),
            LabelRow.question == Question.CATEGORY.value,
            LabelRow.source == LabelSource.MODERATORS.value,
        )
        found.update(session.execute(items.union(labels)).scalars())
    return found


def _open_groups(session: Session, groups: Collection[str]) -> set[str]:
    """Those near-duplicate groups of which a listing is with the moderators now."""
    found: set[str] = set()
    query = select(ListingRow.group_key).join(ReviewItem, ReviewItem.listing_id == ListingRow.id)
    for part in chunks(groups):
        found.update(session.execute(query.where(ListingRow.group_key.in_(part), ReviewItem.state.in_(OPEN))).scalars())
    return found


def _reasons(by: str, found: Sequence[dict[str, Any]]) -> list[Reason]:
    return [Reason(ASKED, 1.0, f"The engineer {by} asked for a look at this label."), *(Reason(**reason) for reason in found)]
