"""One training run: snapshot → out-of-sample suspects → fit → evaluation → gate → release.

The long part holds no transaction. What it found is stored in one short transaction at the end,
in the worker fenced together with the job, so a run that lost its lease leaves nothing behind.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import torch
from sqlalchemy import select
from sqlalchemy.orm import Session

from curation import telemetry
from curation.catalog.features import FeatureConfig
from curation.errors import IntegrityError, NotFoundError, StaleLease
from curation.release import policy, registry, snapshot
from curation.release.registry import Run
from curation.release.snapshot import Snapshot
from curation.review import probabilities, queue, repair, suspects
from curation.review.consensus import MAX_ASKED_AGAIN
from curation.review.repair import Plan
from curation.settings import Settings
from curation.store import jobs
from curation.store.jobrun import JobRun
from curation.store.tables import RunRow
from curation.store.workspace import Workspace
from trainer import runs
from trainer.config import TrainConfig, read_files
from trainer.detect import Outcome, detect, device_of, device_words
from trainer.evaluate import plain
from trainer.given import Stages, follow
from trainer.processes import ALONE, Processes, joined
from trainer.runs import Begun
from trainer.search.gradients import answering

KIND = "retrain"
BY = "retrain"
AGAIN = "run it again; a process that lost its GPU seldom gets it back, so start the worker anew if that fails too"
log = telemetry.logger("retrain")


def train_config(
    settings: Settings, *, folds: int | None = None, epochs: int | None = None, changes: Mapping[str, Any] | None = None
) -> TrainConfig:
    """The defaults, with the settings' seed, folds and `train`, and what was asked for; ``@FILE`` is read. Raises ConfigError."""
    asked = {name: value for name, value in (("n_folds", folds), ("epochs", epochs)) if value is not None}
    usual = {"seed": settings.seed, "n_folds": settings.n_folds}
    return TrainConfig.from_json(read_files({**usual, **settings.train, **(changes or {}), **asked}))


def follow_run(workspace: Workspace, device: str | None = None) -> None:
    """What every process but the first does of `run`: it trains what that one says, and writes nothing."""
    with joined(device or workspace.settings.device, workspace.settings.process_timeout_s) as processes:
        sha256, config, chosen = processes.told()
        follow(workspace, sha256, TrainConfig.from_json(config), torch.device(chosen), processes)


