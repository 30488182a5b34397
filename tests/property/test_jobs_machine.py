"""The queue as a state machine: any order of claims, crashes, stalls and finishes."""

import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from curation.errors import StaleLease
from curation.store import jobs, tables
from curation.store.db import Database
from tests.conftest import NOW

LEASE_S = 10.0


class Queue(RuleBasedStateMachine):
    """Workers claim, forget (crash), stall past their lease and finish; time only moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.db = Database(f"sqlite:///{Path(self.folder.name) / 'q.db'}")
        tables.Base.metadata.create_all(self.db.engine.execution_options(refurbish_write=True))
        self.now = NOW
        self.n_enqueued = 0
        self.held: list[jobs.Job] = []
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
            self.held.append(job)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self._finish(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        job = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        try:
            with self.db.write() as session:
                jobs.fail(session, job, "no", now=self.now)
        except StaleLease:
            pass

    @rule(seconds=st.sampled_from([1, 5, 11, 60]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def no_effect_twice(self) -> None:
        assert all(n == 1 for n in self.effects.values())

    def _finish(self, job: jobs.Job) -> None:
        try:
            with self.db.write() as session:
                jobs.finish(session, job, now=self.now)
        except StaleLease:
            return
        self.effects[job.id] = self.effects.get(job.id, 0) + 1

    def _drain(self) -> None:
        self.now += timedelta(days=1)
        while True:
            with self.db.write() as session:
                job = jobs.claim(session, worker="w", now=self.now, lease_s=LEASE_S)
            if job is None:
                return
            self._finish(job)


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
