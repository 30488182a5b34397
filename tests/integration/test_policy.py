"""When a run is due: distinct corrected listings, cool-down, one run for a storm."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from curation.release import policy, registry
from curation.settings import Settings
from curation.store import jobs, labels
from curation.store.tables import JobRow
from curation.store.workspace import Workspace
from curation.types import Question
from tests.release_world import PATHS, add_listings, vote

HOUR = timedelta(hours=1)


@pytest.fixture
def filled(workspace: Workspace, now: datetime) -> Workspace:
    """Twenty listings nobody has looked at."""
    with workspace.db.write() as session:
        add_listings(session, 20, now=now - 5 * HOUR)
    return workspace


def settings_of(workspace: Workspace, **changes: object) -> Settings:
    """Three corrections are enough; one hour of cool-down."""
    return workspace.settings.model_copy(update={"retrain_min_corrections": 3, "retrain_min_per_question": 2, **changes})


def decide(workspace: Workspace, numbers: range, at: datetime, *, value: str | None = None, annotator: str = "anna") -> None:
    """A moderator answers; by default with another category than the seller's."""
    with workspace.db.write() as session:
        for i in numbers:
            vote(session, f"ad-{i:05d}", value or PATHS[(i + 1) % 4], now=at, annotator=annotator)


def start(workspace: Workspace, at: datetime, state: str | None = None) -> int:
    """A run that began, and ended if `state` is given."""
    begin = {"kind": "retrain", "snapshot_id": None, "trigger": "test", "config": {}, "device": "cpu", "n_corrections": 0}
    with workspace.db.write() as session:
        run_id = registry.start_run(session, **begin, now=at)
        if state:
            registry.finish_run(session, run_id, state=state, report={}, n_seconds=1.0, now=at)
    return run_id


def consider(workspace: Workspace, at: datetime, **changes: object) -> policy.Decision:
    """Ask the policy in a transaction of its own."""
    with workspace.db.write() as session:
        return policy.consider(session, settings_of(workspace, **changes), now=at)


def counted(workspace: Workspace, **options: bool) -> policy.Corrections:
    """What the policy counts now."""
    with workspace.db.read() as session:
        return policy.corrections(session, **options)


def waiting(workspace: Workspace) -> list[Any]:
    """(run_after, payload) of the retrain jobs that are to be done."""
    wanted = select(JobRow.run_after, JobRow.payload).where(JobRow.kind == "retrain", JobRow.state.in_(("todo", "doing")))
    with workspace.db.read() as session:
        return list(session.execute(wanted).all())


def test_distinct_listings_are_counted(filled: Workspace, now: datetime) -> None:
    """Two people, two questions and a second thought on one listing are one corrected listing."""
    decide(filled, range(2), now)
    decide(filled, range(1), now, annotator="bert")
    with filled.db.write() as session:
        vote(session, "ad-00001", "counterfeit", now=now, question=Question.VIOLATION)
        vote(session, "ad-00002", PATHS[2], now=now)
    found = counted(filled)
    assert (found.n_listings, found.n_changed, found.n_confirmed) == (3, 2, 1)
    assert found.by_question == {Question.CATEGORY: 3, Question.VIOLATION: 1}


def test_an_answer_none_confirms_what_nobody_reported(filled: Workspace, now: datetime) -> None:
    """`none` on an unreported listing changes nothing; a violation does."""
    with filled.db.write() as session:
        vote(session, "ad-00000", "none", now=now, question=Question.VIOLATION)
        vote(session, "ad-00001", "counterfeit", now=now, question=Question.VIOLATION)
    assert (counted(filled).n_confirmed, counted(filled).n_changed) == (1, 1)


def test_repairs_and_more_of_the_same_are_no_corrections(filled: Workspace, now: datetime) -> None:
    """What a model changed, and a decided label confirmed by one more person, do not count."""
    decide(filled, range(2), now - 2 * HOUR)
    start(filled, now - HOUR, "promoted")
    decide(filled, range(2), now, annotator="bert")
    with filled.db.write() as session:
        labels.refurbish(session, Question.CATEGORY, {9: (PATHS[2], 0.9)}, run_id=1, now=now)
    assert counted(filled).n_listings == 0
    assert counted(filled, since_run=False).n_listings == 2


