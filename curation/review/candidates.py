"""Asking moderators about listings that may have a violation of which too little is known."""

from collections.abc import Mapping
from datetime import datetime

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.errors import ProbabilityError
from curation.review import selection
from curation.review.selection import Batch, Selection
from curation.store.tables import ListingRow
from curation.store.taxonomy import chunks
from curation.store.workspace import Workspace
from curation.types import Reason

CODE = "likely_violation"
SURPLUS = 20
"""Candidates that are looked at for each that is asked about: of a near-duplicate group only one is asked."""


def ask(
    workspace: Workspace, title: str, scores: Mapping[int, float], *, n: int, rng: np.random.Generator, now: datetime
) -> Selection:
    """Open both questions of `n` listings: a share drawn at random (`audit_share`), else the most likely.

    `scores`: listing id → in [0, 1], 1 = likeliest to have the violation that moderators know by `title`. What is open or
    decided is never asked about, and one listing of a near-duplicate group only. Raises ProbabilityError on other scores.
    """
    bad = [i for i, score in scores.items() if not 0 <= score <= 1]
    if bad:
        raise ProbabilityError(f"{len(bad)} of {len(scores)} scores are not in [0, 1], first listings {bad[:10]}; score again")
    settings = workspace.settings
    with workspace.db.write() as session:
        excluded = selection.excluded(session)
        batch = Batch(excluded, groups=selection.open_groups(session))
        selection.audit(session, batch, round(n * settings.audit_share), rng)
        likely = sorted((i for i in scores if i not in excluded), key=lambda i: (-scores[i], i))[: SURPLUS * n]
        groups = _groups(session, likely)
        for listing_id in likely:
            if len(batch.main) >= n:
                break
            reason = Reason(CODE, scores[listing_id], f"It may be a case of “{title}”, of which more examples are wanted.")
            batch.add(listing_id, groups[listing_id], [reason], scores[listing_id])
        return selection.open_batch(session, batch, settings, rng, now, n_again=0)


def _groups(session: Session, listing_ids: list[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for part in chunks(listing_ids):
        rows = session.execute(select(ListingRow.id, ListingRow.group_key).where(ListingRow.id.in_(part)))
        found.update((row.id, row.group_key) for row in rows)
    return found
