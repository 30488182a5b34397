"""Folders that cannot be written, and file systems that lose data: said at start-up and by doctor, never a traceback."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from curation.cli import main
from curation.store import mounts
from tests import commands
from tests.conftest import make_workspace

NOBODY = 65534


@contextmanager
def without_rights() -> Iterator[None]:
    """Root may write anywhere; a service does not run as root."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was == 0:
            os.seteuid(was)


@pytest.fixture
def home() -> Iterator[Path]:
    """A data folder that others may read and enter, with a database in it."""
    with tempfile.TemporaryDirectory(prefix="home-") as folder:
        Path(folder).chmod(0o755)
        found = Path(folder) / "home"
        make_workspace(found, f"sqlite:///{found / 'refurbish.db'}").close()
        yield found


@pytest.mark.parametrize("words", [("worker", "--until-idle"), ("serve",), ("inbox", "list"), ("db", "upgrade")], ids=str)
def test_a_folder_that_cannot_be_written_ends_a_command_with_words(home: Path, words: tuple[str, ...]) -> None:
    """It names the folder and what to do; exit code 2 or 75, so that a supervisor tries again (fault 76)."""
    commands.CliRunner().invoke(main, ["--home", str(home), "inbox", "list"])  # what is imported must be readable, too
    home.chmod(0o555)
    (home / "refurbish.db").chmod(0o444)
    with without_rights():
        found = CliRunner().invoke(main, ["--home", str(home), *words])
    home.chmod(0o755)
    assert found.exit_code in (2, 75) and isinstance(found.exception, SystemExit), found.output
    assert found.stderr.startswith("refurbish: ") and str(home) in found.stderr and "cannot be written" in found.stderr


def test_doctor_names_a_folder_that_cannot_be_written(home: Path) -> None:
    """And goes on to the other checks (fault 76)."""
    CliRunner().invoke(main, ["--home", str(home), "doctor"])
    home.chmod(0o555)
    with without_rights():
        found = CliRunner().invoke(main, ["--home", str(home), "doctor"])
    home.chmod(0o755)
    assert found.exit_code == 1 and f"{home} cannot be written: Permission denied; give it to the user" in found.stdout


def test_a_home_that_cannot_be_made_is_named(home: Path) -> None:
    """Below a file, and below a folder without rights (fault 76)."""
    for parent in (home / "refurbish.db", home):
        home.chmod(0o555)
        with without_rights():
            found = CliRunner().invoke(main, ["--home", str(parent / "new"), "db", "upgrade"])
        home.chmod(0o755)
        assert found.exit_code == 2 and "cannot be made" in found.stderr and "--home" in found.stderr


@pytest.mark.parametrize("words", [("worker", "--until-idle"), ("serve",), ("db", "upgrade"), ("inbox", "list")], ids=str)
def test_sqlite_on_a_network_file_system_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Before anything is written there; the way out is named, and doctor tells it as well (fault 76)."""
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / {home} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr(mounts, "TABLE", table)
    found = CliRunner().invoke(main, ["--home", str(home), *words])
    assert found.exit_code == 75 and "is on nfs4, where SQLite loses data" in found.stderr and "PostgreSQL" in found.stderr
    told = CliRunner().invoke(main, ["--home", str(home), "doctor"])
    assert told.exit_code == 1 and "is on nfs4" in told.stdout
