"""A training run between its row's first and last state: its model, whether that goes live, and how the run ended."""

import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import select
from sqlalchemy.orm import Session

from curation import telemetry
from curation.release import registry
from curation.release.gates import Check, Verdict
from curation.release.registry import Model
from curation.store.tables import RunRow
from curation.store.workspace import Workspace
from trainer.config import TrainConfig
from trainer.given import Stages
from trainer.onnx import Artifact

log = telemetry.logger("retrain")


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that was noted as running."""

    run_id: int
    snapshot_sha256: str
    champion: Model | None
    config: TrainConfig
    device: torch.device
    started_s: float  #: `time.monotonic()`


@contextmanager
def alive(workspace: Workspace, run_id: int) -> Iterator[None]:
    """As long as it lasts, other processes on this data folder see that somebody works on the run, however it ends."""
    path = _sign(workspace, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
        path.unlink(missing_ok=True)


def bury_killed(workspace: Workspace) -> None:
    """End runs whose process is gone without a word, as after `kill -9`; a run left as running would hide its corrections."""
    with workspace.db.write() as session:
        now = workspace.db.now(session)
        for run_id in session.execute(select(RunRow.id).where(RunRow.state == "running")).scalars().all():
            path = _sign(workspace, run_id)
            if _is_left(path):
                report = {"run_id": run_id, "error": "the process was killed; run it again, it goes on from its checkpoints"}
                registry.finish_run(session, run_id, state="failed", report=report, n_seconds=None, now=now)
                path.unlink(missing_ok=True)


def _sign(workspace: Workspace, run_id: int) -> Path:
    return workspace.settings.home / "running" / f"{run_id}.lock"


def _is_left(path: Path) -> bool:
    """Whether a process began to hold this file and holds it no more; a lock ends with its process."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # there is none here, or somebody holds it
        return False
    return True


def against_the_live_model(session: Session, begun: Begun, verdict: Verdict) -> Verdict:
    """Refuse if another model went live, or was rolled back to, while this one was compared with its champion."""
    registry.hold(session)
    live = registry.live(session)
    before, after = (None if model is None else model.name for model in (begun.champion, live))
    if before == after:
        return verdict
    words = (
        f"the live model changed from {before or 'none'} to {after or 'none'} during the run; train again to be compared with it"
    )
    return replace(verdict, passed=False, checks=(*verdict.checks, Check("live model", False, words, {})))


def released(
    session: Session,
    workspace: Workspace,
    begun: Begun,
    artifact: Artifact,
    verdict: Verdict,
    report: Mapping[str, Any],
    *,
    by: str,
    now: datetime,
) -> dict[str, Any]:
    """Register the run's model with its report, live if the verdict passed; run, model and state for the run's own report."""
    model = registry.add_model(
        session,
        run_id=begun.run_id,
        onnx_sha256=artifact.onnx_sha256,
        sidecar_sha256=artifact.sidecar_sha256,
        weights_sha256=artifact.weights_sha256,
        report=report,
        now=now,
    )
    if verdict.passed:
        registry.promote(session, model.name, by=by, reason=verdict.words, now=now, files=workspace.files)
    return {"run_id": begun.run_id, "model": model.name, "state": "promoted" if verdict.passed else "refused"}


def ended(session: Session, begun: Begun, report: Mapping[str, Any], stages: Stages, *, now: datetime) -> dict[str, Any]:
    """Note the run's end in the state that its report names; the report with snapshot and seconds, as stored."""
    n_seconds = time.monotonic() - begun.started_s
    seconds = {**stages.seconds, "total": round(n_seconds, 2)}
    whole = {**report, "snapshot": begun.snapshot_sha256, "seconds": seconds}
    registry.finish_run(session, begun.run_id, state=report["state"], report=whole, n_seconds=n_seconds, now=now)
    return whole


def note_failure(workspace: Workspace, begun: Begun, error: BaseException) -> None:
    """The run's own row says why it ended; a database that is away must not hide the first error."""
    report: Mapping[str, Any] = {"run_id": begun.run_id, "error": f"{type(error).__name__}: {error}"}
    try:
        with workspace.db.write() as session:
            n_seconds = time.monotonic() - begun.started_s
            registry.finish_run(
                session, begun.run_id, state="failed", report=report, n_seconds=n_seconds, now=workspace.db.now(session)
            )
    except Exception as failure:
        log.warning("failure not noted", run=begun.run_id, error=str(failure))
