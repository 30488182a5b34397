"""The job `export`: writes the dataset that somebody asked for, and what changed since the one before."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.errors import InputError, NotFoundError, StaleLease
from curation.release import changes, export, exports, snapshot
from curation.release.exports import CHANGES_KEPT, FAILED, MAKING, READY, Export, File
from curation.release.folder import MANIFEST, SUMS
from curation.store import erasure
from curation.store.files import sha256_of_file
from curation.store.jobrun import JobRun
from curation.store.service_tables import ExportRow
from curation.types import Question


def handle(run: JobRun) -> None:
    """The `export` job. Started anew it begins again; what it wrote halfway was never visible.

    A mistake of the asker ends it; a disk that is full is none.
    """
    export_id = _claimed(run)
    if export_id is None:
        return
    with run.workspace.db.read() as session:
        seen = erasure.newest(session)
    try:
        manifest, snapshot_id = _made(run, export_id)
    except StaleLease:
        raise
    except Exception as error:
        if isinstance(error, InputError) and not isinstance(error.__cause__, OSError):
            with run.finishing() as session:
                _fail(session, export_id, str(error), now=run.workspace.db.now(session))
            return
        with run.writing() as session:  # it counts as failed once the job is dead, and goes on if that is revived
            session.get_one(ExportRow, export_id).error = f"{type(error).__name__}: {error}"
        raise
    else:
        with run.finishing() as session:
            _require_unerased(run, session, export_id, seen)
            row = session.get_one(ExportRow, export_id)
            row.state, row.manifest, row.snapshot_id, row.error = READY, manifest, snapshot_id, None
            row.finished_at = run.workspace.db.now(session)


def _claimed(run: JobRun) -> int | None:
    """The export that this job makes, noted anew if whoever asked did not; None if it is made, or not wanted any more.

    One that failed is asked for again: only a job that was revived finds it so.
    """
    asked = run.job.payload
    with run.writing() as session:
        export_id = asked.get("export")
        if not isinstance(export_id, int):
            export_id = _noted(session, run)
        row = session.get(ExportRow, export_id)
        if row is None or row.state not in (MAKING, FAILED):
            return None
        row.state, row.finished_at = MAKING, None
        return row.id


def _noted(session: Session, run: JobRun) -> int:
    for row in session.execute(select(ExportRow).where(ExportRow.state == MAKING)).scalars():
        if row.manifest.get("job") == run.job.id:
            return row.id
    asked = run.job.payload
    about = str(asked.get("format", "parquet")), _questions(asked), str(asked.get("by", ""))
    row = exports.begun(session, *about, run.workspace.db.now(session))
    row.manifest = {**row.manifest, "job": run.job.id}
    session.flush()
    return row.id


def _questions(asked: Mapping[str, Any]) -> tuple[Question, ...]:
    """Those that the job names; both where it names none, or none that there are."""
    named = asked.get("questions")
    found = tuple(question for question in Question if isinstance(named, list) and question.value in named)
    return found or tuple(Question)


def _made(run: JobRun, export_id: int) -> tuple[dict[str, Any], int]:
    """Write the folder and the list of changes; the manifest, and the snapshot's id."""
    workspace = run.workspace
    with workspace.db.read() as session:
        found, now = exports.get(session, export_id), workspace.db.now(session)
        before = _before(session, export_id)
    exports.clear(workspace, export_id)
    folder = exports.folder_of(workspace) / exports.name_of(export_id)
    summary = export.write(workspace, folder, found.format, now=now, questions=found.questions, advance=lambda n: _go_on(run))
    with workspace.db.read() as session:
        frozen = snapshot.get(session, summary.snapshot_sha256)
    counts = _counted(run, export_id, before, frozen.sha256)
    files = [asdict(file) for file in _files(folder)]
    manifest = {
        "files": files,
        "questions": list(found.questions),
        "n_listings": summary.n_listings,
        "snapshot": frozen.sha256,
        "since": before and before.id,
        "changes": counts,
    }
    return manifest, frozen.id


def _require_unerased(run: JobRun, session: Session, export_id: int, seen: int) -> None:
    """What was erased while it was written may be in it: nothing is kept, and the job begins again."""
    erasure.hold(session)
    if erasure.newest(session) != seen:
        exports.clear(run.workspace, export_id)
        raise NotFoundError("listings were erased while the export was written; it is made again")


def _go_on(run: JobRun) -> None:
    if run.lost.is_set():
        raise StaleLease("the export was given up because the job's lease was lost or the worker stops; nothing was stored")


def _counted(run: JobRun, export_id: int, before: Export | None, sha256: str) -> dict[str, int]:
    """Write down what changed since the export before; how many of each kind. Empty for the first one."""
    if before is None or before.snapshot_sha256 is None:
        return {}
    workspace, counts = run.workspace, dict.fromkeys(changes.KINDS, 0)
    try:
        old = snapshot.manifest(workspace, before.snapshot_sha256)
    except NotFoundError:
        return {}
    with exports.changes_file(workspace, export_id).open("w", encoding="utf-8") as file:
        for number, change in enumerate(changes.between(old, snapshot.manifest(workspace, sha256))):
            counts[change.kind] += 1
            if number < CHANGES_KEPT:
                file.write(json.dumps(asdict(change), ensure_ascii=False) + "\n")
            if number % changes.BATCH == 0:
                _go_on(run)
    return counts


def _before(session: Session, export_id: int) -> Export | None:
    """The newest export before this one whose snapshot is known, whether or not its files are still there."""
    query = select(ExportRow).where(ExportRow.id < export_id, ExportRow.snapshot_id.is_not(None)).order_by(ExportRow.id.desc())
    row = session.execute(query.limit(1)).scalar_one_or_none()
    return None if row is None else exports.get(session, row.id)


def _files(folder: Path) -> Iterator[File]:
    """Everything an export wrote, with the sums that it wrote down itself."""
    sums = {}
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        sha256, _, name = line.partition("  ")
        sums[name] = sha256
    sums |= {name: sha256_of_file(folder / name) for name in (MANIFEST, SUMS)}
    for name in sorted(sums):
        yield File(name, sums[name], (folder / name).stat().st_size)


def _fail(session: Session, export_id: int, error: str, *, now: datetime) -> None:
    row = session.get_one(ExportRow, export_id)
    row.state, row.error, row.finished_at = FAILED, error, now
