"""A claimed job as its handler sees it: the workspace, and transactions that carry the fence."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from curation.errors import StaleLease
from curation.store import jobs
from curation.store.workspace import Workspace


class JobRun:
    """A claimed job in a handler's hands: its workspace, and transactions that carry its fence."""

    def __init__(self, workspace: Workspace, job: jobs.Job) -> None:
        self.workspace = workspace
        self.job = job
        self.is_finished = False
        self.lost = threading.Event()  #: set when the lease was lost or the worker must stop

    def go_on(self) -> None:
        """Between two parts of a long job: raises StaleLease if the lease was lost or the worker must stop."""
        if self.lost.is_set():
            raise StaleLease(f"job {self.job.id} ({self.job.kind}) was given up: its lease was lost, or the worker stops")

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A write transaction that is refused (StaleLease) if the job is no longer ours, or the worker must stop."""
        self.go_on()
        with self.workspace.db.write() as session:
            now = self.workspace.db.now(session)
            jobs.heartbeat(session, self.job, now=now, lease_s=self.workspace.settings.lease_s)
            yield session

    @contextmanager
    def finishing(self) -> Iterator[Session]:
        """The last transaction: its effect and "done" are committed together or not at all."""
        with self.workspace.db.write() as session:
            jobs.finish(session, self.job, now=self.workspace.db.now(session))
            yield session
        self.is_finished = True
