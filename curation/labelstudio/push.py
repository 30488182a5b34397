"""Review items to Label Studio: each listing gets one task, ever; asking again reopens it.

Label Studio is asked for a listing's task before one is made, so a push that was killed at any
point can be repeated. Tasks go in the order of their priority.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from curation import crash
from curation.labelstudio import lease, project, tasks
from curation.labelstudio.client import ONCE_PATIENTLY, Client, NotThere
from curation.labelstudio.lease import Busy, Lease
from curation.labelstudio.project import Project
from curation.review import queue
from curation.review.briefing import Briefing
from curation.review.queue import Task
from curation.store import erasure, jobs, labels
from curation.store.jobrun import JobRun
from curation.store.tables import ListingRow, ReviewItem, TaskRow
from curation.store.workspace import Workspace
from curation.types import OPEN, TasksDeleted, TaskSeen

CHUNK = 500
REOPENED_PER_WRITE = 20
VIA = "push"
BUSY_DELAY_S = 30.0


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did, counted in listings."""

    n_created: int = 0
    n_predictions: int = 0
    n_reopened: int = 0  #: asked again: a second opinion, a tie, or chosen anew
    n_adopted: int = 0  #: a task was there that we did not know of
    n_withdrawn: int = 0

    def __add__(self, other: "Pushed") -> "Pushed":
        return Pushed(
            self.n_created + other.n_created,
            self.n_predictions + other.n_predictions,
            self.n_reopened + other.n_reopened,
            self.n_adopted + other.n_adopted,
            self.n_withdrawn + other.n_withdrawn,
        )


def handle(run: JobRun) -> None:
    """The `push` job; put off while somebody else is writing tasks."""
    with run.workspace.db.read() as session:
        now = run.workspace.db.now(session)
    try:
        push(run.workspace, now=now, go_on=run.go_on)
    except Busy:
        put_off(run)


def put_off(run: JobRun) -> None:
    """Give the job back for a while; it does not count as an attempt."""
    with run.workspace.db.write() as session:
        jobs.release(session, run.job, now=run.workspace.db.now(session), delay_s=BUSY_DELAY_S)
    run.is_finished = True


def push(workspace: Workspace, *, limit: int | None = None, now: datetime, go_on: Callable[[], None] = lambda: None) -> Pushed:
    """Send what waits for review, at most `limit` listings, and withdraw what is no longer needed.

    `go_on` is called before each chunk and each task that is opened again or closed, and may raise to end the push there;
    what was sent is noted, or found again.

    Raises Busy while another push runs, LabelStudioError if the project is gone or its page is not ours.
    """
    with Client.of(workspace.settings) as client, lease.exclusive(workspace) as writer:
        with workspace.db.read() as session:
            ours, config = project.require(session, client), project.page(session, workspace)
        theirs = project.fetch(client, ours.id)
        project.require_our_page(theirs, config)
        sending = _Push(workspace, client, ours, writer, now, go_on)
        done = sending.send(limit) + sending.withdraw()
        if done.n_created:
            project.settle_version(client, ours.id, sending.briefing.version)
        return done


