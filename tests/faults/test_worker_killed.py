"""A real worker, killed without warning while it applies deliveries."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from curation.store import inbox, jobs
from curation.store.tables import AnnotationRow, LabelHistory
from curation.store.workspace import Workspace, set_state
from tests import launch
from tests.conftest import NOW

N_DELIVERIES = 60


@pytest.mark.slow
def test_killed_workers_apply_every_delivery_once(workspace: Workspace) -> None:
    """Kill -9 three workers in the middle; the fourth finishes, and each annotation is there once (fault 23)."""
    with workspace.db.write() as session:
        set_state(session, "labelstudio.project", {"id": 1, "url": "http://127.0.0.1:1"}, now=NOW)
        inbox.receive(session, [inbox.Delivery("labelstudio", _body(i), NOW) for i in range(N_DELIVERIES)])
    for _ in range(3):
        _kill_midway(workspace)
    _worker(workspace, "--until-idle").wait(120)
    with workspace.db.read() as session:
        assert jobs.count_by_state(session) == {"done": N_DELIVERIES}
        rows = session.execute(select(AnnotationRow.source_id, func.count()).group_by(AnnotationRow.source_id)).all()
        assert len(rows) == N_DELIVERIES
        assert {n for _, n in rows} == {2}  # one row per question
        assert session.execute(select(func.count()).select_from(LabelHistory)).scalar_one() == 0  # no such listings yet


def _body(i: int) -> bytes:
    stamp = f"2026-02-01T10:00:{i % 60:02d}.000000Z"
    choice = {"from_name": "violation", "to_name": "title", "type": "choices", "value": {"choices": ["none"]}}
    annotation = {
        "id": i,
        "task": i,
        "project": 1,
        "completed_by": 1,
        "result": [choice],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": stamp,
        "updated_at": stamp,
        "lead_time": 5.0,
    }
    body = {
        "action": "ANNOTATION_CREATED",
        "annotation": annotation,
        "task": {"id": i, "data": {"listing_id": f"L{i}"}},
        "project": {"id": 1},
    }
    return json.dumps(body).encode()


def _kill_midway(workspace: Workspace) -> None:
    process = _worker(workspace)
    n_before, deadline = _n_done(workspace), time.monotonic() + 30
    while _n_done(workspace) < n_before + 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1.1)  # the lease of the job it held


def _n_done(workspace: Workspace) -> int:
    with workspace.db.read() as session:
        return jobs.count_by_state(session).get("done", 0)


def _worker(workspace: Workspace, *options: str) -> subprocess.Popen[bytes]:
    settings = {"home": workspace.settings.home, "database_url": workspace.settings.url, "lease_s": 1}
    return launch.start(Path(os.devnull), "worker", "--kinds", "ingest", *options, **settings)
