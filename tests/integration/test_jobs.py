"""The job queue and the inbox, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import select, text, update

from curation.errors import StaleLease
from curation.store import inbox, jobs
from curation.store.tables import JobRow
from curation.store.workspace import Workspace
from tests.plans import plans


def test_the_same_key_is_enqueued_once_while_pending(workspace: Workspace, now: datetime) -> None:
    """A storm of requests for one piece of work leaves one job (fault 30)."""
    with workspace.db.write() as session:
        made = [jobs.enqueue(session, "retrain", {}, key="k", now=now) for _ in range(3)]
    assert made == [True, False, False]


def test_a_rolled_back_enqueue_leaves_no_job(workspace: Workspace, now: datetime) -> None:
    """The job lives and dies with the transaction that asked for it (fault 30)."""
    with pytest.raises(ZeroDivisionError), workspace.db.write() as session:
        jobs.enqueue(session, "retrain", {}, key="k", now=now)
        raise ZeroDivisionError
    with workspace.db.read() as session:
        assert jobs.count_by_state(session) == {}


def test_work_that_outlived_its_lease_is_refused(workspace: Workspace, now: datetime) -> None:
    """A second worker takes over after the lease; the first one's finish raises StaleLease (fault 24)."""
    with workspace.db.write() as session:
        jobs.enqueue(session, "retrain", {}, key="k", now=now)
        first = jobs.claim(session, worker="a", now=now, lease_s=10)
        assert jobs.claim(session, worker="b", now=now, lease_s=10) is None
        second = jobs.claim(session, worker="b", now=now + timedelta(seconds=11), lease_s=10)
    assert first is not None and second is not None and second.attempt == 2
    with pytest.raises(StaleLease), workspace.db.write() as session:
        jobs.finish(session, first, now=now)
    with workspace.db.write() as session:
        jobs.finish(session, second, now=now)
        assert jobs.count_by_state(session) == {"done": 1}


def test_a_failing_job_backs_off_and_dies(workspace: Workspace, now: datetime) -> None:
    """Each failure delays the next attempt; after the last one the job is dead and can be revived (fault 26)."""
    with workspace.db.write() as session:
        jobs.enqueue(session, "retrain", {}, key="k", now=now, max_attempts=2)
        job = jobs.claim(session, worker="a", now=now, lease_s=10)
        assert job is not None and not jobs.fail(session, job, "boom", now=now)
        assert jobs.claim(session, worker="a", now=now, lease_s=10) is None
        later = now + timedelta(seconds=5)
        job = jobs.claim(session, worker="a", now=later, lease_s=10)
        assert job is not None and jobs.fail(session, job, "boom", now=later)
        assert jobs.revive(session, job.id, now=later)


def test_the_same_delivery_is_stored_once(workspace: Workspace, now: datetime) -> None:
    """The same bytes from the same source, sent twice, are one inbox row and one job."""
    delivery = inbox.Delivery("labelstudio", b'{"action":"X"}', now)
    with workspace.db.write() as session:
        assert inbox.receive(session, [delivery, delivery]) == 1
        assert inbox.receive(session, [delivery]) == 0
        assert jobs.count_by_state(session) == {"todo": 1}
        assert inbox.count_by_state(session) == {"received": 1}


def test_of_fifty_who_claim_one_job_at_once_one_gets_it(workspace: Workspace, now: datetime) -> None:
    """The others get nothing, and no error (fault 25)."""

    def claim(name: int) -> jobs.Job | None:
        with workspace.db.write() as session:
            return jobs.claim(session, worker=str(name), now=now, lease_s=10)

    with workspace.db.write() as session:
        jobs.enqueue(session, "retrain", {}, key="k", now=now)
    with ThreadPoolExecutor(50) as pool:
        got = [job for job in pool.map(claim, range(50)) if job is not None]
    assert [job.attempt for job in got] == [1]


