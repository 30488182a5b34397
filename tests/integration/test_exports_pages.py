"""Exports on the pages: made by a job, compared with the one before, fetched in parts, checked, deleted."""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime

import pandas as pd
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, select, update

from curation.errors import InputError, NotFoundError
from curation.release import export, exports, snapshot
from curation.release.changes import Change, between
from curation.release.formats import read_csv
from curation.store import jobs, tokens
from curation.store.people import Role
from curation.store.service_tables import ExportRow
from curation.store.tables import JobRow, LabelRow, ListingRow
from curation.store.workspace import Workspace
from curation.worker import Worker
from tests.commands import run_json

HTML = {"Accept": "text/html"}
Client = Callable[[Role], FlaskClient]


def fill(workspace: Workspace, now: datetime, refs: tuple[str, ...] = ("a", "b", "c")) -> None:
    """Listings, each with a seller's category."""
    with workspace.db.write() as session:
        for ref in refs:
            plain = {"title": f"Lamp {ref}", "description": "", "attributes": {}, "images": [], "flags": []}
            row = ListingRow(
                ref=ref, content_sha256=hashlib.sha256(ref.encode()).hexdigest(), group_key=ref, created_at=now, **plain
            )
            session.add(row)
            session.flush()
            session.add(
                LabelRow(
                    listing_id=row.id, question="category", value="Home / Lamps", source="seller", evidence={}, changed_at=now
                )
            )


def made(workspace: Workspace, fmt: str = "csv") -> int:
    """Ask for an export and let the worker make it; its id."""
    with workspace.db.write() as session:
        export_id, _ = exports.ask(session, fmt, by="ada", now=workspace.db.now(session))
    Worker(workspace, ["export"]).run(until_idle=True)
    return export_id


@pytest.fixture
def client(app: Flask, workspace: Workspace, now: datetime) -> Client:
    """Makes a client of a role, with a token."""

    def of(role: Role) -> FlaskClient:
        with workspace.db.write() as session:
            token = tokens.create(session, role.value, role, now=now)
        found = app.test_client()
        found.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        return found

    return of


def test_nothing_to_fetch_yet_is_explained(client: Client) -> None:
    """An empty database: the form is there, the list says what to do."""
    page = client(Role.ENGINEER).get("/exports", headers=HTML)
    assert page.status_code == 200 and "No export yet" in page.text and "Make an export" in page.text


def test_an_export_is_asked_for_made_and_fetched(client: Client, workspace: Workspace, now: datetime) -> None:
    """Sent twice it is made once; every file arrives with the checksum that the page and SHA256SUMS name."""
    fill(workspace, now)
    ada = client(Role.ENGINEER)
    assert [ada.post("/exports", data={"format": "csv"}).status_code for _ in range(2)] == [303, 303]
    assert "is being made" in ada.get("/exports/1", headers=HTML).text or "makes it" in ada.get("/exports/1", headers=HTML).text
    Worker(workspace, ["export"]).run(until_idle=True)
    files = ada.get("/exports/1?table=files&as=json").json
    assert files is not None and {"data/listings-00000-of-00001.csv", "SHA256SUMS", "manifest.json"} <= {
        one["path"] for one in files
    }
    for one in files:
        fetched = ada.get(f"/exports/1/files/{one['path']}", buffered=True)
        assert hashlib.sha256(fetched.data).hexdigest() == one["sha256"] and len(fetched.data) == one["n_bytes"]
    assert [row["id"] for row in ada.get("/exports?table=exports&as=json").json or []] == [1]


