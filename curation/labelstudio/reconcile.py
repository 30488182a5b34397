"""Reconciliation: Label Studio's state is the truth, webhooks only make it fast.

Tasks are read in the order of their `updated_at`, which moves with every change of an annotation,
also its deletion. Each task's set of annotations replaces what we have of it, page by page; the
cursor is stored in the transaction of its page, so a killed run goes on where it stopped. What this
order cannot show is looked for by number (deleted tasks) and by `revisits.py`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from curation import crash, telemetry
from curation.errors import ConfigError, PayloadError
from curation.labelstudio import apply, held, hook, labelconfig, payloads, project, revisits, walk
from curation.labelstudio.answers import Vocabulary
from curation.labelstudio.client import Client, NotThere
from curation.labelstudio.project import Project
from curation.labelstudio.walk import Task
from curation.store.jobrun import JobRun
from curation.store.workspace import Workspace, get_state, set_state
from curation.types import AnnotationsDeleted, Event, LabelEvent, TasksDeleted

CURSOR = "labelstudio.cursor"
DRIFT = "labelstudio.drift"
SWEEP = "labelstudio.sweep"
MARGIN = timedelta(minutes=2)
"""Read again from this long before the cursor: a slow transaction commits with an older `updated_at`."""

FULL_EVERY = timedelta(days=1)
TASKS_PER_WRITE = 10
"""Tasks applied in one transaction: receivers wait for the write lock meanwhile."""

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)

log = telemetry.logger("reconcile")

Writing = Callable[[], AbstractContextManager[Session]]


@dataclass(frozen=True, slots=True)
class Drift:
    """What one reconciliation found. `healed` counts by kind what webhooks had not brought."""

    n_tasks_seen: int
    n_missed: int
    healed: dict[str, int] = field(default_factory=dict)
    n_unreadable: int = 0  #: tasks whose annotations cannot be interpreted
    is_full: bool = False
    swept: bool = False
    hook_faults: tuple[str, ...] = ()  #: why webhooks may be missing, in words


def handle(run: JobRun) -> None:
    """The `reconcile` job. A worker that must stop does so between two parts; the job goes on from the cursor."""
    with run.workspace.db.read() as session:
        now = run.workspace.db.now(session)
        if project.find(session) is None:
            return  # not set up yet: there is nothing to compare with
    reconcile(run.workspace, now, writing=run.writing, sweep=False)


def reconcile(
    workspace: Workspace, now: datetime, *, full: bool = False, sweep: bool = True, writing: Writing | None = None
) -> Drift:
    """Bring our annotation log to Label Studio's state and say what was missing.

    `full` starts from the beginning, as happens once a day by itself. `sweep` looks for deleted
    tasks even if the number of tasks does not call for it.
    """
    with Client.of(workspace.settings) as client:
        return _reconcile(workspace, client, now, full=full, sweep=sweep, writing=writing or workspace.db.write)


def _reconcile(workspace: Workspace, client: Client, now: datetime, *, full: bool, sweep: bool, writing: Writing) -> Drift:
    with workspace.db.read() as session:
        ours = project.require(session, client)
        words = apply.vocabulary(session, workspace)
        start, full = _start(session, ours, full, now)
        swept_before = get_state(session, SWEEP) or {}
    faults = _hook_faults(workspace, client, ours, now, writing)
    theirs = project.fetch(client, ours.id)
    labelconfig.require_questions(theirs["label_config"])
    under_way = _Pass(workspace, client, ours, words, writing, is_full=full, now=now)
    under_way.walk(start)
    needs_sweep = full or sweep or under_way.count_off(int(theirs["task_number"]), swept_before)
    if needs_sweep:
        under_way.sweep()
    under_way.revisit(start)
    return under_way.finish(swept=needs_sweep, hook_faults=faults)


def _hook_faults(workspace: Workspace, client: Client, ours: Project, now: datetime, writing: Writing) -> tuple[str, ...]:
    """The webhook is looked at first on every pass, and what is wrong is noted at once: a hook that was switched off
    sends nothing that would say so, and the pass may be cut short.
    """
    try:
        found = hook.examine(client, ours.id, workspace.settings)
    except ConfigError as error:
        found = [str(error)]
    for words in found:
        log.warning("webhook is not as it must be", fault=words)
    with workspace.db.read() as session:
        drift = get_state(session, DRIFT) or {}
    if drift and found != drift.get("hook_faults", []):
        with writing() as session:
            set_state(session, DRIFT, {**(get_state(session, DRIFT) or {}), "hook_faults": found}, now=now)
    return tuple(found)


def _start(session: Session, ours: Project, full: bool, now: datetime) -> tuple[datetime, bool]:
    """Where to read from, and whether that is the beginning."""
    cursor = get_state(session, CURSOR) or {}
    if full or cursor.get("project") != ours.id:
        return BEGINNING, True
    behind = datetime.fromisoformat(cursor["updated_at"]) - MARGIN
    if not cursor.get("full_at"):
        return behind, True  # a full one was cut short: go on with it
    is_old = now - datetime.fromisoformat(cursor["full_at"]) > FULL_EVERY
    return (BEGINNING, True) if is_old else (behind, False)


class _Pass:
    """One reconciliation under way."""

    def __init__(
        self,
        workspace: Workspace,
        client: Client,
        ours: Project,
        words: Vocabulary,
        writing: Writing,
        *,
        is_full: bool,
        now: datetime,
    ) -> None:
        self.workspace, self.client, self.project = workspace, client, ours
        self.words, self.writing, self.now = words, writing, now
        self.n_tasks_seen = self.newest_foreign = 0
        self.is_full = is_full
        self.n_unreadable = 0
        self.healed = {"annotations": 0, "deletions": 0, "task_deletions": 0}

    def walk(self, start: datetime) -> None:
        """Read all tasks updated at or after `start`, oldest first, and apply them part by part."""
        for page in walk.changed(self.client, self.project.id, start):
            for first in range(0, len(page), TASKS_PER_WRITE):
                part, is_last = page[first : first + TASKS_PER_WRITE], first + TASKS_PER_WRITE >= len(page)
                self._apply(part, cursor=walk.updated_at(part[-1]), is_last=is_last)
            self.n_tasks_seen += len(page)

    def revisit(self, start: datetime) -> None:
        """Read again what lies before `start` and may have changed nevertheless."""
        with self.workspace.db.read() as session:
            before = get_state(session, revisits.STATE) or {}
            marks = revisits.marks(session, before, self.workspace.db.now(session) - MARGIN)
            task_ids = revisits.late(session, self.project.source, before, start)
            task_ids |= revisits.twins(session, self.project.source, before)
        for page in walk.these(self.client, self.project.id, task_ids):
            for first in range(0, len(page), TASKS_PER_WRITE):
                self._apply(page[first : first + TASKS_PER_WRITE])
        if marks != before:
            with self.writing() as session:
                set_state(session, revisits.STATE, marks, now=self.now)

    def _apply(self, tasks: Sequence[Task], *, cursor: datetime | None = None, is_last: bool = False) -> None:
        events = self._new_events(tasks)
        gone = self._gone(tasks)
        if not (events or gone or is_last):
            return  # the cursor may as well move later
        if gone:
            events.append(AnnotationsDeleted(self.project.source, tuple(gone)))
        with self.writing() as session:
            result = apply.apply_events(session, self.workspace, events, via=apply.RECONCILE, now=self.workspace.db.now(session))
            crash.reached("reconcile.before_cursor")
            if cursor is not None:
                self._advance(session, cursor)
        crash.reached("reconcile.after_page")
        self.healed["annotations"] += len(result.fresh)
        self.healed["deletions"] += len(gone)

    def _new_events(self, tasks: Sequence[Task]) -> list[Event]:
        """What the tasks say and we have not logged yet: mostly nothing, and then nothing is written."""
        events = [event for task in tasks for event in self._events(task)]
        with self.workspace.db.read() as session:
            ids = [str(task["id"]) for task in tasks]
            logged = held.logged(session, self.project.source, ids)
            seen = held.seen(session, self.project.source, ids)
            displaced = held.displaced(session, self.project.source, events)
        back = {source_id for source_id, task_id in displaced if self._is_there(source_id, task_id)}
        found = [
            event for event in events if held.annotation(event) in back or (held.key(event) not in logged and event not in seen)
        ]
        return [
            replace(event, is_there=True) if isinstance(event, LabelEvent) and held.annotation(event) in back else event
            for event in found
        ]

    def _events(self, task: Task) -> Sequence[Event]:
        if not isinstance(task.get("data"), dict) or payloads.LISTING_KEY not in task["data"]:
            self.newest_foreign = max(self.newest_foreign, int(task["id"]))
        try:
            return payloads.events_of_task(task, self.project.source, self.words)
        except PayloadError as error:
            self.n_unreadable += 1
            log.warning("task cannot be interpreted", task=task.get("id"), error=str(error))
            return ()

    def _is_there(self, source_id: str, task_id: str) -> bool:
        """Label Studio has this annotation, in this task: asked once more, for it may have gone since the page was read."""
        try:
            found = self.client.request("GET", f"/api/annotations/{source_id}/", what=f"look at annotation {source_id}")
        except NotThere:
            return False
        return str(found["task"]) == task_id

    def _gone(self, tasks: Sequence[Task]) -> list[str]:
        """Annotations we hold that are gone. Each is looked at once more: one made since the page was read is not gone."""
        there = {str(annotation["id"]) for task in tasks for annotation in task.get("annotations", [])}
        ids = [str(task["id"]) for task in tasks]
        with self.workspace.db.read() as session:
            missing = sorted(held.annotations(session, self.project.source, ids) - there)
        return [source_id for source_id in missing if not self.client.exists(f"/api/annotations/{source_id}/")]

    def count_off(self, n_there: int, swept_before: dict[str, Any]) -> bool:
        """Whether Label Studio's number of tasks is not what ours and the foreign ones add up to.

        A new foreign task counts as well: it may stand in the number for one of ours that is gone.
        """
        if self.newest_foreign > int(swept_before.get("newest", 0)):
            return True
        with self.workspace.db.read() as session:
            n_ours = held.n_live_tasks(session, self.project.source)
        return n_there != n_ours + int(swept_before.get("n_foreign", 0))

    def sweep(self) -> None:
        """Find the tasks that were deleted, by comparing all ids; a deletion moves no `updated_at`."""
        source = self.project.source
        with self.workspace.db.read() as session:  # before the reading: what is made meanwhile stays
            known = held.live_tasks(session, source) | held.answered_foreign(session, source)
        there = set(walk.ids(self.client, self.project.id))
        gone = tuple(
            task_id
            for task_id in sorted(known - there, key=lambda task_id: (len(task_id), task_id))
            if not self.client.exists(f"/api/tasks/{task_id}/")
        )
        with self.writing() as session:
            if gone:
                event = TasksDeleted(self.project.source, gone)
                apply.apply_events(session, self.workspace, [event], via=apply.RECONCILE, now=self.workspace.db.now(session))
            n_foreign = len(there - held.live_tasks(session, self.project.source))
            newest = max(map(int, there), default=0)
            kept = {"project": self.project.id, "n_foreign": n_foreign, "newest": newest}
            set_state(session, SWEEP, kept, now=self.now)
        self.healed["task_deletions"] += len(gone)

    def finish(self, *, swept: bool, hook_faults: tuple[str, ...]) -> Drift:
        """Remember and return what was found."""
        drift = Drift(
            self.n_tasks_seen, sum(self.healed.values()), dict(self.healed), self.n_unreadable, self.is_full, swept, hook_faults
        )
        with self.writing() as session:
            total = apply.count_missed(session)
            set_state(
                session,
                DRIFT,
                {**asdict(drift), "hook_faults": list(hook_faults), "n_missed_total": total, "at": self.now.isoformat()},
                now=self.now,
            )
            if self.is_full:
                kept = get_state(session, CURSOR) or {"updated_at": BEGINNING.isoformat()}
                done = {**kept, "project": self.project.id, "full_at": self.now.isoformat()}
                set_state(session, CURSOR, done, now=self.now)
        return drift

    def _advance(self, session: Session, updated_at: datetime) -> None:
        kept = get_state(session, CURSOR) or {}
        at = {"project": self.project.id, "updated_at": updated_at.isoformat()}
        set_state(session, CURSOR, at if self.is_full else {**kept, **at}, now=self.now)
