"""The queue as a state machine: claims, heartbeats, crashes, stalls, stops and finishes in any order (faults 23, 24)."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy.orm import Session

from curation.errors import StaleLease
from curation.store import jobs, tables
from curation.store.db import Database
from tests.conftest import NOW

LEASE_S = 10.0


class Queue(RuleBasedStateMachine):
    """Workers claim, keep, forget (crash), give back and finish jobs, also long after their lease (stall): one effect each.

    Time moves on, or is set back. `held` are the claims that somebody still believes in; a job can be in it twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.db = Database(f"sqlite:///{Path(self.folder.name) / 'q.db'}")
        tables.Base.metadata.create_all(self.db.engine.execution_options(refurbish_write=True))
        self.now = NOW
        self.n_enqueued = 0
        self.held: list[jobs.Job] = []
        self.newest: dict[int, jobs.Job] = {}  #: job id → the claim that owns it
        self.effects: dict[int, int] = {}

    def teardown(self) -> None:
        self._drain()
        assert self.effects == dict.fromkeys(self.effects, 1)
        assert len(self.effects) == self.n_enqueued
        self.db.dispose()
        self.folder.cleanup()

    @rule()
    def enqueue(self) -> None:
        with self.db.write() as session:
            jobs.enqueue(session, "probe", {}, key=f"k{self.n_enqueued}", now=self.now, max_attempts=1000)
        self.n_enqueued += 1

    @rule()
    def claim(self) -> None:
        with self.db.write() as session:
            job = jobs.claim(session, worker="w", now=self.now, lease_s=LEASE_S)
        if job is not None:
            assert job.id not in self.effects, "what is done was claimed again"
            self.held.append(job)
            self.newest[job.id] = job

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        self._take(data)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        """A heartbeat keeps the lease of the owner, and is refused to everybody else."""
        job = data.draw(st.sampled_from(self.held))
        try:
            with self.db.write() as session:
                jobs.heartbeat(session, job, now=self.now, lease_s=LEASE_S)
        except StaleLease:
            self.held.remove(job)
        else:
            assert self._owns(job), "a stalled worker got its lease back"
            with self.db.write() as session:
                other = jobs.claim(session, worker="other", now=self.now + timedelta(seconds=LEASE_S - 1), lease_s=LEASE_S)
                session.rollback()
            assert other is None or other.id != job.id, "a kept lease was taken"

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self._finish(self._take(data))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def crash_before_commit(self, data: st.DataObject) -> None:
        """Effect and end are written, and rolled back with the one who wrote them."""
        job = self._take(data)
        with suppress(StaleLease), self.db.write() as session:
            jobs.finish(session, job, now=self.now)
            session.rollback()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        self._end(self._take(data), lambda session, job: jobs.fail(session, job, "no", now=self.now))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        self._end(self._take(data), lambda session, job: jobs.release(session, job, now=self.now))

    @rule()
    def keep_house(self) -> None:
        with self.db.write() as session:
            assert jobs.bury_lost(session, now=self.now) == 0
            jobs.follow_clock(session, now=self.now, lease_s=LEASE_S)

    @rule(seconds=st.sampled_from([1, 5, 11, 60, -3600]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def no_effect_twice(self) -> None:
        assert all(n == 1 for n in self.effects.values())

    def _take(self, data: st.DataObject) -> jobs.Job:
        return self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))

    def _owns(self, job: jobs.Job) -> bool:
        return self.newest.get(job.id) is job

    def _end(self, job: jobs.Job, how: Callable[[Session, jobs.Job], object]) -> None:
        try:
            with self.db.write() as session:
                how(session, job)
        except StaleLease:
            return
        assert self._owns(job), "a stalled worker ended another's job"
        del self.newest[job.id]

    def _finish(self, job: jobs.Job) -> None:
        try:
            with self.db.write() as session:
                jobs.finish(session, job, now=self.now)
        except StaleLease:
            return
        assert self._owns(job), "a stalled worker's effect was taken"
        self.effects[job.id] = self.effects.get(job.id, 0) + 1

    def _drain(self) -> None:
        """All the living are gone: housekeeping and one worker bring every job to its end."""
        self.keep_house()
        self.now += timedelta(hours=1)
        while True:
            with self.db.write() as session:
                job = jobs.claim(session, worker="w", now=self.now, lease_s=LEASE_S)
            if job is None:
                return
            self.newest[job.id] = job
            self._finish(job)


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
