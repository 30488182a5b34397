"""A real `refurbish retrain`, killed without warning while it fits."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from curation import settings
from curation.errors import StaleLease
from curation.release import policy, registry
from curation.store.tables import ModelVersion
from curation.store.workspace import Workspace
from tests.integration.test_retrain import catalog, claimed, verify
from trainer import retrain
from trainer.given import Stages

N_LISTINGS = 120
SHAPE = ("--folds", "2", "--epochs", "3", "--set", "checkpoint_s=0", "--set", "n_threads=1", "--set", "batch=32")
PATIENCE_S = 180.0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Kill -9 in the second fold and in the last fit; the third run's model is that of a run left alone (fault 47)."""
    refurbish(tmp_path, "sample", "--n", N_LISTINGS, "--seed", 3, "--out", tmp_path / "catalog").check_returncode()
    homes = [tmp_path / name for name in ("alone", "killed")]
    for home in homes:
        refurbish(home, "db", "upgrade").check_returncode()
        done = refurbish(home, "ingest", tmp_path / "catalog/listings.csv", "--images", tmp_path / "catalog/images")
        assert done.returncode == 0, done.stderr
    for fit, epoch in (("fold-1", 1), ("whole", 1)):
        kill_at(homes[1], fit, epoch)
    for home in homes:
        assert refurbish(home, "retrain", *SHAPE).returncode == 0
    (alone, _), (killed, runs) = (ended(home) for home in homes)
    assert alone == killed
    assert [run.state for run in runs] == ["promoted", "failed", "failed"]
    assert runs[0].report["resumed"]["fold-0"] == 3 and runs[0].report["resumed"]["whole"] >= 1
    assert "was killed" in runs[1].report["error"] and not list((homes[1] / "cache" / "fits").iterdir())


@pytest.mark.slow
def test_a_killed_worker_hands_over_its_fits(workspace: Workspace) -> None:
    """The next attempt trains on the lost one's snapshot, though labels changed since, from its checkpoints (faults 23, 47)."""
    catalog(workspace, 60)
    with workspace.db.read() as session:
        now = workspace.db.now(session)
    job = claimed(workspace, now, folds=2, epochs=3, changes={"checkpoint_s": 0})
    config = retrain.train_config(workspace.settings, folds=2, epochs=3, changes={"checkpoint_s": 0})
    begun, asked = retrain._begin(workspace, "lost", now, config, None, job_id=job.job.id), iter(range(100))
    with pytest.raises(StaleLease):
        retrain._detected(workspace, begun, Stages(lambda: next(asked) > 8))
    verify(workspace, now=now + timedelta(seconds=1), n=5)
    retrain.handle(job)
    with workspace.db.read() as session:
        again, lost = registry.runs(session)
        assert policy.corrections(session).n_listings == 5
    assert (lost.state, again.state) == ("failed", "promoted") and again.started_at == lost.started_at
    assert again.snapshot_id == lost.snapshot_id and again.report["resumed"]["fold-0"] == 3


def refurbish(home: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """One command as a process of its own, until it ends."""
    return subprocess.run(command(*words), env=environment(home), capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def kill_at(home: Path, fit: str, epoch: int) -> None:
    """Begin a run, and kill it once this epoch of this fit is on disk."""
    process = subprocess.Popen(
        command("retrain", *SHAPE), env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until_s = time.monotonic() + PATIENCE_S
    while not any(int(path.name[:4]) >= epoch for path in home.glob(f"cache/fits/*/{fit}-*/*.safetensors")):
        assert process.poll() is None and time.monotonic() < until_s
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def ended(home: Path) -> tuple[list[tuple[str, str]], list[registry.Run]]:
    """sha256 of weights and exported file of each model, and the runs."""
    workspace = Workspace.open(settings.load(home=home))
    with workspace.db.read() as session:
        models = session.execute(select(ModelVersion.weights_sha256, ModelVersion.onnx_sha256)).all()
        found = [(row.weights_sha256, row.onnx_sha256) for row in models], registry.runs(session)
    workspace.close()
    return found


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "curation.cli", *map(str, words)]


def environment(home: Path) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("REFURBISH_")}
    return {**own, "REFURBISH_HOME": str(home), "OMP_NUM_THREADS": "1"}
