"""Only one process writes tasks at a time; and what the set-up needs before it asks Label Studio anything."""

import dataclasses
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from curation.errors import ConfigError, LabelStudioError
from curation.labelstudio import lease, project, push
from curation.labelstudio.client import Unanswered
from curation.labelstudio.lease import Busy
from curation.store import jobs
from curation.store.jobrun import JobRun
from curation.store.workspace import Workspace, get_state, set_state
from tests.conftest import NOW, make_workspace


def holder(workspace: Workspace, **changes: object) -> None:
    """Pretend that a process holds the lease since a moment ago."""
    with workspace.db.write() as session:
        now = workspace.db.now(session)
        held = {"host": "elsewhere", "pid": 1, "until": (now + timedelta(minutes=10)).isoformat(), **changes}
        set_state(session, lease.STATE, held, now=now)


def dead_pid() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def this_host() -> str:
    return os.uname().nodename


def test_lease_is_given_back(workspace: Workspace) -> None:
    """After a push, and after one that failed with an answer, the next may begin at once."""
    with pytest.raises(LabelStudioError, match="refused"), lease.exclusive(workspace) as writer, writer.writing():
        raise LabelStudioError("refused")
    with lease.exclusive(workspace), workspace.db.read() as session:
        assert (get_state(session, lease.STATE) or {})["pid"] == os.getpid()


def test_second_writer_is_refused(workspace: Workspace) -> None:
    """Two imports at once would double every task."""
    with lease.exclusive(workspace), pytest.raises(Busy, match=f"process {os.getpid()} on"), lease.exclusive(workspace):
        pass


def test_unanswered_import_keeps_the_lease(workspace: Workspace) -> None:
    """Its tasks may still be made, so a retry has to wait."""
    with pytest.raises(Unanswered), lease.exclusive(workspace) as writer, writer.writing():
        raise Unanswered("cannot import: no answer")
    with pytest.raises(Busy), lease.exclusive(workspace):
        pass


def test_lease_of_another_host_runs_out(workspace: Workspace) -> None:
    """Nobody can look at processes elsewhere, so only the time counts."""
    holder(workspace)
    with pytest.raises(Busy), lease.exclusive(workspace):
        pass
    holder(workspace, until=(NOW - timedelta(days=400)).isoformat())
    with lease.exclusive(workspace):
        pass


@pytest.mark.parametrize(("writing_ago_s", "is_free"), [(None, True), (5, False), (120, True)])
def test_killed_writer(workspace: Workspace, writing_ago_s: int | None, is_free: bool) -> None:
    """A dead process holds nothing, except for the time that its import may go on in the server."""
    with workspace.db.read() as session:
        since = None if writing_ago_s is None else (workspace.db.now(session) - timedelta(seconds=writing_ago_s)).isoformat()
    holder(workspace, host=this_host(), pid=dead_pid(), writing_since=since)
    if is_free:
        with lease.exclusive(workspace):
            return
    with pytest.raises(Busy), lease.exclusive(workspace):
        pass


def test_push_job_is_put_off_while_another_writes(tmp_path: Path) -> None:
    """The job comes back later and has used up no attempt."""
    workspace = _configured(tmp_path)
    holder(workspace)
    with workspace.db.write() as session:
        jobs.enqueue(session, "push", {}, key="push", now=NOW)
        job = jobs.claim(session, worker="w", now=NOW, lease_s=60)
    assert job is not None
    run = JobRun(workspace, job)
    push.handle(run)
    with workspace.db.write() as session:
        again = jobs.claim(session, worker="w", now=workspace.db.now(session) + timedelta(minutes=5), lease_s=60)
    workspace.close()
    assert run.is_finished
    assert again is not None and (again.id, again.attempt) == (job.id, 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [({}, "no categories yet; run `refurbish ingest`"), ({"webhook_secret": ""}, "webhook_secret is not set")],
)
def test_set_up_says_what_is_missing(tmp_path: Path, flags: dict[str, str], message: str) -> None:
    """Before anything is made in Label Studio."""
    workspace = _configured(tmp_path, **flags)
    with pytest.raises(ConfigError, match=message):
        project.setup(workspace, NOW)
    workspace.close()


def test_push_before_set_up_is_refused(tmp_path: Path) -> None:
    """The message names the command."""
    workspace = _configured(tmp_path)
    with pytest.raises(ConfigError, match="no Label Studio project yet; run `refurbish labelstudio setup`"):
        push.push(workspace, now=NOW)
    workspace.close()


def _configured(folder: Path, **flags: str) -> Workspace:
    made = make_workspace(
        folder / "home",
        f"sqlite:///{folder / 'refurbish.db'}",
        label_studio_url="http://127.0.0.1:9",
        label_studio_token="0" * 40,
    )
    secrets = {name: SecretStr(value) for name, value in flags.items()}
    return dataclasses.replace(made, settings=made.settings.model_copy(update=secrets))