def test_what_failed_together_does_not_come_back_together(workspace: Workspace, now: datetime) -> None:
    """Each wait is at least the one promised, at most a quarter longer, and they are spread over that quarter (fault 26)."""
    with workspace.db.write() as session:
        jobs.enqueue_all(session, "probe", {f"k{i}": {} for i in range(40)}, now=now)
        for _ in range(40):
            job = jobs.claim(session, worker="a", now=now, lease_s=10)
            assert job is not None and not jobs.fail(session, job, "boom", now=now)
        after = session.execute(select(JobRow.run_after)).scalars().all()
    waits_s = sorted((moment - now).total_seconds() for moment in after)
    longest_s = jobs.BACKOFF_S[0] * (1 + jobs.JITTER)
    assert jobs.BACKOFF_S[0] <= waits_s[0] < waits_s[-1] < longest_s
    assert max(b - a for a, b in pairwise(waits_s)) < (longest_s - jobs.BACKOFF_S[0]) / 10


def test_a_claim_reads_neither_what_is_done_nor_what_waits_behind(workspace: Workspace, now: datetime) -> None:
    """Over thousands of done and waiting jobs both databases go along the index to its first row (fault 33)."""
    with workspace.db.write() as session:
        for state, n in (("done", 3000), ("todo", 3000)):
            jobs.enqueue_all(session, "probe", {f"{state}{i}": {} for i in range(n)}, now=now)
            session.execute(update(JobRow).where(JobRow.dedupe_key.startswith(state)).values(state=state))
        session.execute(text("ANALYZE job"))
        plan = plans(session, lambda session: jobs.claim(session, worker="w", now=now, lease_s=10, kinds=["probe"]))[0]
    assert "ix_job_state_priority_id" in plan
    assert not [words for words in ("Seq Scan on job", "SCAN job", "MULTI-INDEX OR", "Bitmap") if words in plan], plan


def test_pruning_is_bounded_and_leaves_what_must_be_looked_at(workspace: Workspace, now: datetime) -> None:
    """At most `limit` finished jobs go at once, never one that is dead, waiting or young (fault 33)."""
    old = now - timedelta(days=8)
    with workspace.db.write() as session:
        for state, finished in (("done", old), ("dead", old), ("todo", None), ("young", now)):
            jobs.enqueue_all(session, "probe", {f"{state}{i}": {} for i in range(5)}, now=old)
            mine = JobRow.dedupe_key.startswith(state)
            kept = "done" if state == "young" else state
            session.execute(update(JobRow).where(mine).values(state=kept, finished_at=finished))
        pruned = [jobs.prune(session, before=now - timedelta(days=7), limit=3) for _ in range(3)]
        assert pruned == [3, 2, 0] and jobs.count_by_state(session) == {"dead": 5, "done": 5, "todo": 5}


def test_a_clock_that_was_set_back_holds_nothing_up(workspace: Workspace, now: datetime) -> None:
    """A dead worker's lease, a delay and a backoff that would last an hour longer are cut; a live lease is not (fault 19)."""
    later = now + timedelta(hours=1)
    with workspace.db.write() as session:
        jobs.enqueue(session, "probe", {}, key="held", now=later)
        assert jobs.claim(session, worker="dead", now=later, lease_s=60) is not None
        jobs.enqueue(session, "probe", {}, key="delayed", now=later, delay_s=5)
        jobs.enqueue(session, "probe", {}, key="live", now=now)
        assert jobs.claim(session, worker="alive", now=now, lease_s=60) is not None
        assert jobs.claim(session, worker="w", now=now, lease_s=60) is None
        assert jobs.follow_clock(session, now=now, lease_s=60) == 2
        assert jobs.follow_clock(session, now=now, lease_s=60) == 0
        after = now + timedelta(seconds=59)
        claimed = [jobs.claim(session, worker="w", now=moment, lease_s=60) for moment in (after, after + timedelta(seconds=2))]
    assert [job and job.dedupe_key for job in claimed] == ["delayed", "held"]
