"""A disk that is full at any write: nothing half-written is seen, what was there stays, and with room it goes on."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import func, select, text

from curation.errors import InputError
from curation.release import export, exports, snapshot
from curation.store import backup
from curation.store.files import FileStore
from curation.store.tables import Inbox, JobRow, SnapshotRow
from curation.store.workspace import Workspace
from curation.worker import Worker
from tests import builders
from tests.conftest import NOW
from tests.full_disk import every, failing, largest_file
from webhooks import service

HEADERS = {"X-Refurbish-Secret": "s3cret-" + "x" * 32}
PAGE_BYTES = 4096


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def damaged(folder: Path) -> list[str]:
    """Files below that do not hold what they are named by, such as parts of one."""
    return [name for name, data in tree(folder).items() if Path(name).stem != hashlib.sha256(data).hexdigest()]


@pytest.fixture
def filled(sqlite_workspace: Workspace) -> Workspace:
    """Six listings and their snapshot."""
    builders.add(sqlite_workspace, *builders.records(6))
    snapshot.create(sqlite_workspace, now=NOW)
    return sqlite_workspace


SLOW = pytest.mark.slow


@pytest.mark.parametrize("fmt", ["jsonl", pytest.param("csv", marks=SLOW), pytest.param("hf", marks=SLOW)])
def test_an_export_that_fails_at_any_write_leaves_nothing(filled: Workspace, tmp_path: Path, fmt: str) -> None:
    """For every operation on the disk: the error names the folder, and beside it there is nothing (faults 49, 62)."""
    out = tmp_path / "out"

    def write(name: str) -> object:
        return export.write(filled, out / name, fmt, now=NOW)

    write("whole")
    before = tree(out)
    n = every(lambda: write("counted"), out)
    shutil.rmtree(out / "counted")
    assert n > 10 and "whole/manifest.json" in before
    for nth in range(1, n + 1):
        with failing(out, nth) as disk, pytest.raises(InputError, match="nothing was left behind, make room"):
            write("broken")
        assert disk.n_failed and tree(out) == before and [path.name for path in out.iterdir()] == ["whole"], nth


def test_an_export_that_cannot_replace_the_one_before_keeps_it(filled: Workspace, tmp_path: Path) -> None:
    """With --overwrite, whatever fails and however long: the earlier export stays whole (fault 49)."""
    out = tmp_path / "out"

    def write() -> object:
        return export.write(filled, out / "data", "jsonl", now=NOW, overwrite=True)

    write()
    n = every(write, out)
    before = tree(out)
    for nth in range(1, n + 1):
        with failing(out, nth, errno.EIO), pytest.raises(InputError):
            write()
        assert tree(out) == before, nth


@pytest.mark.parametrize("fmt", ["parquet", "hf"])
def test_a_parquet_file_cut_by_the_kernel_is_no_export(filled: Workspace, tmp_path: Path, fmt: str) -> None:
    """Arrow writes by itself: a file that may not grow any more ends the export in the same way (fault 49)."""
    with filled.db.read() as session:
        frozen = session.execute(select(SnapshotRow.sha256)).scalar_one()
    for n_bytes in (0, 1, 100, 1000, 3000):
        with largest_file(n_bytes), pytest.raises(InputError, match="nothing was left behind"):
            export.write(filled, tmp_path / "out" / "data", fmt, now=NOW, snapshot_sha256=frozen)
        assert tree(tmp_path / "out") == {}


def test_an_export_job_waits_for_room(filled: Workspace) -> None:
    """A full disk is no mistake of the asker: the job fails this time and makes it the next (fault 49)."""
    with filled.db.write() as session:
        export_id, _ = exports.ask(session, "jsonl", by="ada", now=NOW)
    with failing(exports.folder_of(filled), 5):
        Worker(filled, ["export"]).run(until_idle=True)
    with filled.db.write() as session:
        found = exports.get(session, export_id)
        assert found.state == "making" and "No space left" in str(found.error)
        session.execute(text("UPDATE job SET run_after = created_at"))
    Worker(filled, ["export"]).run(until_idle=True)
    with filled.db.read() as session:
        assert exports.get(session, export_id).state == "ready"


def test_a_snapshot_that_fails_at_any_write_is_none(sqlite_workspace: Workspace) -> None:
    """No row, no part of a file; the next try makes it (fault 49)."""
    builders.add(sqlite_workspace, *builders.records(6))
    root = sqlite_workspace.files.root
    for nth in range(1, 20):
        with failing(root, nth) as disk, contextlib.suppress(InputError):
            snapshot.create(sqlite_workspace, now=NOW)
        if not disk.n_failed:
            break
        assert _n_snapshots(sqlite_workspace) == 0 and damaged(root) == [], nth
    assert nth > 4 and _n_snapshots(sqlite_workspace) == 1


def test_a_snapshot_cut_by_the_kernel_is_none(sqlite_workspace: Workspace) -> None:
    """Arrow writes by itself; what to do is said, and the command ends without a traceback (fault 49)."""
    builders.add(sqlite_workspace, *builders.records(6))
    for n_bytes in (0, 500, 1500):
        with largest_file(n_bytes), pytest.raises(InputError, match=r"the snapshot cannot be written .* make room"):
            snapshot.create(sqlite_workspace, now=NOW)
        assert _n_snapshots(sqlite_workspace) == 0 and tree(sqlite_workspace.files.root) == {}


def _n_snapshots(workspace: Workspace) -> int:
    with workspace.db.read() as session:
        return session.execute(select(func.count()).select_from(SnapshotRow)).scalar_one()


def test_a_stored_file_is_whole_or_not_there(tmp_path: Path) -> None:
    """Models, states and photos are written by `put`: after a failure at any operation no part of one lies there (fault 49)."""
    store = FileStore(tmp_path / "files")
    store.put(b"first" * 1000, ".onnx")
    for nth in range(1, 20):
        with failing(store.root, nth) as disk, contextlib.suppress(OSError):
            sha256 = store.put(b"second" * 1000, ".onnx")
        if not disk.n_failed:
            break
        assert damaged(store.root) == [], nth
        store.path(hashlib.sha256(b"second" * 1000).hexdigest(), ".onnx").unlink(missing_ok=True)
    assert nth > 4 and store.get(sha256, ".onnx") == b"second" * 1000


def test_a_backup_that_fails_at_any_write_is_no_backup(filled: Workspace, tmp_path: Path) -> None:
    """It cannot be restored, and the next one into the same folder is whole (faults 49, 74)."""
    folder = tmp_path / "backup"
    n = every(lambda: backup.take(filled, folder, now=NOW), folder)
    for nth in range(1, n + 1):
        with failing(folder, nth) as disk, contextlib.suppress(InputError):
            backup.take(filled, folder, now=NOW)
        if disk.n_failed and "backup.json" not in os.listdir(folder):  # else only the sync of its name failed
            with pytest.raises(InputError, match="cut short"):
                backup.read(folder)
    assert backup.take(filled, folder, now=NOW).n_files > 0
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part")]


def test_the_inbox_on_a_disk_that_fills_up_anywhere(app: Flask, workspace: Workspace) -> None:
    """At each page that cannot be written the answer is 503 with neither row nor job; with room all come in (faults 20, 49)."""
    if not workspace.db.is_sqlite:
        return  # the server's own process writes there
    wal = Path(f"{workspace.db.engine.url.database}-wal")
    client, answers = app.test_client(), []
    for number in range(24):
        body = json.dumps({"n": number, "x": "y" * 9000}).encode()
        grown = wal.stat().st_size if wal.exists() else 0
        with largest_file(grown + number * PAGE_BYTES // 2):
            answers.append(client.post("/hooks/labelstudio", data=body, headers=HEADERS).status_code)
        assert _counts(workspace) == (answers.count(202),) * 2, number
    assert set(answers) == {202, 503}
    for number in range(24):
        body = json.dumps({"n": number, "x": "y" * 9000}).encode()
        assert client.post("/hooks/labelstudio", data=body, headers=HEADERS).status_code == 202
    with workspace.db.read() as session:
        assert session.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    assert _counts(workspace) == (24, 24)


def test_a_log_that_cannot_be_written_fails_nothing(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stderr on a full disk a delivery is stored and a job is done all the same (fault 49)."""
    full = Path("/dev/full").open("w")  # noqa: SIM115  closing it fails too
    monkeypatch.setattr("sys.stderr", full)
    answer = app.test_client().post("/hooks/labelstudio", data=b'{"action": "x"}', headers=HEADERS)
    n_run = Worker(service.of(app).workspace, ["ingest"]).run(until_idle=True)
    monkeypatch.undo()
    with contextlib.suppress(OSError):
        full.close()
    assert (answer.status_code, n_run) == (202, 1)


def _counts(workspace: Workspace) -> tuple[int, int]:
    with workspace.db.read() as session:
        return (
            session.execute(select(func.count()).select_from(Inbox)).scalar_one(),
            session.execute(select(func.count()).select_from(JobRow)).scalar_one(),
        )
