"""Every listing beside its label, what the seller said, and what the newest run's held-out model says."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.errors import NotFoundError
from curation.quality.held_out import renamed
from curation.quality.metrics import Estimate, share
from curation.quality.validate import UNLABELLED, OutOfSample
from curation.release import noise
from curation.release.labels import renamed_paths
from curation.review import probabilities
from curation.store import listings
from curation.store.tables import Category, LabelRow, ListingRow
from curation.store.workspace import Workspace
from curation.types import LabelSource, Question


@dataclass(frozen=True, slots=True)
class Judged:
    """M listings in order of their ids. Categories go by their present paths."""

    run_id: int
    oos: OutOfSample
    ids: NDArray[np.int64]  #: (M,)
    refs: tuple[str, ...]
    row: NDArray[np.int64]  #: (M,) row of `oos`, -1 = not there when the run began
    label: tuple[str | None, ...]
    given: tuple[str | None, ...]  #: what the seller chose
    is_verified: NDArray[np.bool_]  #: (M,) moderators stand behind the label
    is_audited: NDArray[np.bool_]  #: (M,) drawn uniformly, whether decided or not
    listed_at: tuple[datetime | None, ...]
    created_at: tuple[datetime, ...]  #: when the listing was first read here

    @property
    def is_decided(self) -> NDArray[np.bool_]:
        """(M,) listings of the audit sample that tell something about the seller's label."""
        placed = np.array([one is not None for one in self.given], dtype=bool)
        return np.asarray(self.is_audited & self.is_verified & placed)

    @property
    def is_wrong(self) -> NDArray[np.bool_]:
        """(M,) the label is not what the seller chose."""
        return np.array([a != b for a, b in zip(self.given, self.label, strict=True)], dtype=bool)

    @property
    def audit(self) -> Estimate | None:
        """Noise of the sellers' labels by the audit sample; None while nothing of it is decided."""
        return share(int((self.is_wrong & self.is_decided).sum()), int(self.is_decided.sum()))

    def labels(self) -> NDArray[np.int64]:
        """(N,) class index of the label of each row of `oos`; -1 without one that the run knows."""
        index = {path: k for k, path in enumerate(self.oos.classes)}
        found = np.full(len(self.oos.refs), UNLABELLED, dtype=np.int64)
        there = np.flatnonzero(self.row >= 0)
        found[self.row[there]] = [index.get(self.label[i] or "", UNLABELLED) for i in there]
        return found

    def verified_rows(self) -> NDArray[np.bool_]:
        """(N,) `is_verified` in the rows of `oos`."""
        found = np.zeros(len(self.oos.refs), dtype=bool)
        found[self.row[self.is_verified & (self.row >= 0)]] = True
        return found


def load(workspace: Workspace) -> Judged:
    """The catalog as it is now beside the newest run. Raises NotFoundError without listings or without a run."""
    with workspace.db.read() as session:
        if not listings.count(session):
            raise NotFoundError("there are no listings yet; run: refurbish ingest FILE")
    newest = probabilities.newest(workspace)
    if newest is None:
        raise NotFoundError("no model has predicted the listings yet; run: refurbish retrain")
    with workspace.db.read() as session:
        return _joined(session, *newest)


def _joined(session: Session, run_id: int, oos: OutOfSample) -> Judged:
    rows = session.execute(
        select(
            ListingRow.id,
            ListingRow.ref,
            ListingRow.listed_at,
            ListingRow.created_at,
            Category.path.label("given"),
            LabelRow.value,
            LabelRow.source,
        )
        .outerjoin(Category, Category.id == ListingRow.category_id)
        .outerjoin(LabelRow, (LabelRow.listing_id == ListingRow.id) & (LabelRow.question == Question.CATEGORY.value))
        .order_by(ListingRow.id)
    ).all()
    renames, audited = renamed_paths(session), noise.audit_refs(session)
    oos = renamed(oos, renames)
    row_of = {ref: i for i, ref in enumerate(oos.refs)}
    return Judged(
        run_id,
        oos,
        ids=np.array([row.id for row in rows], dtype=np.int64),
        refs=tuple(row.ref for row in rows),
        row=np.array([row_of.get(row.ref, -1) for row in rows], dtype=np.int64),
        label=tuple(renames.get(row.value, row.value) for row in rows),
        given=tuple(renames.get(row.given, row.given) for row in rows),
        is_verified=np.array([row.source == LabelSource.MODERATORS.value for row in rows], dtype=bool),
        is_audited=np.array([row.ref in audited for row in rows], dtype=bool),
        listed_at=tuple(row.listed_at for row in rows),
        created_at=tuple(row.created_at for row in rows),
    )
