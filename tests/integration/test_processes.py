"""A run of several processes under torchrun, and one whose GPU is gone."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select

from curation.release import registry
from curation.review import probabilities
from curation.store import jobs
from curation.store.tables import JobRow, Release
from curation.store.workspace import Workspace
from curation.worker import Worker
from tests.conftest import make_workspace
from tests.integration.test_retrain import TINY, catalog
from trainer import retrain
from trainer.config import TrainConfig

ROOT = Path(__file__).parents[2]


def torchrun(workspace: Workspace, config: TrainConfig) -> subprocess.CompletedProcess[str]:
    """`refurbish retrain` in two processes."""
    usual = asdict(TrainConfig())
    changes = [f"--set={name}={value}" for name, value in asdict(config).items() if value != usual[name]]
    flags = ["--home", workspace.settings.home, "--database-url", workspace.settings.url]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "curation.cli"]
    command = [*launcher, *flags, "retrain", "--json", "--device", "cpu", *changes]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_release_what_one_would(tmp_path: Path, now: datetime) -> None:
    """One report, one release, and the same losses and out-of-sample probabilities; the other process writes nothing."""
    made = [make_workspace(tmp_path / name, f"sqlite:///{tmp_path / name}.db") for name in ("one", "two")]
    for workspace in made:
        catalog(workspace, 60)
    config = replace(TINY, n_threads=1)
    done = torchrun(made[1], config)
    assert done.returncode == 0, done.stderr[-4000:]
    reports = retrain.run(made[0], trigger="test", now=now, config=config), json.loads(done.stdout)
    assert np.allclose(*(report["fit"]["losses"] for report in reports), atol=1e-4)
    found = [probabilities.newest(workspace) for workspace in made]
    assert np.allclose(*(one[1].pred_probs for one in found if one), atol=1e-4)
    with made[1].db.read() as session:
        assert [run.state for run in registry.runs(session)] == ["promoted"]
        assert len(session.execute(select(Release.id)).all()) == 1
    for workspace in made:
        workspace.close()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_that_cannot_begin_ends_all_processes(sqlite_workspace: Workspace) -> None:
    """The other one does not wait for what never comes."""
    done = torchrun(sqlite_workspace, TINY)
    assert done.returncode != 0 and "no listings" in done.stderr and not done.stdout.strip()


def test_a_gpu_gone_in_mid_run_fails_the_run_and_not_the_job(
    sqlite_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run says what happened and what to do; the job comes again."""
    catalog(sqlite_workspace, 30)
    with sqlite_workspace.db.write() as session:
        jobs.enqueue(session, "retrain", {"trigger": "test"}, key="retrain", now=sqlite_workspace.db.now(session))

    def gone(*_: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(retrain, "detect", gone)
    assert Worker(sqlite_workspace, ["retrain"]).step()
    with sqlite_workspace.db.read() as session:
        runs = registry.runs(session)
        job = session.execute(select(JobRow.state, JobRow.error)).one()
    assert [run.state for run in runs] == ["failed"] and "stopped answering during run 1" in runs[0].report["error"]
    assert job.state == "todo" and "run it again" in job.error
