"""Datasets for download: make one, see what changed since the one before, fetch its files, check them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, flash, g, redirect, request, send_file, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as Answer

from curation.errors import InputError, NotFoundError
from curation.release import export as release_export
from curation.release import exports
from curation.release.changes import Change
from curation.release.exports import Export
from curation.store.people import Role
from curation.types import Question
from webhooks import auth, service, tables
from webhooks.pages import told
from webhooks.tables import Column, Row, Table

PAGE = 25
DOWNLOADED = 10_000
CHANGES_SHOWN = 100
FORMATS = {
    "parquet": "Parquet: for pandas, DuckDB, Spark",
    "jsonl": "JSON Lines: one object a line",
    "csv": "CSV: for spreadsheets",
    "hf": "Hugging Face: for the datasets library",
}

BOTH = "both"
QUESTIONS = {BOTH: tuple(Question), **{question.value: (question,) for question in Question}}

blueprint = Blueprint("exports", __name__)


@blueprint.get("/exports")
@auth.needs(Role.ENGINEER)
def index() -> str | Response:
    """All exports, newest first, and the form to make one."""
    before = told.before()
    with service.current().workspace.db.read() as session:
        found = exports.newest(session, limit=PAGE + 1, before=before)
        is_making = any(one.state == exports.MAKING for one in found)
        known = {name: FORMATS.get(name, name) for name in release_export.FORMATS}
        return tables.page(
            "exports.html", _listed(session, found), formats=known, questions=QUESTIONS, before=before, is_making=is_making
        )


@blueprint.post("/exports")
@auth.needs(Role.ENGINEER)
def make() -> Answer:
    """Ask for one; the worker makes it. Sent twice, it is made once."""
    here = service.current()
    try:
        with here.workspace.db.write() as session:
            asked = QUESTIONS.get(request.form.get("questions", BOTH), ())
            now, fmt = here.workspace.db.now(session), request.form.get("format", "")
            export_id, is_new = exports.ask(session, fmt, by=g.person.name, now=now, questions=asked)
    except InputError as error:
        told.stop(400, str(error))
    flash(f"Export {export_id} is being made." if is_new else f"Export {export_id} is the same and is being made already.")
    return redirect(url_for("exports.index"), 303)


@blueprint.get("/exports/<int:export_id>")
@auth.needs(Role.ENGINEER)
def show(export_id: int) -> str | Response:
    """Its files with their checksums, and what changed since the one before."""
    found, workspace = _found(export_id), service.current().workspace
    changed = list(exports.kept_changes(workspace, found.id, limit=CHANGES_SHOWN))
    return tables.page(
        "export.html",
        _files(found),
        _counts(found),
        _changes(found, changed),
        export=found,
        n_changes=sum(found.changes.values()),
        n_shown=len(changed),
        may_delete=g.person.role.covers(Role.ADMIN),
    )


@blueprint.get("/exports/<int:export_id>/files/<path:name>")
@auth.needs(Role.ENGINEER)
def file(export_id: int, name: str) -> Response:
    """One file, also in parts (Range), with its sha256 as ETag. Only names in the manifest reach the disk."""
    try:
        path, known = exports.file_of(service.current().workspace, _found(export_id), name)
    except NotFoundError as error:
        told.stop(404, str(error))
    answer = send_file(
        path.absolute(),
        mimetype="application/octet-stream",
        as_attachment=True,
        download_name=f"{exports.name_of(export_id)}-{name.replace('/', '-')}",
        etag=known.sha256,
        conditional=True,
    )
    answer.headers["Cache-Control"] = "private, no-cache"
    return answer


@blueprint.post("/exports/<int:export_id>/delete")
@auth.needs(Role.ADMIN)
def delete(export_id: int) -> Answer:
    """Remove its files; that it was there stays known. A second time does nothing."""
    found = _found(export_id)
    try:
        is_done = exports.delete(service.current().workspace, found.id, by=g.person.name)
    except InputError as error:
        told.stop(409, str(error))
    flash(f"The files of export {export_id} are deleted." if is_done else f"The files of export {export_id} were deleted before.")
    return redirect(url_for("exports.index"), 303)


def _found(export_id: int) -> Export:
    try:
        with service.current().workspace.db.read() as session:
            return exports.get(session, told.known_id(export_id, "Export"))
    except NotFoundError as error:
        told.stop(404, str(error))


def _listed(session: Session, found: Sequence[Export]) -> Table:
    columns = [
        Column("id", "Export", link="link"),
        Column("state", "State"),
        Column("format", "Format"),
        Column("questions", "Questions"),
        Column("n_listings", "Listings", "number"),
        Column("added", "Added", "number"),
        Column("relabelled", "Relabelled", "number"),
        Column("removed", "Removed", "number"),
        Column("created_at", "Asked for", "moment"),
        Column("by", "By"),
        Column("error", "Remark", "words"),
    ]
    return Table(
        "exports",
        "Exports, newest first",
        columns,
        [_row(one) for one in found[:PAGE]],
        "No export yet. Choose a format above; the worker makes it, and its files appear here.",
        older=url_for("exports.index", before=found[PAGE - 1].id) if len(found) > PAGE else None,
        alarm="is_failed",
        whole=lambda: (_row(one) for one in exports.newest(session, limit=DOWNLOADED)),
    )


def _row(one: Export) -> Row:
    return {
        "id": one.id,
        "link": url_for("exports.show", export_id=one.id),
        **{name: getattr(one, name) for name in ("created_at", "by", "format", "state", "n_listings", "error")},
        "questions": BOTH if len(one.questions) > 1 else one.questions[0].value,
        **one.changes,
        "is_failed": one.state == exports.FAILED,
    }


def _files(found: Export) -> Table:
    columns = [
        Column("path", "File", link="link"),
        Column("n_bytes", "Bytes", "number"),
        Column("sha256", "SHA-256", "code"),
    ]
    rows: list[dict[str, Any]] = [
        asdict(one) | {"link": url_for("exports.file", export_id=found.id, name=one.path)} for one in found.files
    ]
    if found.state != exports.READY:
        rows = []
    return Table("files", "Files and their checksums", columns, rows, "There are no files to fetch.")


def _counts(found: Export) -> Table:
    columns = [Column("kind", "What"), Column("n", "How many", "number")]
    rows = [{"kind": kind, "n": n} for kind, n in found.changes.items()]
    return Table("counts", "What changed, counted", columns, rows, "There is no export before this one to compare it with.")


def _changes(found: Export, shown: Sequence[Change]) -> Table:
    columns = [
        Column("kind", "What"),
        Column("ref", "Listing"),
        Column("question", "Question"),
        Column("old", "Label before", "words"),
        Column("old_source", "On whose word"),
        Column("new", "Label now", "words"),
        Column("new_source", "On whose word"),
    ]
    workspace = service.current().workspace
    return Table(
        "changes",
        "What changed, one by one",
        columns,
        [asdict(one) for one in shown],
        "Nothing to show.",
        whole=lambda: (asdict(one) for one in exports.kept_changes(workspace, found.id)),
    )
