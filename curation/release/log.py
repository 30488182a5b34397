"""What went live and what was exported, page by page, newest first."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.errors import InputError, NotFoundError, shorten
from curation.release.export import FORMATS
from curation.release.registry import Released
from curation.store import jobs
from curation.store.tables import ExportRow, JobRow, ModelVersion, Release

EXPORT_KIND = "export"


@dataclass(frozen=True, slots=True)
class Exported:
    """A dataset written for download. `state`: making, ready, failed or deleted."""

    id: int
    format: str
    state: str
    manifest: Mapping[str, Any]
    error: str | None
    by: str
    created_at: datetime
    finished_at: datetime | None


def releases(session: Session, *, limit: int, before: int | None = None) -> list[Released]:
    """Rows of the release log, newest first; with `before`, those older than the row with this id."""
    query = select(Release, ModelVersion.name).join(ModelVersion, ModelVersion.id == Release.model_version_id)
    if before is not None:
        query = query.where(Release.id < before)
    rows = session.execute(query.order_by(Release.id.desc()).limit(limit)).all()
    return [Released(row.id, name, row.action, row.reason, row.by, row.at) for row, name in rows]


def exports(session: Session, *, limit: int, before: int | None = None) -> list[Exported]:
    """Exports, newest first; with `before`, those older than the one with this id."""
    query = select(*(getattr(ExportRow, name) for name in Exported.__slots__))
    if before is not None:
        query = query.where(ExportRow.id < before)
    return [Exported(*row) for row in session.execute(query.order_by(ExportRow.id.desc()).limit(limit))]


def ask_for_export(session: Session, fmt: str, *, by: str, now: datetime) -> tuple[int, bool]:
    """Have an export made in this format: the id of its job, and whether it is a new one and not one that waits already.

    Raises InputError on an unknown format.
    """
    if fmt not in FORMATS:
        raise InputError(f"format {shorten(fmt)} is not one of {', '.join(FORMATS)}; use one of these")
    key = f"{EXPORT_KIND}:{fmt}"
    is_new = jobs.enqueue(session, EXPORT_KIND, {"format": fmt, "by": by}, key=key, now=now)
    waiting = select(JobRow.id).where(JobRow.dedupe_key == key, jobs.PENDING)
    found = session.execute(waiting).scalar_one_or_none()
    if found is None:
        raise NotFoundError(f"the job {key} ended while it was asked for; ask again")
    return found, is_new