def run(
    workspace: Workspace,
    *,
    trigger: str,
    now: datetime,
    config: TrainConfig | None = None,
    device: str | None = None,
    watch: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train, judge, and release if the gate passes; the report, as stored with the run. Under `torchrun` others `follow_run`.

    `watch` is called before each epoch and each stage. Raises InputError if there is nothing to train on; the run is then
    noted as failed.
    """
    with joined(device or workspace.settings.device, workspace.settings.process_timeout_s) as processes:
        return _run(workspace, trigger, now, config, device, processes, watch)


def _run(
    workspace: Workspace,
    trigger: str,
    now: datetime,
    config: TrainConfig | None,
    device: str | None,
    processes: Processes,
    watch: Callable[[], None],
) -> dict[str, Any]:
    def never_lost() -> bool:
        watch()
        return False

    runs.bury_killed(workspace)
    begun, stages = _begin(workspace, trigger, now, config, device, job_id=None), Stages(never_lost)
    try:
        with runs.alive(workspace, begun.run_id):
            processes.told((begun.snapshot_sha256, begun.config.to_json(), begun.device.type))
            outcome = _detected(workspace, begun, stages, processes)
            planned = _planned(workspace, begun, outcome)
            with workspace.db.write() as session:
                report = _conclude(session, workspace, begun, outcome, planned, stages, now=workspace.db.now(session))
    except BaseException as error:  # Ctrl-C too: a run left as running would hide its corrections
        runs.note_failure(workspace, begun, error)
        raise
    outcome.saved.clear()
    return report


def handle(job: JobRun) -> None:
    """The same as the worker's job `retrain`; the release is committed together with the job's end."""
    workspace, asked = job.workspace, job.job.payload
    with workspace.db.read() as session:
        now = workspace.db.now(session)
    config = train_config(workspace.settings, folds=asked.get("folds"), epochs=asked.get("epochs"), changes=asked.get("changes"))
    lost, trigger = _bury_lost(job), str(asked.get("trigger", "asked"))
    begun = _begin(workspace, trigger, now, config, asked.get("device"), job_id=job.job.id, lost=lost)
    stages = Stages(job.lost.is_set)
    try:
        outcome = _detected(workspace, begun, stages)
        planned = _planned(workspace, begun, outcome)
        with job.finishing() as session:
            _conclude(session, workspace, begun, outcome, planned, stages, now=workspace.db.now(session))
    except Exception as error:
        runs.note_failure(workspace, begun, error)
        raise
    outcome.saved.clear()


def _begin(
    workspace: Workspace,
    trigger: str,
    now: datetime,
    config: TrainConfig | None,
    device: str | None,
    *,
    job_id: int | None,
    lost: Run | None = None,
) -> Begun:
    """Note the run. One that was lost is begun again on its snapshot, as of its time: its fits go on from their checkpoints."""
    started_s = time.monotonic()
    config = config or train_config(workspace.settings)
    chosen = device_of(device or workspace.settings.device)
    frozen, now = _frozen(workspace, now, lost)
    with workspace.db.write() as session:
        champion = registry.live(session)
        run_id = registry.start_run(
            session,
            kind=KIND,
            snapshot_id=frozen.id,
            trigger=trigger,
            config={"train": config.to_json(), "features": FeatureConfig(photo_px=config.photo_px).to_json(), "job_id": job_id},
            device=device_words(chosen, config),
            n_corrections=policy.corrections(session).n_listings if lost is None else lost.n_corrections,
            now=now,
        )
    return Begun(run_id, frozen.sha256, champion, config, chosen, started_s)


def _frozen(workspace: Workspace, now: datetime, lost: Run | None) -> tuple[Snapshot, datetime]:
    """A snapshot and its time: that of a lost run where it can still be read, else one of now."""
    if lost is not None and lost.snapshot_id is not None:
        try:
            with workspace.db.read() as session:
                found = snapshot.by_id(session, lost.snapshot_id)
            snapshot.manifest(workspace, found.sha256)
        except (NotFoundError, IntegrityError) as error:
            log.warning("snapshot of the lost run not used", run=lost.id, error=str(error))
        else:
            return found, lost.started_at
    return snapshot.create(workspace, now=now), now


def _detected(workspace: Workspace, begun: Begun, stages: Stages, processes: Processes = ALONE) -> Outcome:
    log.info("run", id=begun.run_id, snapshot=begun.snapshot_sha256[:12], device=str(begun.device))
    with answering(begun.device, f"run {begun.run_id}", AGAIN):
        outcome = detect(workspace, begun.snapshot_sha256, begun.champion, begun.config, begun.device, stages, processes)
    if stages.lost():
        raise StaleLease("the job's lease was lost after training; nothing was stored")
    return outcome


def _planned(workspace: Workspace, begun: Begun, outcome: Outcome) -> Plan:
    """What moderators' answers certify, found before anything is locked: `repair.apply` leaves out what is answered meanwhile."""
    target, sha256 = workspace.settings.repair_precision, outcome.report[probabilities.REPORT_KEY]
    with workspace.db.read() as session:
        return repair.plan(session, begun.run_id, outcome.held_out, target=target, opinion=outcome.opinion, sha256=sha256)


def _conclude(
    session: Session, workspace: Workspace, begun: Begun, outcome: Outcome, planned: Plan, stages: Stages, *, now: datetime
) -> dict[str, Any]:
    """Suspects, repairs, model, verdict and run in the caller's transaction; the report."""
    settings, verdict = workspace.settings, runs.against_the_live_model(session, begun, outcome.verdict)
    outcome = replace(outcome, verdict=verdict, report={**outcome.report, "gate": verdict.report()})
    for question, found in outcome.suspects.items():
        suspects.replace(session, question, found, run_id=begun.run_id)
    if outcome.doubted:
        n_again = queue.ask_again(session, outcome.doubted, limit=MAX_ASKED_AGAIN)
        log.error(
            "decisions of one person are contradicted", run=begun.run_id, n_listings=len(outcome.doubted), n_asked_again=n_again
        )
        if n_again:
            jobs.enqueue(session, "push", {}, key="push", now=now)
    repaired = {**repair.report(planned), **asdict(repair.apply(session, planned, now=now))}
    kept = plain({name: outcome.report[name] for name in ("challenger", "gate", "fit")})
    about = runs.released(session, workspace, begun, outcome.artifact, verdict, kept, by=BY, now=now)
    report: dict[str, Any] = plain({**about, **outcome.report, "repair": repaired})
    report["challenger"]["name"] = about["model"]
    report = runs.ended(session, begun, report, stages, now=now)
    if settings.label_studio_url and not verdict.passed:  # what goes live has its own
        jobs.enqueue(session, "refresh", {}, key=f"refresh-run-{begun.run_id}", now=now)
    policy.consider(session, settings, now=now)
    return report


def _bury_lost(job: JobRun) -> Run | None:
    """Runs of an earlier attempt at this job ended with the worker that held it; the newest of them."""
    with job.writing() as session:
        now, found = job.workspace.db.now(session), None
        running = select(RunRow).where(RunRow.kind == KIND, RunRow.state == "running").order_by(RunRow.id)
        for row in session.execute(running).scalars().all():
            if row.config.get("job_id") == job.job.id:
                report = {"run_id": row.id, "error": "the worker was lost; the job was started again"}
                registry.finish_run(session, row.id, state="failed", report=report, n_seconds=None, now=now)
                found = registry.run(session, row.id)
    return found
