"""What comes later than reconciliation, or is told by nobody: stars, deletions, moved annotations, people who left."""

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from curation.labelstudio import push, reconcile
from curation.review import queue
from curation.store import inbox, jobs, labels
from curation.store.inbox import Delivery
from curation.store.tables import AnnotationRow, ReviewItem
from curation.store.workspace import utc_now
from curation.types import Question
from curation.worker import Worker
from tests.labelstudio_people import Moderator, answers
from tests.live.test_reconcile import heal, ours, pushed, theirs
from tests.live.world import World

Three = tuple[Moderator, Moderator, Moderator]


def told(here: World, action: str, annotation: dict[str, Any], ref: str) -> bytes:
    """The webhook as Label Studio would have sent it now."""
    task = here.tasks()[ref]
    return json.dumps({"action": action, "annotation": annotation, "task": task, "project": {"id": here.project_id}}).encode()


def deliver(here: World, body: bytes) -> None:
    with here.workspace.db.write() as session:
        inbox.receive(session, [Delivery("labelstudio", body, utc_now())])
    here.work("ingest")


def stars(here: World) -> dict[str, bool]:
    """Annotation → whether we hold it for starred."""
    query = select(AnnotationRow.source_id, AnnotationRow.ground_truth).where(AnnotationRow.is_current.is_(True))
    with here.workspace.db.read() as session:
        return {row.source_id: row.ground_truth for row in session.execute(query)}


def test_star_that_was_taken_over_does_not_come_back(here: World, people: Three) -> None:
    """A star is cleared silently and under the same time; the late webhook of the starred state changes nothing (fault 9)."""
    task = pushed(here, 1)
    first = people[0].submit(task["r0"], "Home / Tools", [])
    second = people[1].submit(task["r0"], "Home / Decor", [])
    late = told(here, "ANNOTATION_UPDATED", people[0].update(first["id"], ground_truth=True), "r0")
    people[1].update(second["id"], ground_truth=True)
    heal(here)
    assert stars(here) == {str(first["id"]): False, str(second["id"]): True}
    deliver(here, late)
    heal(here, full=True)
    assert stars(here) == {str(first["id"]): False, str(second["id"]): True}