class _Push:
    """One push under way."""

    def __init__(
        self, workspace: Workspace, client: Client, ours: Project, writer: Lease, now: datetime, go_on: Callable[[], None]
    ) -> None:
        self.workspace, self.client, self.project = workspace, client, ours
        self.writer, self.now, self.go_on = writer, now, go_on

    @functools.cached_property
    def briefing(self) -> Briefing:
        """Loaded with the first task: most pushes have nothing to send."""
        return Briefing(self.workspace)

    def send(self, limit: int | None) -> Pushed:
        """Send all that waits, chunk by chunk."""
        total, n_left = Pushed(), limit
        while n_left is None or n_left > 0:
            self.go_on()
            with self.workspace.db.read() as session:
                waiting = queue.waiting(session, min(CHUNK, n_left or CHUNK))
            if not waiting:
                break
            total += self._send(self.briefing.complete(waiting))
            n_left = None if n_left is None else n_left - len(waiting)
        return total

    def _send(self, waiting: Sequence[Task]) -> Pushed:
        """One chunk: find, make, reopen; only then is it noted as pushed."""
        refs = [task.listing.ref for task in waiting]
        known = self._known(refs)
        unknown = [ref for ref in refs if ref not in known]
        adopted = tasks.find(self.client, self.project.id, unknown)
        there = self._still_there(known | adopted)
        missing = [task for task in waiting if task.listing.ref not in there]
        created, n_predictions = self._create(missing)
        self._note(adopted | created)
        n_reopened = self._reopen_all([task for task in waiting if task.listing.ref in there], there)
        for task in missing:
            if task.n_wanted > 1:
                self._patch(created[task.listing.ref], {"overlap": task.n_wanted, "is_labeled": False})
        self._mark(missing)
        return Pushed(len(created), n_predictions, n_reopened, len(adopted))

    def _reopen_all(self, waiting: Sequence[Task], there: dict[str, tuple[str, int]]) -> int:
        """Part by part, so that a push that is cut short has less to do the next time; how many were opened."""
        n_reopened = 0
        for first in range(0, len(waiting), REOPENED_PER_WRITE):
            part = waiting[first : first + REOPENED_PER_WRITE]
            n_reopened += sum(self._reopen(task, there) for task in part)
            self._mark(part)
        return n_reopened

    def _mark(self, sent: Sequence[Task]) -> None:
        with self.workspace.db.write() as session:
            n_sent = {task.listing.id: task.n_wanted for task in sent}
            queue.mark_pushed(session, list(n_sent), now=self.now, n_sent=n_sent)

    def _known(self, refs: Sequence[str]) -> dict[str, str]:
        with self.workspace.db.read() as session:
            rows = session.execute(
                select(TaskRow.listing_ref, TaskRow.task_id)
                .where(TaskRow.source == self.project.source, TaskRow.listing_ref.in_(refs), TaskRow.is_deleted.is_(False))
                .order_by(TaskRow.id.desc())
            )
            return {row.listing_ref: row.task_id for row in rows}

    def _still_there(self, task_ids: dict[str, str]) -> dict[str, tuple[str, int]]:
        """ref → (task id, number of answers); tasks deleted behind our back are noted as such."""
        counts = tasks.n_annotations(self.client, self.project.id, sorted(task_ids.values(), key=int))
        gone = tuple(sorted(task_id for task_id in task_ids.values() if task_id not in counts))
        if gone:
            with self.workspace.db.write() as session:
                erasure.hold(session)
                labels.apply_event(session, TasksDeleted(self.project.source, gone), via=VIA, now=self.now)
        return {ref: (task_id, counts[task_id]) for ref, task_id in task_ids.items() if task_id in counts}

    def _create(self, missing: Sequence[Task]) -> tuple[dict[str, str], int]:
        """Import; ref → task id, and how many predictions went along."""
        if not missing:
            return {}, 0
        service_url, version = self.workspace.settings.service_url, self.briefing.version
        request = [tasks.as_task(task, service_url, version) for task in missing]
        with self.writer.writing(), self.client.doing(f"import {len(request)} tasks") as sdk:
            reply = sdk.projects.import_tasks(
                id=self.project.id, request=request, return_task_ids=True, request_options=ONCE_PATIENTLY
            )
        crash.reached("push.before_note")
        refs = [task.listing.ref for task in missing]
        n_predictions = sum(bool(made["predictions"][0]["result"]) for made in request)
        return dict(zip(refs, map(str, reply.task_ids), strict=True)), n_predictions

    def _note(self, task_ids: dict[str, str]) -> None:
        with self.workspace.db.write() as session:
            erasure.hold(session)
            for ref, task_id in task_ids.items():
                labels.apply_event(session, TaskSeen(self.project.source, task_id, ref, is_there=True), via=VIA, now=self.now)

    def _reopen(self, task: Task, there: dict[str, tuple[str, int]]) -> bool:
        """Ask for one more answer than there is, or for as many as are wanted, with the page brought up to date."""
        task_id, n_answers = there[task.listing.ref]
        overlap = max(task.n_wanted, n_answers + 1)
        shown = tasks.data(task, self.workspace.settings.service_url)
        is_there = self._patch(task_id, {"overlap": overlap, "is_labeled": False, "data": shown})
        if is_there:
            self._predict_again(task, task_id)
        return is_there

    def _predict_again(self, task: Task, task_id: str) -> None:
        """The task takes its new place in the queue with the suggestion of now, changed in place: a page that is open names
        its prediction when it is submitted, and Label Studio refuses the answer if that is gone.
        """
        made = tasks.predicted(task, self.briefing.version)
        old = self.client.request("GET", "/api/predictions/", what="list predictions", task=task_id)
        if not old:
            body = {"task": int(task_id), "project": self.project.id, **made}
            self.client.request("POST", "/api/predictions/", what=f"suggest for task {task_id}", json_body=body)
            return
        newest = max(row["id"] for row in old)
        self.client.request("PATCH", f"/api/predictions/{newest}/", what=f"suggest for task {task_id}", json_body=made)

    def withdraw(self) -> Pushed:
        """Close the tasks of listings that need no answer any more. They stay, and can be reopened."""
        with self.workspace.db.read() as session:
            closing = _withdrawn(session, self.project.source)
        n_withdrawn = sum(self._patch(task_id, {"is_labeled": True}) for task_id in closing.values())
        with self.workspace.db.write() as session:
            items = (ReviewItem.listing_id.in_(closing), ReviewItem.state == "withdrawn")
            session.execute(update(ReviewItem).where(*items).values(pushed_at=None))
        return Pushed(n_withdrawn=n_withdrawn)

    def _patch(self, task_id: str, change: dict[str, object]) -> bool:
        self.go_on()
        try:
            self.client.request("PATCH", f"/api/tasks/{task_id}/", what=f"change task {task_id}", json_body=change)
        except NotThere:
            return False
        return True


def _withdrawn(session: Session, source: str) -> dict[int, str]:
    """Listing id → task id where all questions were withdrawn after the task was pushed."""
    active = select(ReviewItem.listing_id).where(ReviewItem.state.in_(OPEN))
    rows = session.execute(
        select(ReviewItem.listing_id, TaskRow.task_id)
        .join(ListingRow, ListingRow.id == ReviewItem.listing_id)
        .join(TaskRow, TaskRow.listing_ref == ListingRow.ref)
        .where(
            ReviewItem.state == "withdrawn",
            ReviewItem.pushed_at.is_not(None),
            ReviewItem.listing_id.not_in(active),
            TaskRow.source == source,
            TaskRow.is_deleted.is_(False),
        )
    )
    return {row.listing_id: row.task_id for row in rows}