def test_a_file_comes_in_parts(client: Client, workspace: Workspace, now: datetime) -> None:
    """A broken download goes on where it stopped, and only if the file still is the same."""
    fill(workspace, now)
    export_id, ada = made(workspace), client(Role.ENGINEER)
    path = f"/exports/{export_id}/files/data/listings-00000-of-00001.csv"
    whole = ada.get(path, buffered=True)
    part = ada.get(path, headers={"Range": "bytes=10-", "If-Range": whole.headers["ETag"]}, buffered=True)
    assert part.status_code == 206 and part.data == whole.data[10:]
    assert part.headers["Content-Range"] == f"bytes 10-{len(whole.data) - 1}/{len(whole.data)}"
    assert whole.headers["Content-Disposition"].startswith("attachment") and whole.mimetype == "application/octet-stream"
    assert ada.get(path, headers={"If-None-Match": whole.headers["ETag"]}, buffered=True).status_code == 304


@pytest.mark.parametrize(
    "name",
    [
        "../../refurbish.db",
        "..%2f..%2frefurbish.db",
        "%2e%2e/secret.key",
        "/etc/passwd",
        "data",
        "data/../manifest.json",
        "x%00",
        ".",
    ],
)
def test_only_names_of_the_manifest_reach_the_disk(client: Client, workspace: Workspace, now: datetime, name: str) -> None:
    """Any other name is 404, whatever lies there (fault 64)."""
    fill(workspace, now)
    export_id = made(workspace)
    (workspace.settings.home / "secret.key").write_bytes(b"decoy" * 10)
    answer = client(Role.ENGINEER).get(f"/exports/{export_id}/files/{name}", headers=HTML)
    assert answer.status_code in (404, 308) and b"decoy" not in answer.data


def test_what_is_gone_is_told(client: Client, workspace: Workspace, now: datetime) -> None:
    """A file that somebody removed, an export that never was, an id beyond the database's: 404 with words."""
    fill(workspace, now)
    export_id, ada = made(workspace), client(Role.ENGINEER)
    (exports.folder_of(workspace) / exports.name_of(export_id) / "README.md").unlink()
    assert "is gone from the disk; make another export" in ada.get(f"/exports/{export_id}/files/README.md", headers=HTML).text
    for unknown in (99, 10**30):
        answer = ada.get(f"/exports/{unknown}", headers=HTML)
        assert answer.status_code == 404 and f"xport {unknown} is not known" in answer.text
    assert "is not known" in (ada.get("/exports/99").json or {})["error"]


def test_the_second_export_says_what_changed(client: Client, workspace: Workspace, now: datetime) -> None:
    """Added, relabelled and removed, counted and one by one; the table downloads whole."""
    fill(workspace, now)
    made(workspace)
    with workspace.db.write() as session:
        session.execute(update(LabelRow).where(LabelRow.listing_id == 2).values(value="Home / <b>Rugs</b>", source="moderators"))
        session.execute(delete(LabelRow).where(LabelRow.listing_id == 3))
        session.execute(delete(ListingRow).where(ListingRow.id == 3))
    fill(workspace, now, ("d", "e"))
    second, ada = made(workspace, "jsonl"), client(Role.ENGINEER)
    with workspace.db.read() as session:
        assert exports.get(session, second).changes == {"added": 2, "removed": 1, "relabelled": 1}
    rows = ada.get(f"/exports/{second}?table=changes&as=json").json or []
    assert {(row["kind"], row["ref"]) for row in rows} == {("added", "d"), ("added", "e"), ("removed", "c"), ("relabelled", "b")}
    page = ada.get(f"/exports/{second}", headers=HTML).text
    assert "&lt;b&gt;Rugs" in page and "<b>Rugs" not in page and "export 1</a>" in page


def test_snapshots_are_compared_side_by_side(sqlite_workspace: Workspace, now: datetime) -> None:
    """A snapshot is no different from itself; the first listing may be the one that went."""
    fill(sqlite_workspace, now)
    before = snapshot.manifest(sqlite_workspace, snapshot.create(sqlite_workspace, now=now).sha256)
    with sqlite_workspace.db.write() as session:
        session.execute(delete(LabelRow).where(LabelRow.listing_id == 1))
        session.execute(delete(ListingRow).where(ListingRow.id == 1))
    after = snapshot.manifest(sqlite_workspace, snapshot.create(sqlite_workspace, now=now).sha256)
    assert list(between(before, before)) == []
    assert list(between(before, after)) == [Change("removed", "a")] and list(between(after, before)) == [Change("added", "a")]


