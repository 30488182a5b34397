"""Live suggestions: tasks as an ML backend is asked about them in, one prediction for each out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation import telemetry
from curation.catalog.scorer import Scorer
from curation.errors import PayloadError
from curation.labelstudio import tasks
from curation.labelstudio.payloads import listing_ref
from curation.release.labels import renamed_paths
from curation.review import suggestions
from curation.review.suggestions import Suggestion
from curation.store import listings
from curation.store.tables import ReviewItem
from curation.store.workspace import Workspace
from curation.types import BLIND_BATCH, Listing

CHUNK = 200
"""Tasks that are answered at a time: it bounds memory, and how long the database is read at once."""

log = telemetry.logger("predict")


@dataclass(frozen=True, slots=True)
class _Known:
    """What the database knows of the listings asked about."""

    version: str
    renames: Mapping[str, str]
    listings: Mapping[str, Listing]  #: by ref
    suggestions: Mapping[int, Suggestion]
    priority: Mapping[int, float]
    blind: frozenset[int]


def answers(workspace: Workspace, asked: Sequence[Any], scorer: Scorer | None) -> Iterator[dict[str, Any]]:
    """One prediction for each task, in order; an empty one where there is no suggestion or none may be shown.

    Whatever is wrong with one task leaves the others' answers as they are.
    """
    for first in range(0, len(asked), CHUNK):
        refs = [_ref(task) for task in asked[first : first + CHUNK]]
        with workspace.db.read() as session:
            known = _known(session, {ref for ref in refs if ref is not None})
        found = _suggested(workspace, known, scorer)
        for ref in refs:
            listing = known.listings.get(ref or "")
            if listing is None:
                yield tasks.prediction(None, 0.0, known.version)
            else:
                yield tasks.prediction(found.get(listing.id), known.priority.get(listing.id, 0.0), known.version)


def _ref(task: Any) -> str | None:
    try:
        return listing_ref(task) if isinstance(task, Mapping) else None
    except PayloadError as error:
        log.warning("task names no listing", error=str(error))
        return None


def _known(session: Session, refs: set[str]) -> _Known:
    found = listings.load(session, refs=refs)
    ids = [listing.id for listing in found]
    asked = session.execute(
        select(ReviewItem.listing_id, ReviewItem.priority, ReviewItem.batch).where(ReviewItem.listing_id.in_(ids))
    ).all()
    priority: dict[int, float] = {}
    for row in asked:
        priority[row.listing_id] = max(row.priority, priority.get(row.listing_id, 0.0))
    return _Known(
        version=suggestions.version(session),
        renames=renamed_paths(session),
        listings={listing.ref: listing for listing in found},
        suggestions=suggestions.for_listings(session, ids),
        priority=priority,
        blind=frozenset(row.listing_id for row in asked if row.batch == BLIND_BATCH),
    )


def _suggested(workspace: Workspace, known: _Known, scorer: Scorer | None) -> dict[int, Suggestion]:
    """The newest run's answers, and the live model's where there are none."""
    found = {i: made for i, made in known.suggestions.items() if i not in known.blind}
    rest = [one for one in known.listings.values() if one.id not in found and one.id not in known.blind]
    if scorer is not None and rest:
        found |= suggestions.by_model(scorer, rest, workspace.media, renames=known.renames, named=known.version)
    return found
