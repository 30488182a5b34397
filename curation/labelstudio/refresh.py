"""Fresh suggestions after a promotion: Label Studio never replaces a prediction by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.labelstudio import lease, project, tasks
from curation.labelstudio.client import IMPORT_TIMEOUT_S, ONCE_PATIENTLY, Client
from curation.labelstudio.lease import Busy, Lease
from curation.labelstudio.push import CHUNK, put_off
from curation.review import suggestions
from curation.review.suggestions import Suggestion
from curation.store.jobrun import JobRun
from curation.store.tables import ListingRow, ReviewItem, TaskRow
from curation.store.workspace import Workspace
from curation.types import BLIND_BATCH


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh did."""

    model_version: str | None
    n_predictions: int = 0
    n_old_versions: int = 0
    n_texts: int = 0  #: tasks whose page showed an older suggestion in words


def handle(run: JobRun) -> None:
    """The `refresh` job; put off while somebody else is writing tasks."""
    with run.workspace.db.read() as session:
        now = run.workspace.db.now(session)
        if project.find(session) is None:
            return  # not set up yet: nobody sees a suggestion
    try:
        refresh(run.workspace, now)
    except Busy:
        put_off(run)


def refresh(workspace: Workspace, now: datetime) -> Refreshed:
    """Give every undecided task the newest suggestion and remove all older ones. Safe to repeat.

    Tasks that are asked blind get none. Raises Busy while a push runs.
    """
    with Client.of(workspace.settings) as client, lease.exclusive(workspace) as writer:
        with workspace.db.read() as session:
            ours = project.require(session, client)
            found = _undecided(session, ours.source)
        shown = tasks.shown_data(client, ours.id, sorted(found, key=int))
        found = {task_id: found[task_id] for task_id in shown}  # one that is gone would fail the whole import
        if not found:
            return Refreshed(None)
        version = next(iter(found.values())).model_version
        old = sorted(_versions(client, ours.id))
        if version in old:  # left by a refresh that was cut short
            _forget(client, ours.id, version)
        _import(client, ours.id, found, writer)
        client.request("PATCH", f"/api/projects/{ours.id}/", what="set the model version", json_body={"model_version": version})
        stale = [name for name in old if name != version]
        for name in stale:
            _forget(client, ours.id, name)
        return Refreshed(version, len(found), len(stale), _reword(client, shown, found))


def _undecided(session: Session, source: str) -> dict[str, Suggestion]:
    """Task id → suggestion, for tasks that wait for an answer and may show one."""
    rows = session.execute(
        select(TaskRow.task_id, ReviewItem.listing_id)
        .join(ListingRow, ListingRow.ref == TaskRow.listing_ref)
        .join(ReviewItem, ReviewItem.listing_id == ListingRow.id)
        .where(
            TaskRow.source == source,
            TaskRow.is_deleted.is_(False),
            ReviewItem.state.in_(("pushed", "tie", "waiting")),
            ReviewItem.listing_id.not_in(select(ReviewItem.listing_id).where(ReviewItem.batch == BLIND_BATCH)),
        )
        .distinct()
    ).all()
    found = suggestions.for_listings(session, sorted({row.listing_id for row in rows}))
    return {row.task_id: found[row.listing_id] for row in rows if row.listing_id in found}


def _versions(client: Client, project_id: int) -> dict[str, int]:
    """Model version → number of predictions in the project."""
    found: dict[str, int] = client.request("GET", f"/api/projects/{project_id}/model-versions/", what="list model versions")
    return found


def _forget(client: Client, project_id: int, version: str) -> None:
    client.request(
        "DELETE",
        f"/api/projects/{project_id}/model-versions/",
        what=f"delete the predictions of {version}",
        json_body={"model_version": version},
        timeout_s=IMPORT_TIMEOUT_S,
    )


def _import(client: Client, project_id: int, found: Mapping[str, Suggestion], writer: Lease) -> None:
    request = [{"task": int(task_id), **tasks.prediction(suggestion)} for task_id, suggestion in found.items()]
    for first in range(0, len(request), CHUNK):
        part = request[first : first + CHUNK]
        with writer.writing(), client.doing(f"import {len(part)} predictions") as sdk:
            sdk.projects.import_predictions(id=project_id, request=part, request_options=ONCE_PATIENTLY)


def _reword(client: Client, shown: Mapping[str, dict[str, Any]], found: Mapping[str, Suggestion]) -> int:
    """Bring the suggestion in words up to date; how many tasks showed another one."""
    n_changed = 0
    for task_id, data in shown.items():
        words = tasks.suggestion_text(found[task_id])
        if data.get("suggestion_text") != words:
            body = {"data": {**data, "suggestion_text": words}}
            client.request("PATCH", f"/api/tasks/{task_id}/", what=f"change task {task_id}", json_body=body)
            n_changed += 1
    return n_changed
