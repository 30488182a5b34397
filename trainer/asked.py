"""Which violations moderators could have named when they decided a listing: what was added later, nobody denied."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.store.tables import LabelRow
from curation.store.violations import Added
from curation.types import LabelSource, Question, split_violations
from trainer.rows import SnapshotRows

Mask = NDArray[np.bool_]


def decided_at(session: Session) -> dict[int, datetime]:
    """Listing id → when a moderator last spoke about its violations."""
    columns = select(LabelRow.listing_id, LabelRow.evidence, LabelRow.changed_at)
    mine = (LabelRow.question == Question.VIOLATION.value, LabelRow.source == LabelSource.MODERATORS.value)
    return {row.listing_id: _newest(row.evidence, row.changed_at) for row in session.execute(columns.where(*mine))}


def decided_since(session: Session, at: datetime) -> set[int]:
    """Ids of listings about whose violations a moderator spoke at this time or later."""
    return {listing_id for listing_id, spoke_at in decided_at(session).items() if spoke_at >= at}


def asked(rows: SnapshotRows, name: str, decided: Collection[int]) -> Mask:
    """(N,) moderators decided the listing, and knew of this violation: they named it, or decided after it was added."""
    knew = named(rows, name) | np.array([one.id in decided for one in rows.listings], bool)
    return np.asarray(by_moderators(rows) & knew)


def by_moderators(rows: SnapshotRows) -> Mask:
    """(N,) moderators decided about the listing's violations."""
    return np.array([label is not None and label[1] == LabelSource.MODERATORS for label in rows.violation], bool)


def named(rows: SnapshotRows, name: str) -> Mask:
    """(N,) the listing's label names this violation, whoever gave it."""
    return np.array([label is not None and name in split_violations(label[0]) for label in rows.violation], bool)


def reported(rows: SnapshotRows, name: str) -> Mask:
    """(N,) users reported it."""
    return np.array([name in one.flags for one in rows.listings], bool)


def asked_of(rows: SnapshotRows, policy: Sequence[str], added: Sequence[Added], spoke_at: Mapping[int, datetime]) -> Mask:
    """(N, V) the same of every violation of the policy; those that were not added were always in it.

    The snapshot's own votes go before `spoke_at`: labels as they are now may have been decided again since.
    """
    since, decided = {one.name: one.at for one in added}, by_moderators(rows)
    voted = {one.id: at for one, at in zip(rows.listings, rows.voted_at, strict=False) if at is not None}
    spoke_at = {**spoke_at, **voted}
    found = np.repeat(decided[:, None], len(policy), 1)
    for column, name in enumerate(policy):
        if name in since:
            found[:, column] = asked(rows, name, {one for one, at in spoke_at.items() if at >= since[name]})
    return found


def _newest(evidence: Mapping[str, object], changed_at: datetime) -> datetime:
    """When the last vote was cast; of a label that no vote is kept of, when it changed."""
    votes = evidence.get("votes")
    times = [datetime.fromisoformat(vote["at"]) for vote in votes] if isinstance(votes, list) else []
    return max(times, default=changed_at)