def test_too_few_says_how_many_are_missing(filled: Workspace, now: datetime) -> None:
    """Below the minimum nothing is enqueued, and the words say what is missing."""
    decide(filled, range(2), now)
    found = consider(filled, now)
    assert not found.due and not waiting(filled)
    assert found.words == "2 of 3 corrections so far (2 changed, 0 confirmed); 1 more needed before the next run"


def test_enough_on_one_question_is_wanted(filled: Workspace, now: datetime) -> None:
    """Three listings with answers scattered over the questions can judge no head."""
    decide(filled, range(2), now)
    with filled.db.write() as session:
        vote(session, "ad-00005", "none", now=now, question=Question.VIOLATION)
    found = consider(filled, now, retrain_min_per_question=3)
    assert not found.due and "1 more on category needed" in found.words


def test_a_storm_gives_one_run(filled: Workspace, now: datetime) -> None:
    """Every label asks, one job is made (fault 58)."""
    made = []
    for i in range(20):
        decide(filled, range(i, i + 1), now)
        made.append(consider(filled, now))
    (job,) = waiting(filled)
    assert sum(decision.enqueued for decision in made) == 1 and made[2].enqueued
    assert job.run_after == now and job.payload["trigger"].startswith("3 of 3 corrections so far")
    assert made[-1].words == "a run is already waiting"


def test_the_cool_down_delays_and_never_drops(filled: Workspace, now: datetime) -> None:
    """Inside the cool-down the job is enqueued with what is left of it (fault 58)."""
    start(filled, now - timedelta(minutes=10), "refused")
    decide(filled, range(3), now)
    found = consider(filled, now, retrain_cooldown_s=3600)
    (job,) = waiting(filled)
    assert job.run_after == now + timedelta(minutes=50) == found.run_after
    assert found.words.endswith("a run is due in 50 min, when the cool-down ends")
    with filled.db.write() as session:
        assert jobs.claim(session, worker="w", now=now + timedelta(minutes=49), lease_s=60, kinds=["retrain"]) is None
        assert jobs.claim(session, worker="w", now=now + timedelta(minutes=51), lease_s=60, kinds=["retrain"]) is not None


def test_corrections_during_a_run_are_counted_for_the_next(filled: Workspace, now: datetime) -> None:
    """While one runs, asking makes no second job; asking at its end does."""
    decide(filled, range(3), now)
    consider(filled, now)
    with filled.db.write() as session:
        job = jobs.claim(session, worker="w", now=now, lease_s=60, kinds=["retrain"])
        assert job is not None
    run_id = start(filled, now + HOUR)
    decide(filled, range(10, 14), now + HOUR + timedelta(minutes=1))
    during = consider(filled, now + HOUR + timedelta(minutes=2))
    assert during.due and not during.enqueued and during.words.endswith("after the one that is going")
    at = now + HOUR + timedelta(minutes=3)
    with filled.db.write() as session:
        jobs.finish(session, job, now=at)
        registry.finish_run(session, run_id, state="promoted", report={}, n_seconds=60.0, now=at)
        after = policy.consider(session, settings_of(filled), now=at)
    assert after.enqueued and after.words.startswith("4 of 3 corrections since 2026-03-01 13:00:00 UTC (4 changed, 0 confirmed)")


def test_a_failed_run_uses_nothing_up(filled: Workspace, now: datetime) -> None:
    """Corrections from before a failed run still count; its cool-down holds."""
    decide(filled, range(3), now)
    start(filled, now + timedelta(minutes=1), "failed")
    found = consider(filled, now + timedelta(minutes=2))
    assert found.enqueued and found.run_after == now + timedelta(minutes=61)
    assert counted(filled).n_listings == 3


def test_a_refused_run_starts_the_count_anew(filled: Workspace, now: datetime) -> None:
    """What a finished run has seen is not counted twice."""
    decide(filled, range(3), now)
    start(filled, now + timedelta(minutes=1), "refused")
    assert counted(filled).n_listings == 0 and not consider(filled, now + 3 * HOUR).due


def test_outlook_changes_nothing(filled: Workspace, now: datetime) -> None:
    """`status` asks without enqueuing, and agrees with what `consider` says."""
    decide(filled, range(4), now)
    with filled.db.read() as session:
        seen = policy.outlook(session, settings_of(filled), now=now)
    assert not waiting(filled) and seen.due
    assert consider(filled, now).words == seen.words
    with filled.db.write() as session:
        session.execute(update(JobRow).values(state="dead"))
    assert consider(filled, now).enqueued
