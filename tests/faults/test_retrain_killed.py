"""A real `refurbish retrain`, killed without warning while it fits."""

import hashlib
import signal
import subprocess
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from curation import settings
from curation.errors import StaleLease
from curation.release import policy, registry
from curation.store.tables import ModelVersion
from curation.store.workspace import Workspace
from tests import launch
from tests.integration.test_retrain import catalog, claimed, verify
from tests.labelstudio_server import free_port
from trainer import retrain
from trainer.given import Stages

N_LISTINGS = 120
SHAPE = ("--folds", "2", "--epochs", "3", "--set", "checkpoint_s=0", "--set", "n_threads=1", "--set", "batch=32")
PATIENCE_S = 180.0
HANGS_S = 40


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


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_processes_end_together(sqlite_workspace: Workspace, end: signal.Signals) -> None:
    """One of two dies or hangs in the midst of a fit: the other ends within the time-out, and nothing half is left (fault 52)."""
    catalog(sqlite_workspace, 60)
    home, port = sqlite_workspace.settings.home, free_port()
    told = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "USE_LIBUV": 0}
    told |= {"REFURBISH_DATABASE_URL": sqlite_workspace.settings.url, "REFURBISH_PROCESS_TIMEOUT_S": HANGS_S}
    words = launch.command("retrain", "--folds", "2", "--epochs", "2000", "--set", "patience=2000", "--set", "checkpoint_s=0")
    both = [
        subprocess.Popen(
            words, env={**environment(home), **_text(told), "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE
        )
        for rank in ("0", "1")
    ]
    try:
        wait_for(home, "fold-0", 2, both)
        both[1].send_signal(end)
        _, error = both[0].communicate(timeout=PATIENCE_S)
    finally:
        for process in both:
            process.kill()
            process.communicate()
    assert both[0].returncode == 1 and b"process 0 of 2 waited for the others in vain" in error
    with sqlite_workspace.db.read() as session:
        assert [run.state for run in registry.runs(session)] == ["failed"] and registry.live(session) is None
    for path in home.glob("cache/fits/*/*/*"):
        assert path.name.endswith(f"-{hashlib.sha256(path.read_bytes()).hexdigest()}.safetensors")


def _text(told: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in told.items()}


def refurbish(home: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """One command as a process of its own, until it ends."""
    return subprocess.run(
        launch.command(*words), env=environment(home), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def kill_at(home: Path, fit: str, epoch: int) -> None:
    """Begin a run, and kill it once this epoch of this fit is on disk."""
    process = subprocess.Popen(
        launch.command("retrain", *SHAPE), env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(home, fit, epoch, [process])
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def wait_for(home: Path, fit: str, epoch: int, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until this epoch of this fit is on disk."""
    until_s = time.monotonic() + PATIENCE_S
    while not any(int(path.name[:4]) >= epoch for path in home.glob(f"cache/fits/*/{fit}-*/*.safetensors")):
        assert all(process.poll() is None for process in processes) and time.monotonic() < until_s
        time.sleep(0.005)


def ended(home: Path) -> tuple[list[tuple[str, str]], list[registry.Run]]:
    """sha256 of weights and exported file of each model, and the runs."""
    workspace = Workspace.open(settings.load(home=home))
    with workspace.db.read() as session:
        models = session.execute(select(ModelVersion.weights_sha256, ModelVersion.onnx_sha256)).all()
        found = [(row.weights_sha256, row.onnx_sha256) for row in models], registry.runs(session)
    workspace.close()
    return found


def environment(home: Path) -> dict[str, str]:
    return launch.environment(home=home) | {"OMP_NUM_THREADS": "1"}
