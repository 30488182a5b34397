"""The ranking of suspects made anew from the newest run's stored probabilities, after labels have changed. No training.

Labels that moderators decided are settled and leave the doubted ones, class means and the noise move with them, and sellers
whom they overruled are doubted sooner. What a new run would add is that the model itself learns from the corrections, and
listings that came after the run. Reports and violations stay ranked as they are: no probabilities of them are kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.errors import NotFoundError
from curation.quality.confident import estimate, undecided
from curation.quality.held_out import SparseOutOfSample, of_refs, renamed
from curation.release import noise
from curation.release.labels import renamed_paths
from curation.review import probabilities, suspects
from curation.review.probabilities import HeldOut
from curation.store import listings
from curation.store.tables import LabelRow, ListingRow, SuspectRow
from curation.store.workspace import Workspace
from curation.types import LabelSource, Question, Reason, Suspect


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh put in the place of the ranking before."""

    run_id: int  #: whose probabilities they were
    n_listings: int
    n_issues: int
    n_verified: int  #: listings whose label moderators decided
    n_undecided: int  #: listings that all probabilities, not only the largest that were kept, could judge otherwise


def refresh(workspace: Workspace) -> Refreshed:
    """Rank the categories by the labels as they are now, in one transaction; again if another run ends meanwhile.

    Raises NotFoundError before the first run.
    """
    newest = probabilities.newest_held(workspace)
    if newest is None:
        raise NotFoundError("no model has predicted the listings yet; run: refurbish retrain")
    run_id, held = newest
    found, n_verified, n_undecided = _ranked(workspace, held)
    with workspace.db.write() as session:
        is_newest = (probabilities.newest_file(session) or (None,))[0] == run_id
        if is_newest:
            suspects.replace(session, Question.CATEGORY, found, run_id=run_id)
    if not is_newest:
        return refresh(workspace)
    return Refreshed(run_id, len(found), sum(suspect.is_issue for suspect in found), n_verified, n_undecided)


def _ranked(workspace: Workspace, held: HeldOut) -> tuple[list[Suspect], int, int]:
    """The ranking, how many of its listings moderators decided, and how many are undecided."""
    with workspace.db.read() as session:
        renames, audited = renamed_paths(session), noise.audit_refs(session)
        by_ref = {listing.ref: listing for page in listings.pages(session) for listing in page}
        labels, views = _labels(session, renames), _views(session)
    held = renamed(of_refs(held, by_ref.keys()), renames)
    method = workspace.settings.suspects_method
    found = suspects.categories([by_ref[ref] for ref in held.refs], labels, held, audited, method, views)
    n_verified = sum(labels[ref][1] is LabelSource.MODERATORS for ref in held.refs if ref in labels)
    return found, n_verified, _n_undecided(held)


def _views(session: Session) -> dict[str, Reason]:
    """Listing ref → what text and photo said alone in the run whose ranking is stored."""
    rows = session.execute(
        select(ListingRow.ref, SuspectRow.reasons)
        .join(ListingRow, ListingRow.id == SuspectRow.listing_id)
        .where(SuspectRow.question == Question.CATEGORY.value)
    )
    return {row.ref: Reason(**one) for row in rows for one in row.reasons if one["code"] == suspects.VIEWS}


def _n_undecided(held: HeldOut) -> int:
    return len(undecided(held.store, estimate(held.store))) if isinstance(held, SparseOutOfSample) else 0


def _labels(session: Session, renames: Mapping[str, str]) -> dict[str, tuple[str, LabelSource]]:
    """Each listing's category by its present path, and who stands behind it."""
    rows = session.execute(
        select(ListingRow.ref, LabelRow.value, LabelRow.source)
        .join(ListingRow, ListingRow.id == LabelRow.listing_id)
        .where(LabelRow.question == Question.CATEGORY.value)
    )
    return {row.ref: (renames.get(row.value, row.value), LabelSource(row.source)) for row in rows}
