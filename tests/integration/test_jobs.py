"""The job queue and the inbox, on both databases."""

from datetime import datetime, timedelta

import pytest

from curation.errors import StaleLease
from curation.store import inbox, jobs
from curation.store.workspace import Workspace


def test_the_same_key_is_enqueued_once_while_pending(workspace: Workspace, now: datetime) -> None:
    """A storm of requests for one piece of work leaves one job."""
    with workspace.db.write() as session:
        made = [jobs.enqueue(session, "retrain", {}, key="k", now=now) for _ in range(3)]
    assert made == [True, False, False]


def test_a_rolled_back_enqueue_leaves_no_job(workspace: Workspace, now: datetime) -> None:
    """The job lives and dies with the transaction that asked for it."""
    with pytest.raises(ZeroDivisionError), workspace.db.write() as session:
        jobs.enqueue(session, "retrain", {}, key="k", now=now)
        raise ZeroDivisionError
    with workspace.db.read() as session:
        assert jobs.count_by_state(session) == {}


def test_work_that_outlived_its_lease_is_refused(workspace: Workspace, now: datetime) -> None:
    """A second worker takes over after the lease; the first one's finish raises StaleLease."""
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
    """Each failure delays the next attempt; after the last one the job is dead and can be revived."""
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
