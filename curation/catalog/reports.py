"""Listings that users reported for one violation: read from a CSV file, noted as given labels."""

import csv
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.errors import InputError, shorten
from curation.store import labels, listings
from curation.store.labels import Resolved
from curation.store.tables import LabelRow, ListingRow
from curation.store.taxonomy import chunks
from curation.types import LabelSource, Question, join_violations

MAX_REASON_CHARS = 500


def read(path: Path) -> dict[str, str]:
    """Ref → reason of a CSV file with a column `ref` and, if there is one, `reason`. Raises InputError on anything else."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"file {path} cannot be read: {error}; give a CSV file in UTF-8 with a column ref") from error
    if not rows or "ref" not in rows[0]:
        found = ", ".join(map(str, rows[0])) if rows else "no row"
        raise InputError(f"file {path} has {found[:80]}, a column ref is needed; name a listing in each row")
    empty = [at for at, row in enumerate(rows, start=2) if not (row["ref"] or "").strip()]
    if empty:
        raise InputError(f"{len(empty)} rows of {path} name no listing, first lines {empty[:10]}; fill in ref or take them out")
    return {row["ref"].strip(): (row.get("reason") or "").strip()[:MAX_REASON_CHARS] for row in rows}


def require_known(session: Session, refs: Collection[str]) -> None:
    """Raises InputError naming refs that are no listings."""
    unknown = sorted(set(refs) - listings.id_by_ref(session, refs).keys())
    if unknown:
        raise InputError(
            f"{len(unknown)} of {len(refs)} reported refs are no listings, such as {shorten(unknown[:5])}; "
            "ingest these listings first, or take the rows out"
        )


def note(session: Session, violation: str, reasons: Mapping[str, str], *, now: datetime) -> int:
    """Note that users reported these listings for `violation`; how many were not before.

    It becomes their label where nobody but users said something about violations; moderators' decisions stay.
    """
    n_new = 0
    for part in chunks(sorted(reasons)):
        for row in session.execute(select(ListingRow).where(ListingRow.ref.in_(part)).with_for_update()).scalars():
            if violation in row.flags:
                continue
            row.flags = sorted({*row.flags, violation})
            n_new += 1
            _label(session, row, {violation: reasons[row.ref]}, now=now)
    session.flush()
    return n_new


def _label(session: Session, row: ListingRow, reasons: Mapping[str, str], *, now: datetime) -> None:
    mine = (LabelRow.listing_id == row.id, LabelRow.question == Question.VIOLATION.value)
    held = session.execute(select(LabelRow.source, LabelRow.evidence).where(*mine)).one_or_none()
    if held is None or held.source == LabelSource.REPORT.value:
        before = {} if held is None else held.evidence.get("reports", {})
        label = Resolved(join_violations(row.flags), LabelSource.REPORT, None, {"reports": {**before, **reasons}})
        labels.set_label(session, row.id, Question.VIOLATION, label, now=now)
