"""Erased listings in what Label Studio sent and holds: kept bodies lose their text, tasks are deleted there.

A body that names an erased listing keeps its shape and ids; whatever is said of the listing becomes ``"erased"``. One that
cannot be read is emptied, since nobody can say what of it is about whom.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from curation.errors import PayloadError
from curation.labelstudio import lease, project, strictjson, tasks
from curation.labelstudio.client import Client, NotThere
from curation.labelstudio.lease import Busy
from curation.labelstudio.payloads import LISTING_KEY
from curation.labelstudio.push import put_off
from curation.store import erasure, inbox, jobs
from curation.store.jobrun import JobRun
from curation.store.tables import Inbox
from curation.store.workspace import Workspace

KIND = "erase"
PAGE = 200
ERASED = "erased"
EMPTY = b'{"action":"ERASED"}'
"""What is kept of a body that cannot be read."""

NAMED = re.compile(rb'"' + LISTING_KEY.encode() + rb'"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)')
"""A listing's ref in a body, whether or not the body is JSON."""

SHOWN = 1000
"""Characters of a title that a body which cannot be read is searched for."""


def named(body: bytes) -> set[str]:
    """Refs of the listings that a body names."""
    found = set()
    for text in NAMED.findall(body):
        try:
            found.add(str(json.loads(text)))
        except ValueError:
            continue
    return found


def redact(body: bytes, refs: Collection[str]) -> bytes:
    """The body without what it says of these listings, and of the answers on them."""
    try:
        document = strictjson.loads(body)
        return json.dumps(_without(document, refs, _tasks(document, refs)), ensure_ascii=False, allow_nan=False).encode()
    except (PayloadError, RecursionError, UnicodeEncodeError):
        return EMPTY


def clean(session: Session, inbox_id: int, body: bytes) -> bool:
    """Redact a delivery about an erased listing, sent before Label Studio knew, in the caller's transaction; whether it did.

    `body`: as it was read before; what is kept is read again only where there is something to take out of it.
    """
    refs = erasure.barred(session, named(body))
    kept = inbox.load(session, inbox_id) if refs else None
    if kept is not None:
        _replace(session, inbox_id, redact(kept.body, refs))
    return bool(refs)


def clean_inbox(workspace: Workspace, refs: frozenset[str], titles: Sequence[str]) -> int:
    """Redact every delivery that is about these listings, a page at a time; how many. Safe to repeat."""
    shown = [part for title in titles for part in _spellings(title)]
    after_id, n_cleaned = 0, 0
    while True:
        with workspace.db.read() as session:
            query = select(Inbox.id, Inbox.body).where(Inbox.id > after_id).order_by(Inbox.id).limit(PAGE)
            rows = session.execute(query).all()
        if not rows:
            return n_cleaned
        after_id = rows[-1].id
        found = {row.id: cleaned for row in rows if (cleaned := _cleaned(row.body, refs, shown)) != row.body}
        if found:
            with workspace.db.write() as session:
                for inbox_id, body in found.items():
                    _replace(session, inbox_id, body)
        n_cleaned += len(found)


def enqueue(session: Session, erasure_id: int) -> bool:
    """Ask for the deletion of the listings' tasks, in the erasure's transaction; False if there is no project."""
    if project.find(session) is None:
        return False
    done = erasure.get(session, erasure_id)
    return jobs.enqueue(session, KIND, {"erasure": erasure_id}, key=f"{KIND}-{erasure_id}", now=done.at, max_attempts=20)


def handle(run: JobRun) -> None:
    """The `erase` job: delete the tasks of an erasure's listings in Label Studio; put off while somebody writes tasks there."""
    workspace = run.workspace
    with workspace.db.read() as session:
        refs = sorted(erasure.get(session, int(run.job.payload["erasure"])).refs.values())
        refs = sorted(erasure.barred(session, refs))
        if project.find(session) is None or not refs:
            return
    try:
        delete_tasks(workspace, refs, go_on=run.go_on)
    except Busy:
        put_off(run)


def delete_tasks(workspace: Workspace, refs: Sequence[str], *, go_on: Callable[[], None] = lambda: None) -> int:
    """Delete their tasks with all answers, also those that we did not know of; how many. Safe to repeat. Raises Busy.

    `go_on` is called before each task and may raise to end it there.
    """
    with Client.of(workspace.settings) as client, lease.exclusive(workspace):
        with workspace.db.read() as session:
            ours = project.require(session, client)
            known = erasure.tasks_of(session, ours.source, refs)
        there = tasks.shown_data(client, ours.id, sorted(known, key=int))
        wanted = frozenset(refs)
        mine = {task_id for task_id, data in there.items() if str(data.get(LISTING_KEY)) in wanted}
        mine |= set(tasks.find(client, ours.id, refs).values())
        return sum(_delete(client, task_id, go_on) for task_id in sorted(mine, key=int))


def _delete(client: Client, task_id: str, go_on: Callable[[], None]) -> bool:
    go_on()
    try:
        client.request("DELETE", f"/api/tasks/{task_id}/", what=f"delete task {task_id}")
    except NotThere:
        return False
    return True


def _replace(session: Session, inbox_id: int, body: bytes) -> None:
    """The sha256 and the key of what was received stay: the same delivery is known if it comes again."""
    session.execute(update(Inbox).where(Inbox.id == inbox_id).values(body=body))
    quarantined = (Inbox.id == inbox_id, Inbox.state == "quarantined")
    session.execute(update(Inbox).where(*quarantined).values(reason="about a listing that was erased"))


def _cleaned(body: bytes, refs: frozenset[str], titles: Iterable[bytes]) -> bytes:
    if mine := named(body) & refs:
        return redact(body, mine)
    return EMPTY if any(title in body for title in titles) and not _is_json(body) else body


def _is_json(body: bytes) -> bool:
    try:
        strictjson.loads(body)
    except PayloadError:
        return False
    return True


def _spellings(title: str) -> list[bytes]:
    """How a title may stand in a body."""
    texts = {json.dumps(title[:SHOWN], ensure_ascii=plain)[1:-1] for plain in (True, False)} if title.strip() else set()
    return [text.encode("utf-8", "replace") for text in texts]


def _tasks(value: object, refs: Collection[str]) -> set[str]:
    """Ids of the tasks in a document that show one of the listings."""
    if isinstance(value, list):
        return {task_id for item in value for task_id in _tasks(item, refs)}
    if not isinstance(value, Mapping):
        return set()
    data = value.get("data")
    if isinstance(data, Mapping) and str(data.get(LISTING_KEY)) in refs:
        return {str(value.get("id"))}
    return {task_id for item in value.values() for task_id in _tasks(item, refs)}


def _without(value: Any, refs: Collection[str], task_ids: Collection[str]) -> Any:
    if isinstance(value, list):
        return [_without(item, refs, task_ids) for item in value]
    if not isinstance(value, Mapping):
        return value
    if LISTING_KEY in value and str(value[LISTING_KEY]) in refs:
        return {LISTING_KEY: value[LISTING_KEY], ERASED: True}
    if "result" in value and str(value.get("task")) in task_ids:
        return {name: item for name, item in value.items() if name not in ("result", "prediction", "draft")} | {"result": []}
    return {name: _without(item, refs, task_ids) for name, item in value.items()}