def test_create_that_comes_after_its_deletion_was_lost(here: World, people: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconciliation is past the task when the webhook comes: it looks at that task again at its next pass (fault 9)."""
    task = pushed(here, 2)
    made = people[0].submit(task["r0"], "Home / Tools", [])
    late = told(here, "ANNOTATION_CREATED", made, "r0")
    people[0].delete(made["id"])
    people[0].submit(task["r1"], "Home / Tools", [])
    monkeypatch.setattr(reconcile, "MARGIN", timedelta(0))
    heal(here)
    deliver(here, late)
    assert here.label("r0") == ("Home / Tools", "moderators")
    assert heal(here, sweep=False).healed["deletions"] == 1
    assert here.label("r0") == ("Home / Decor", "seller")
    assert ours(here) == theirs(here)


def test_deleted_task_is_noticed_though_another_was_uploaded(here: World) -> None:
    """The number of tasks adds up again, and yet one of ours is gone (fault 11)."""
    task = pushed(here)
    heal(here)
    data = {**here.tasks()["r0"]["data"]}
    del data["listing_id"]
    here.api.delete(f"/api/tasks/{task['r0']}/").raise_for_status()
    here.api.post(f"/api/projects/{here.project_id}/import", json=[{"data": data}]).raise_for_status()
    found = heal(here, sweep=False)
    assert (found.swept, found.healed["task_deletions"]) == (True, 1)
    assert not heal(here, sweep=False).swept


def test_annotations_move_with_remove_duplicated_tasks(here: World, people: Three) -> None:
    """The bulk action moves annotations to the first of equal tasks and deletes the others; no vote is lost (fault 11)."""
    task = pushed(here, 1)
    people[0].submit(task["r0"], "Home / Tools", [])
    data = here.tasks()["r0"]["data"]
    here.api.post(f"/api/projects/{here.project_id}/import", json=[{"data": data}]).raise_for_status()
    listed = here.api.get("/api/tasks", params={"project": here.project_id, "include": "id"}).json()["tasks"]
    both = sorted(row["id"] for row in listed)
    people[1].submit(both[1], "Home / Tools", [])
    heal(here)
    chosen = {"selectedItems": {"all": False, "included": both}, "project": here.project_id}
    here.api.post(f"/api/dm/actions?id=remove_duplicates&project={here.project_id}", json=chosen).raise_for_status()
    heal(here, sweep=False)
    assert len(ours(here)) == 2
    assert ours(here) == theirs(here)
    assert heal(here, full=True).n_missed == 0


def test_people_who_are_renamed_or_leave_keep_their_votes(here: World, people: Three) -> None:
    """A vote stays under the person's number, also when the account is gone and somebody else saves the answer (fault 18)."""
    task = pushed(here, 1)
    leaver = here.server.moderator(f"leaver-{here.project_id}@example.com")
    made = leaver.submit(task["r0"], "Home / Decor", [])
    leaver.close()
    heal(here)
    account = f"/api/users/{leaver.user_id}/"
    here.api.patch(account, json={"first_name": "Renamed", "last_name": "Person"}).raise_for_status()
    here.api.delete(account).raise_for_status()
    people[0].update(made["id"], result=answers(None, "Home / Tools", []))
    heal(here)
    assert here.tasks()["r0"]["annotations"][0]["completed_by"] is None
    assert here.label("r0") == ("Home / Tools", "moderators")
    with here.workspace.db.read() as session:
        (vote,) = labels.votes(session, "r0", Question.CATEGORY)
    assert vote.annotator == str(leaver.user_id)


def test_reconciliation_stops_when_its_worker_must(here: World, people: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM in the middle of a pass: the job goes back to the queue, and the next worker goes on from the cursor (fault 28)."""
    task = pushed(here)
    for ref in task:
        people[0].submit(task[ref], "Home / Tools", [])
    monkeypatch.setattr(reconcile, "TASKS_PER_WRITE", 2)
    worker = Worker(here.workspace, ["reconcile"])
    apply_events = reconcile.apply.apply_events

    def stopping(*arguments: Any, **options: Any) -> Any:
        worker.stop()
        return apply_events(*arguments, **options)

    with here.workspace.db.write() as session:
        jobs.enqueue(session, "reconcile", {}, key="reconcile", now=utc_now())
    monkeypatch.setattr(reconcile.apply, "apply_events", stopping)
    worker.run()
    assert len(ours(here)) == 2
    with here.workspace.db.read() as session:
        (job,) = jobs.newest(session, kind="reconcile")
    assert (job.state, job.attempt) == ("todo", 0)
    monkeypatch.setattr(reconcile.apply, "apply_events", apply_events)
    here.work("reconcile")
    assert ours(here) == theirs(here)


def test_answers_on_a_task_of_none_of_ours_go_with_it(here: World, people: Three) -> None:
    """A task that somebody uploaded and deleted again leaves no answer behind that counts (fault 10)."""
    pushed(here, 1)
    data = {**here.tasks()["r0"]["data"]}
    del data["listing_id"]
    upload = f"/api/projects/{here.project_id}/import?return_task_ids=true"
    (foreign,) = here.api.post(upload, json=[{"data": data}]).raise_for_status().json()["task_ids"]
    people[0].submit(foreign, "Home / Tools", [])
    heal(here)
    assert len(ours(here)) == 1
    here.api.delete(f"/api/tasks/{foreign}/").raise_for_status()
    heal(here, sweep=False)
    assert not ours(here)


def test_push_stops_when_its_worker_must(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM between two tasks that are opened again: what was done stays done, the rest is the next worker's (fault 28)."""
    pushed(here)
    with here.workspace.db.write() as session:
        session.execute(update(ReviewItem).values(state="waiting", pushed_at=None))
        jobs.enqueue(session, "push", {}, key="push", now=utc_now())
    worker, reopen = Worker(here.workspace, ["push"]), push._Push._reopen

    def stopping(self: push._Push, task: Any, there: Any) -> bool:
        if task.listing.ref == "r3":
            worker.stop()
        return reopen(self, task, there)

    monkeypatch.setattr(push, "REOPENED_PER_WRITE", 2)
    monkeypatch.setattr(push._Push, "_reopen", stopping)
    worker.run()
    monkeypatch.setattr(push._Push, "_reopen", reopen)
    with here.workspace.db.read() as session:
        (job,) = jobs.newest(session, kind="push")
        assert (job.state, job.attempt) == ("todo", 0)
        assert [task.listing.ref for task in queue.waiting(session, 10)] == ["r2", "r3", "r4", "r5"]
    here.work("push")
    with here.workspace.db.read() as session:
        assert queue.waiting(session, 10) == []