def test_nothing_to_export_is_a_failed_export(client: Client, workspace: Workspace) -> None:
    """Without listings it fails at once with words, and the job is not repeated."""
    export_id = made(workspace)
    page = client(Role.ENGINEER).get(f"/exports/{export_id}", headers=HTML).text
    assert "there are no listings to take a snapshot of" in page and "failed" in page
    with workspace.db.read() as session:
        assert [job.state for job in jobs.newest(session)] == ["done"]


def test_a_killed_worker_leaves_nothing_half_made(workspace: Workspace, now: datetime) -> None:
    """The next attempt clears what the last one left; the folder holds whole files that the manifest names (fault 62)."""
    fill(workspace, now)
    with workspace.db.write() as session:
        export_id, _ = exports.ask(session, "csv", by="ada", now=workspace.db.now(session))
    root = exports.folder_of(workspace)
    for left in (root / "export-0001" / "old.csv", root / ".export-0001.part-x" / "half.csv"):
        left.parent.mkdir(parents=True)
        left.write_text("half")
    Worker(workspace, ["export"]).run(until_idle=True)
    with workspace.db.read() as session:
        found = exports.get(session, export_id)
    there = {path.relative_to(root / found.name).as_posix() for path in (root / found.name).rglob("*") if path.is_file()}
    assert found.state == "ready" and there == {file.path for file in found.files}
    assert [path.name for path in root.iterdir()] == ["export-0001"]


def test_an_export_whose_job_died_is_not_waited_for(client: Client, workspace: Workspace, now: datetime) -> None:
    """It counts as failed, and another of that format can be asked for."""
    with workspace.db.write() as session:
        first, _ = exports.ask(session, "hf", by="ada", now=now)
        session.execute(update(JobRow).values(state="dead"))
    assert "make another" in client(Role.ENGINEER).get(f"/exports/{first}", headers=HTML).text
    with workspace.db.write() as session:
        assert exports.ask(session, "hf", by="ada", now=now) == (first + 1, True)


@pytest.mark.parametrize("is_noted", [True, False])
def test_a_revived_job_makes_its_export_after_all(workspace: Workspace, now: datetime, is_noted: bool) -> None:
    """It failed to the end because its folder could not be made; revived it is being made again at once, and then ready."""
    fill(workspace, now)
    payload = {} if is_noted else {"format": "csv", "by": "ada"}
    with workspace.db.write() as session:
        if is_noted:
            exports.ask(session, "csv", by="ada", now=now)
        else:
            jobs.enqueue(session, "export", payload, key="export-api", now=now)
        session.execute(update(JobRow).values(max_attempts=1))
    in_the_way = exports.folder_of(workspace)
    in_the_way.write_text("a file")
    Worker(workspace, ["export"]).run(until_idle=True)
    assert _only(workspace).state == "failed" and "File exists" in (_only(workspace).error or "")
    in_the_way.unlink()
    assert run_json(workspace, "jobs", "revive", 1) == {"revived": 1}
    assert _only(workspace).state == "making"
    Worker(workspace, ["export"]).run(until_idle=True)
    assert (_only(workspace).state, _only(workspace).error) == ("ready", None) and _only(workspace).files


def _only(workspace: Workspace) -> exports.Export:
    with workspace.db.read() as session:
        (found,) = exports.newest(session, limit=9)
    return found


def test_a_job_without_a_row_notes_its_own(workspace: Workspace, now: datetime) -> None:
    """Whoever enqueues the job with a format and a name gets an export, once."""
    fill(workspace, now)
    with workspace.db.write() as session:
        jobs.enqueue(session, "export", {"format": "jsonl", "by": "api"}, key="export-api", now=workspace.db.now(session))
    Worker(workspace, ["export"]).run(until_idle=True)
    with workspace.db.read() as session:
        assert [(one.format, one.state, one.by) for one in exports.newest(session, limit=9)] == [("jsonl", "ready", "api")]


