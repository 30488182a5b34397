"""Datasets for download: asked for on a page, written by the job `export` into `home/exports`, kept until deleted."""

import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.errors import InputError, NotFoundError, shorten
from curation.release import export
from curation.release.changes import Change
from curation.store import jobs
from curation.store.service_tables import ExportRow
from curation.store.tables import JobRow
from curation.store.workspace import Workspace, lock_state
from curation.types import Question

KIND = "export"
MAKING, READY, FAILED, DELETED = "making", "ready", "failed", "deleted"
LOST = "its job is gone: the worker that made it was lost too often; make another"
CHANGES_KEPT = 100_000
"""Changes that are kept to be looked at; all are counted."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of an export, by its path in the export's folder."""

    path: str
    sha256: str
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Export:
    """A dataset that was asked for. `state`: making, ready, failed, deleted; `since`: the export it is compared with."""

    id: int
    format: str
    questions: tuple[Question, ...]  #: whose labels are in it
    state: str
    by: str
    created_at: datetime
    finished_at: datetime | None
    error: str | None
    snapshot_id: int | None
    snapshot_sha256: str | None
    n_listings: int | None
    files: tuple[File, ...]
    since: int | None
    changes: Mapping[str, int]

    @property
    def name(self) -> str:
        """Of its folder."""
        return name_of(self.id)

    @property
    def n_bytes(self) -> int:
        """Of all files."""
        return sum(file.n_bytes for file in self.files)


def name_of(export_id: int) -> str:
    """The folder of an export, below `home/exports`."""
    return f"export-{export_id:04d}"


def folder_of(workspace: Workspace) -> Path:
    """Where exports lie."""
    return workspace.settings.home / "exports"


def ask(session: Session, fmt: str, *, by: str, now: datetime, questions: Collection[str] = tuple(Question)) -> tuple[int, bool]:
    """Note that an export is wanted and enqueue its job; its id, and False if the same one is being made already.

    Raises InputError on an unknown format or question, and without a question.
    """
    chosen = asked_for(questions)
    if fmt not in export.FORMATS:
        raise InputError(f"format {shorten(fmt)} is not known; use one of {', '.join(export.FORMATS)}")
    lock_state(session, "exports")
    for row in session.execute(select(ExportRow).where(ExportRow.state == MAKING, ExportRow.format == fmt)).scalars():
        if _is_pending(session, row) and _questions(row) == chosen:
            return row.id, False
    row = begun(session, fmt, chosen, by, now)
    jobs.enqueue(session, KIND, {"export": row.id, "format": fmt, "by": by}, key=_key(row.id), now=now)
    return row.id, True


def asked_for(names: Collection[str]) -> tuple[Question, ...]:
    """Questions by their names, in their own order. Raises InputError on an unknown one, and without any."""
    unknown = sorted(set(names) - set(Question))
    if unknown or not names:
        known = ", ".join(Question)
        raise InputError(
            f"question {shorten(unknown[0])} is not known; use {known}" if unknown else f"name a question of {known}"
        )
    return tuple(question for question in Question if question in names)


def get(session: Session, export_id: int) -> Export:
    """The export with this id. Raises NotFoundError."""
    row = session.get(ExportRow, export_id)
    if row is None:
        raise NotFoundError(f"export {export_id} is not known; the page Exports lists all there are")
    return _as_export(session, row)


def newest(session: Session, *, limit: int, before: int | None = None) -> list[Export]:
    """The last exports, newest first; with `before`, those older than the one with this id."""
    query = select(ExportRow).order_by(ExportRow.id.desc()).limit(limit)
    if before is not None:
        query = query.where(ExportRow.id < before)
    return [_as_export(session, row) for row in session.execute(query).scalars()]


def file_of(workspace: Workspace, found: Export, name: str) -> tuple[Path, File]:
    """One file of a finished export. Raises NotFoundError on any name that is not in its manifest, and on a file that is gone."""
    known = {file.path: file for file in found.files}
    if found.state != READY or name not in known:
        raise NotFoundError(f"export {found.id} has no file {shorten(name)}; its page lists those it has")
    folder = (folder_of(workspace) / found.name).absolute()
    path = folder / name
    if not path.is_file() or path.resolve() != folder.resolve() / name:  # nothing in it is a link
        raise NotFoundError(f"file {shorten(name)} of export {found.id} is gone from the disk; make another export")
    return path, known[name]


def delete(workspace: Workspace, export_id: int, *, by: str) -> bool:
    """Remove its files and remember that it was there; False if that was done, but files left by a kill are removed.

    Raises InputError while it is being made.
    """
    with workspace.db.write() as session:
        found = get(session, export_id)
        if found.state == MAKING:
            raise InputError(f"export {export_id} is being made; wait until it is ready, then delete it")
        is_first = found.state != DELETED
        if is_first:
            row = session.get_one(ExportRow, export_id)
            row.state, row.error = DELETED, f"deleted by {by}"
    clear(workspace, export_id)
    return is_first


def kept_changes(workspace: Workspace, export_id: int, *, limit: int = CHANGES_KEPT) -> Iterator[Change]:
    """What changed since the export before, as it was written down; nothing if that is gone."""
    path = changes_file(workspace, export_id)
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for _, line in zip(range(limit), lines, strict=False):
            yield Change(**json.loads(line))


def begun(session: Session, fmt: str, questions: Collection[Question], by: str, now: datetime) -> ExportRow:
    """A new row of an export that is to be made."""
    manifest = {"questions": list(questions)}
    row = ExportRow(format=fmt[:16], state=MAKING, manifest=manifest, by=by[:120], created_at=now)
    session.add(row)
    session.flush()
    return row


def clear(workspace: Workspace, export_id: int) -> None:
    """Nothing of this export is left, nor of an attempt that was cut short."""
    root, name = folder_of(workspace), name_of(export_id)
    for path in (root / name, *root.glob(f".{name}.*")):
        shutil.rmtree(path, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    changes_file(workspace, export_id).unlink(missing_ok=True)


def changes_file(workspace: Workspace, export_id: int) -> Path:
    """Where the changes since the export before are written down, one JSON object a line."""
    return folder_of(workspace) / f"{name_of(export_id)}.changes.jsonl"


def _key(export_id: int) -> str:
    return f"{KIND}-{export_id}"


def _questions(row: ExportRow) -> tuple[Question, ...]:
    return tuple(Question(name) for name in row.manifest.get("questions", list(Question)))


def _is_pending(session: Session, row: ExportRow) -> bool:
    job_id = row.manifest.get("job")
    mine = JobRow.id == job_id if isinstance(job_id, int) else JobRow.dedupe_key == _key(row.id)
    return session.execute(select(JobRow.id).where(jobs.PENDING, mine)).first() is not None


def _as_export(session: Session, row: ExportRow) -> Export:
    """An export whose job is gone will not become ready, whatever its row says."""
    kept, state, error = row.manifest, row.state, row.error
    if state == MAKING and not _is_pending(session, row):
        state, error = FAILED, error or LOST
    return Export(
        id=row.id,
        format=row.format,
        questions=_questions(row),
        state=state,
        by=row.by,
        created_at=row.created_at,
        finished_at=row.finished_at,
        error=error,
        snapshot_id=row.snapshot_id,
        snapshot_sha256=kept.get("snapshot"),
        n_listings=kept.get("n_listings"),
        files=tuple(File(**file) for file in kept.get("files", [])),
        since=kept.get("since"),
        changes=kept.get("changes", {}),
    )
