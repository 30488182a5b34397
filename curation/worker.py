"""`refurbish worker`: claim → heartbeat → handler → fenced finish.

With `cli.py` the only place that knows all floors: handlers are named as "module:function" and
imported when their first job comes.
"""

import importlib
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from curation import console, telemetry
from curation.errors import DatabaseError, RefurbishError, StaleLease
from curation.review import insight_schedule
from curation.store import jobs
from curation.store.jobrun import JobRun
from curation.store.tables import ReviewItem
from curation.store.workspace import Workspace, get_state, lock_state, set_state

HANDLERS = {
    "ingest": "curation.labelstudio.ingest:handle",
    "consensus": "curation.review.consensus:handle",
    "reconcile": "curation.labelstudio.reconcile:handle",
    "push": "curation.labelstudio.push:handle",
    "refresh": "curation.labelstudio.refresh:handle",
    "insight": "curation.review.insight:handle",
    "erase": "curation.labelstudio.erasure:handle",
    "export": "curation.release.export_job:handle",
    "retrain": "trainer.retrain:handle",
}
PRUNE_AFTER = timedelta(days=7)
HOUSEKEEPING_EVERY_S = 30.0

log = telemetry.logger("worker")


Handler = Callable[[JobRun], None]


class Worker:
    """Runs jobs one after the other until told to stop."""

    def __init__(self, workspace: Workspace, kinds: Collection[str] | None = None) -> None:
        self.workspace = workspace
        self.kinds = list(kinds) if kinds else list(HANDLERS)
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.stopping = threading.Event()
        self._last_housekeeping_s = float("-inf")
        self._current: JobRun | None = None

    def run(self, *, until_idle: bool = False) -> int:
        """Work until stopped, or until nothing is due; how many jobs were run."""
        n_run = 0
        while not self.stopping.is_set():
            try:
                self._keep_house()
                worked = self.step()
            except DatabaseError as error:
                log.warning("database away", error=str(error))
                worked = False
            n_run += worked
            if not worked:
                if until_idle:
                    break
                self.stopping.wait(self.workspace.settings.poll_s)
        return n_run

    def step(self) -> bool:
        """Claim and run one job; False if nothing is due."""
        with self.workspace.db.write() as session:
            now = self.workspace.db.now(session)
            job = jobs.claim(session, worker=self.name, now=now, lease_s=self.workspace.settings.lease_s, kinds=self.kinds)
        if job is None:
            return False
        run = self._current = JobRun(self.workspace, job)
        started_s = time.monotonic()
        with telemetry.during(job=job.id, request_id=job.payload.get(telemetry.REQUEST_ID)):
            with self._heartbeats(run):
                error = self._attempt(run)
            seconds = round(time.monotonic() - started_s, 3)
            log.info("job", kind=job.kind, id=job.id, attempt=job.attempt, seconds=seconds, error=error)
        return True

    def _attempt(self, run: JobRun) -> str | None:
        try:
            handler(run.job.kind)(run)
            if not run.is_finished:
                with run.finishing():
                    pass
        except StaleLease as error:
            self._give_back(run)
            return str(error)
        except Exception as error:
            if not isinstance(error, RefurbishError):
                log.error("handler failed", kind=run.job.kind, trace=traceback.format_exc())
            self._record_failure(run, f"{type(error).__name__}: {error}")
            return f"{type(error).__name__}: {error}"
        return None

    def stop(self) -> None:
        """Stop claiming; a long job is told to give up at its next safe point and goes back to the queue."""
        self.stopping.set()
        if self._current is not None:
            self._current.lost.set()

    def _give_back(self, run: JobRun) -> None:
        """A job that gave up because we stop is free for others at once, and the attempt does not count."""
        if not self.stopping.is_set():
            return
        try:
            with self.workspace.db.write() as session:
                jobs.release(session, run.job, now=self.workspace.db.now(session))
        except (StaleLease, DatabaseError) as failure:
            log.warning("job not given back; the lease will run out", error=str(failure))

    def _record_failure(self, run: JobRun, error: str) -> None:
        try:
            with self.workspace.db.write() as session:
                jobs.fail(session, run.job, error, now=self.workspace.db.now(session))
        except (StaleLease, DatabaseError) as failure:
            log.warning("failure not recorded; the lease will run out", error=str(failure))

    @contextmanager
    def _heartbeats(self, run: JobRun) -> Iterator[None]:
        done = threading.Event()
        thread = threading.Thread(target=self._beat, args=(run, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _beat(self, run: JobRun, done: threading.Event) -> None:
        lease_s = self.workspace.settings.lease_s
        while not done.wait(lease_s / 3):
            try:
                with self.workspace.db.write() as session:
                    jobs.heartbeat(session, run.job, now=self.workspace.db.now(session), lease_s=lease_s)
            except StaleLease:
                run.lost.set()
                return
            except DatabaseError as error:
                log.warning("heartbeat failed", error=str(error))

    def _keep_house(self) -> None:
        if time.monotonic() - self._last_housekeeping_s < HOUSEKEEPING_EVERY_S:
            return
        self._last_housekeeping_s = time.monotonic()
        with self.workspace.db.write() as session:
            now = self.workspace.db.now(session)
            jobs.bury_lost(session, now=now)
            jobs.prune(session, before=now - PRUNE_AFTER)
        schedule(self.workspace)
        if insight_schedule.JOB in self.kinds:  # else it might wait for a worker that nobody started
            with self.workspace.db.write() as session:
                insight_schedule.consider(session, now=self.workspace.db.now(session))


def handler(kind: str) -> Handler:
    """The function that runs jobs of this kind."""
    module, _, name = HANDLERS[kind].partition(":")
    found: Handler = getattr(importlib.import_module(module), name)
    return found


def schedule(workspace: Workspace) -> None:
    """Enqueue what is due by the clock: reconciliation with Label Studio."""
    settings = workspace.settings
    if not settings.label_studio_url:
        return
    with workspace.db.write() as session:
        lock_state(session, "schedule.reconcile")
        now = workspace.db.now(session)
        if _has_unsent_tie(session):  # its push job may have died while Label Studio was away
            jobs.enqueue(session, "push", {}, key="push", now=now)
        tick = int(now.timestamp() // settings.reconcile_every_s)
        if (get_state(session, "schedule.reconcile") or {}).get("tick") != tick:
            set_state(session, "schedule.reconcile", {"tick": tick}, now=now)
            jobs.enqueue(session, "reconcile", {}, key="reconcile", now=now)


def _has_unsent_tie(session: Session) -> bool:
    unsent = select(ReviewItem.id).where(ReviewItem.state == "tie", ReviewItem.pushed_at.is_(None)).limit(1)
    return session.execute(unsent).first() is not None


@console.command("worker", example="refurbish worker --kinds ingest,reconcile,push")
@click.option("--kinds", help="Only jobs of these kinds, comma separated (default: all).")
@click.option("--without", help="All kinds but these, comma separated, as where nothing is to be trained.")
@click.option("--until-idle", is_flag=True, help="Stop when nothing is due.")
@console.pass_session
def worker(session: console.Session, kinds: str | None, without: str | None, until_idle: bool, as_json: bool) -> None:
    """Run jobs until SIGTERM: deliveries, reconciliation, task pushes, training."""
    left = [kind for kind in _named(kinds, "--kinds") or HANDLERS if kind not in _named(without, "--without")]
    if not left:
        raise click.BadParameter("no kind is left; name fewer", param_hint="--without")
    telemetry.configure()
    running = Worker(session.workspace(), left)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.stop())
    n_run = running.run(until_idle=until_idle)
    console.emit({"jobs_run": n_run}, as_json=as_json)


def _named(kinds: str | None, option: str) -> list[str]:
    """The kinds of jobs that an option names."""
    found = kinds.split(",") if kinds else []
    if unknown := sorted(set(found) - set(HANDLERS)):
        raise click.BadParameter(f"unknown kind {', '.join(unknown)}; known: {', '.join(HANDLERS)}", param_hint=option)
    return found
