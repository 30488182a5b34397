"""Commands that are killed without warning while they write files or change what is live."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from curation.release import registry
from curation.store import jobs
from curation.store.workspace import Workspace, set_state
from tests import api_world, builders, launch
from tests.commands import run, run_json
from tests.conftest import NOW
from trainer.search import state

pytestmark = pytest.mark.slow


def killed(workspace: Workspace, point: str, *words: object) -> None:
    """Run a command that dies at this point."""
    settings = workspace.settings
    environment = launch.environment(home=settings.home, database_url=settings.url, crash_at=point)
    done = subprocess.run(launch.command(*words), env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -9, f"{point} was not reached: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("point", ["file.before_rename", "snapshot.before_row", "export.before_rename"])
def test_an_export_killed_before_its_end_is_not_there(sqlite_workspace: Workspace, tmp_path: Path, point: str) -> None:
    """No folder of its name, no half a file in the store; made again it is whole (faults 23, 62)."""
    builders.add(sqlite_workspace, *builders.records(20))
    out = tmp_path / "dataset"
    killed(sqlite_workspace, point, "export", "--out", out)
    assert not out.exists()
    for path in sqlite_workspace.files.root.glob("[0-9a-f][0-9a-f]/*.parquet"):
        assert sqlite_workspace.files.get(path.stem, ".parquet"), "a name without its bytes"
    assert run_json(sqlite_workspace, "export", "--out", out)["n_listings"] == 20
    assert (out / "manifest.json").is_file()


def test_what_the_killed_left_is_removed_a_day_later(sqlite_workspace: Workspace, tmp_path: Path) -> None:
    """Nobody fills the disk with halves; what may still be written to is left alone."""
    builders.add(sqlite_workspace, *builders.records(5))
    out = tmp_path / "dataset"
    for point in ("file.before_rename", "export.before_rename"):
        killed(sqlite_workspace, point, "export", "--out", out)
    left = [*sqlite_workspace.files.root.glob(".snapshot-*"), *tmp_path.glob(".dataset.part-*")]
    assert len(left) == 2
    run_json(sqlite_workspace, "export", "--out", out)
    assert all(path.exists() for path in left)
    for path in left:
        os.utime(path, (0, 0))
    run_json(sqlite_workspace, "export", "--out", out, "--overwrite")
    assert not any(path.exists() for path in left)


def test_an_export_killed_while_it_takes_anothers_place(sqlite_workspace: Workspace, tmp_path: Path) -> None:
    """The one before had stepped aside: it is back at the next attempt, which may replace it (faults 23, 62)."""
    builders.add(sqlite_workspace, *builders.records(20))
    out = tmp_path / "dataset"
    before = run_json(sqlite_workspace, "export", "--out", out)
    builders.add(sqlite_workspace, builders.record("another"))
    killed(sqlite_workspace, "export.between_renames", "export", "--out", out, "--overwrite")
    assert not out.exists()
    assert "holds an earlier export" in run(sqlite_workspace, "export", "--out", out).output
    assert json.loads((out / "manifest.json").read_text())["snapshot"]["sha256"] == before["snapshot_sha256"]
    assert run_json(sqlite_workspace, "export", "--out", out, "--overwrite")["n_listings"] == 21


@pytest.mark.parametrize(("point", "live"), [("release.before_commit", "det-0001"), ("release.after_commit", "det-0002")])
def test_a_promotion_killed_is_done_or_not(workspace: Workspace, point: str, live: str) -> None:
    """One row of the log and one refresh of the suggestions, or neither; asked again, the model is live (faults 23, 55)."""
    with workspace.db.write() as session:
        set_state(session, registry.PROJECT, {"id": 1}, now=NOW)
    api_world.promote(workspace)
    with workspace.db.write() as session:
        registry.add_model(session, run_id=None, **api_world.stored(workspace.files, bias=0.5), report={}, now=NOW)
    killed(workspace, point, "promote", "det-0002", "--reason", "better")
    with workspace.db.read() as session:
        n = int(live[-1])
        assert registry.live_name(session) == live
        assert (len(registry.releases(session)), jobs.count_by_state(session)) == (n, {"todo": n})
    run_json(workspace, "promote", "det-0002", "--reason", "better")
    with workspace.db.read() as session:
        assert registry.live_name(session) == "det-0002"


def test_a_search_killed_while_it_is_saved_keeps_the_older_state(tmp_path: Path) -> None:
    """The file is the old one, whole; the next save replaces it (faults 23, 47)."""
    code = (
        "import os, sys, torch\nfrom pathlib import Path\nfrom curation import crash\nfrom trainer.search import state\n"
        "crash.arm(os.environ)\npath = Path(sys.argv[1])\n"
        "for n in range(2):\n    state.write(path, {'n': n}, {'w': torch.full((1000,), float(n))})\n"
    )
    for point, status, n in (("file.before_rename:2", -9, 0), ("", 0, 1)):
        environment = launch.environment(crash_at=point)
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], env=environment, timeout=120, check=False)
        assert (done.returncode, state.read(tmp_path / "s")[0]["n"]) == (status, n)