def test_an_admin_deletes_old_ones(client: Client, workspace: Workspace, now: datetime) -> None:
    """Files go, the row stays; a second time clears what was left; an engineer may not; one being made is left alone."""
    fill(workspace, now)
    export_id, admin = made(workspace), client(Role.ADMIN)
    assert client(Role.ENGINEER).post(f"/exports/{export_id}/delete").status_code == 403
    folder = exports.folder_of(workspace) / exports.name_of(export_id)
    assert admin.post(f"/exports/{export_id}/delete").status_code == 303 and not folder.exists()
    folder.mkdir()  # what a kill between the row and the files leaves
    assert admin.post(f"/exports/{export_id}/delete").status_code == 303
    assert not folder.exists()
    assert "Its files were removed" in admin.get(f"/exports/{export_id}", headers=HTML).text
    with workspace.db.write() as session:
        waiting, _ = exports.ask(session, "csv", by="ada", now=now)
    assert admin.post(f"/exports/{waiting}/delete", headers=HTML).status_code == 409


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/exports"), ("POST", "/exports"), ("GET", "/exports/1"), ("GET", "/exports/1/files/x")]
)
def test_moderators_do_not_export(client: Client, method: str, path: str) -> None:
    """403 for a smaller role."""
    assert client(Role.MODERATOR).open(path, method=method).status_code == 403


@pytest.mark.parametrize("fmt", export.FORMATS)
def test_an_export_of_one_question_lacks_the_other(sqlite_workspace: Workspace, now: datetime, fmt: str) -> None:
    """In every format: the files and the manifest name its columns only, and are read back; the other one is asked for apart."""
    fill(sqlite_workspace, now)
    with sqlite_workspace.db.write() as session:
        first, second = (exports.ask(session, fmt, by="ada", now=now, questions=(name,)) for name in ("category", "violation"))
        assert (
            first[1] and second[1] and exports.ask(session, fmt, by="ada", now=now, questions=["category"]) == (first[0], False)
        )
    Worker(sqlite_workspace, ["export"]).run(until_idle=True)
    folder = exports.folder_of(sqlite_workspace) / "export-0001"
    named = [column["name"] for column in json.loads((folder / "manifest.json").read_text())["columns"]]
    assert "category_votes" in named and not any(name.startswith("violation") for name in named)
    (file,) = (folder / "data").iterdir()
    readers = {"csv": read_csv, "jsonl": lambda path: pd.read_json(path, lines=True)}
    frame = readers.get(fmt, pd.read_parquet)(file)
    assert (
        len(frame) == 3
        and list(frame.columns) == named
        and "violation" not in (folder / "README.md").read_text().split("## Columns")[1].split("##")[0]
    )


@pytest.mark.parametrize("names", [(), ("categories",), ("category", "<b>")])
def test_an_unknown_question_is_refused(sqlite_workspace: Workspace, now: datetime, names: tuple[str, ...]) -> None:
    """With the names there are; on the page too."""
    with sqlite_workspace.db.write() as session, pytest.raises(InputError, match="category, violation"):
        exports.ask(session, "csv", by="ada", now=now, questions=names)


@pytest.mark.parametrize("fmt", ["", "xlsx", "<script>", "../csv", "c" * 9999])
def test_an_unknown_format_is_refused(client: Client, workspace: Workspace, fmt: str) -> None:
    """400 that names the formats there are; nothing is noted."""
    ada = client(Role.ENGINEER)
    assert ada.post("/exports", data={"format": "csv", "questions": fmt}, headers=HTML).status_code == 400
    answer = ada.post("/exports", data={"format": fmt}, headers=HTML)
    assert answer.status_code == 400 and "parquet, jsonl, csv, hf" in answer.text and "<script" not in answer.text
    with workspace.db.read() as session:
        assert session.execute(select(ExportRow.id)).first() is None
    with pytest.raises(NotFoundError, match="is not known"), workspace.db.read() as session:
        exports.get(session, 1)
