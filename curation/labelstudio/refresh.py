"""Fresh suggestions after a promotion: Label Studio never replaces a prediction by itself."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.labelstudio import lease, project, tasks
from curation.labelstudio.client import IMPORT_TIMEOUT_S, ONCE_PATIENTLY, Client
from curation.labelstudio.lease import Busy, Lease
from curation.labelstudio.push import CHUNK, put_off
from curation.review import queue
from curation.review.briefing import Briefing
from curation.store import jobs
from curation.store.jobrun import JobRun
from curation.store.tables import ListingRow, ReviewItem, TaskRow
from curation.store.taxonomy import chunks
from curation.store.workspace import Workspace, get_state, set_state
from curation.types import OPEN

GRACE_S = 3600.0
"""How long a page may stay open over a change of version and still be submitted."""

SINCE = "labelstudio.version"
"""Which version is shown, and since when."""

Shown = dict[str, Any]
"""What a task's page shows."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh did."""

    model_version: str | None
    n_predictions: int = 0
    n_old_versions: int = 0
    n_texts: int = 0  #: tasks whose page showed something older in words or pictures


def handle(run: JobRun) -> None:
    """The `refresh` job; put off while somebody else is writing tasks."""
    with run.workspace.db.read() as session:
        now = run.workspace.db.now(session)
        if project.find(session) is None:
            return  # not set up yet: nobody sees a suggestion
    try:
        refresh(run.workspace, now, go_on=run.go_on)
    except Busy:
        put_off(run)


def refresh(
    workspace: Workspace, now: datetime, *, grace_s: float = GRACE_S, go_on: Callable[[], None] = lambda: None
) -> Refreshed:
    """Give every undecided task the newest suggestion and switch the project to it. Safe to repeat, also after a kill.

    The new version is imported whole before the project is switched to it. The old ones go `grace_s` after that: a page that
    was opened before names its prediction when it is submitted, and Label Studio refuses the answer if that is gone. Tasks
    that are asked blind get an empty prediction, which says when it is their turn. What is not doubted any more is
    withdrawn. `go_on` is called before each task whose words change, and may raise to end it there. Raises Busy while a
    push runs.
    """
    with Client.of(workspace.settings) as client, lease.exclusive(workspace) as writer:
        _withdraw(workspace)
        with workspace.db.read() as session:
            ours = project.require(session, client)
            found = _undecided(session, ours.source)
        before = tasks.shown_data(client, ours.id, sorted(found, key=int))
        found = {task_id: found[task_id] for task_id in before}  # one that is gone would fail the whole import
        if not found:
            return Refreshed(None)
        briefing = Briefing(workspace)
        version = briefing.version
        there = tasks.with_version(client, ours.id, sorted(found, key=int), version)
        after, n_predictions = _import(workspace, client, ours.id, found, briefing, writer, there)
        project.set_version(client, ours.id, version)
        n_old = _retire(workspace, client, ours.id, version, now, grace_s)
        return Refreshed(version, n_predictions, n_old, _reword(client, before, after, go_on))


def _retire(workspace: Workspace, client: Client, project_id: int, version: str, now: datetime, grace_s: float) -> int:
    """Delete the predictions of older versions once the present one has been shown for `grace_s`; how many versions."""
    with workspace.db.write() as session:
        kept = get_state(session, SINCE) or {}
        if kept.get("version") != version:
            kept = {"version": version, "at": now.isoformat()}
            set_state(session, SINCE, kept, now=now)
    stale = sorted(name for name, n in project.versions(client, project_id).items() if name != version and n)
    left_s = grace_s - (now - datetime.fromisoformat(kept["at"])).total_seconds()
    if left_s > 0:
        if stale:
            with workspace.db.write() as session:
                jobs.enqueue(session, "refresh", {}, key="refresh-retire", now=workspace.db.now(session), delay_s=left_s)
        return 0
    for name in stale:
        _forget(client, project_id, name)
    return len(stale)


def _withdraw(workspace: Workspace) -> None:
    """Take back what the newest run does not doubt any more; a push closes the tasks."""
    with workspace.db.write() as session:
        if queue.withdraw(session, queue.no_longer_doubted(session)):
            jobs.enqueue(session, "push", {}, key="push", now=workspace.db.now(session))


def _undecided(session: Session, source: str) -> dict[str, int]:
    """Task id → listing id, of tasks that wait for an answer."""
    rows = session.execute(
        select(TaskRow.task_id, ReviewItem.listing_id)
        .join(ListingRow, ListingRow.ref == TaskRow.listing_ref)
        .join(ReviewItem, ReviewItem.listing_id == ListingRow.id)
        .where(TaskRow.source == source, TaskRow.is_deleted.is_(False), ReviewItem.state.in_(OPEN))
        .distinct()
    )
    return {row.task_id: row.listing_id for row in rows}


def _forget(client: Client, project_id: int, version: str) -> None:
    client.request(
        "DELETE",
        f"/api/projects/{project_id}/model-versions/",
        what=f"delete the predictions of {version}",
        json_body={"model_version": version},
        timeout_s=IMPORT_TIMEOUT_S,
    )


def _import(
    workspace: Workspace,
    client: Client,
    project_id: int,
    found: Mapping[str, int],
    briefing: Briefing,
    writer: Lease,
    there: Collection[str],
) -> tuple[dict[str, Shown], int]:
    """New predictions, a part at a time, but for tasks in `there`, which have one of this version.

    Returns what each page should show, and how many predictions that hold a suggestion were made.
    """
    after: dict[str, Shown] = {}
    n_predictions = 0
    for part in chunks(found, CHUNK):
        with workspace.db.read() as session:
            asked = queue.tasks(session, [found[task_id] for task_id in part])
        shown = {task.listing.id: task for task in briefing.complete(asked)}
        made = {task_id: shown[found[task_id]] for task_id in part}
        request = [
            {"task": int(task_id), **tasks.predicted(task, briefing.version)}
            for task_id, task in made.items()
            if task_id not in there
        ]
        if request:
            with writer.writing(), client.doing(f"import {len(request)} predictions") as sdk:
                sdk.projects.import_predictions(id=project_id, request=request, request_options=ONCE_PATIENTLY)
        n_predictions += sum(bool(one["result"]) for one in request)
        after |= {task_id: tasks.data(task, workspace.settings.service_url) for task_id, task in made.items()}
    return after, n_predictions


def _reword(client: Client, before: Mapping[str, Shown], after: Mapping[str, Shown], go_on: Callable[[], None]) -> int:
    """Bring what the pages show up to date: suggestion in words, reasons, neighbours; how many tasks showed another one."""
    changed = {task_id: data for task_id, data in after.items() if before[task_id] != data}
    for task_id, data in changed.items():
        go_on()
        body = {"data": {**before[task_id], **data}}
        client.request("PATCH", f"/api/tasks/{task_id}/", what=f"change task {task_id}", json_body=body)
    return len(changed)
