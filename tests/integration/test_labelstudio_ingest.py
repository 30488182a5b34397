"""From the inbox to the ledger: each delivery has one named outcome, in any order, once."""

import itertools
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from curation.labelstudio import ingest
from curation.store import inbox, labels
from curation.store.inbox import Delivery
from curation.store.tables import AnnotationRow, Inbox, JobRow, LabelHistory, TaskRow
from curation.store.workspace import Workspace
from curation.types import Outcome, Question
from curation.worker import Worker
from tests import builders
from tests.conftest import NOW

CORPUS = Path(__file__).parent.parent / "corpus" / "labelstudio"


def body(name: str, **changes: Any) -> bytes:
    """A fixture's body, with fields of its annotation changed."""
    found = json.loads((CORPUS / f"{name}.json").read_text())
    found["annotation"] = {**found["annotation"], **changes} if changes else found.get("annotation")
    return json.dumps(found).encode()


def catalog(workspace: Workspace) -> None:
    """Two listings whose seller said Decor; both leaves exist."""
    builders.add(workspace, builders.record("L-1001", category="Home / Decor"), builders.record("other", category="Home / Tools"))


def deliver(workspace: Workspace, *bodies: bytes) -> None:
    """Receive the bodies and let a worker apply them, one after the other."""
    for one in bodies:
        with workspace.db.write() as session:
            inbox.receive(session, [Delivery("labelstudio", one, NOW)])
        Worker(workspace, ["ingest"]).run(until_idle=True)


def states(workspace: Workspace) -> list[tuple[str, str | None]]:
    """State and reason of each delivery."""
    with workspace.db.read() as session:
        return [(row.state, row.reason) for row in session.execute(select(Inbox).order_by(Inbox.id)).scalars()]


def test_click_becomes_a_label(workspace: Workspace) -> None:
    """One submit changes both labels, is noted as applied, and keeps who said it."""
    catalog(workspace)
    deliver(workspace, body("annotation_created"))
    assert builders.label(workspace, "L-1001") == ("Home / Tools", "moderators")
    assert builders.label(workspace, "L-1001", Question.VIOLATION) == ("counterfeit|unsafe_product", "moderators")
    assert states(workspace) == [("applied", "applied 2, task 1")]


def test_same_change_from_two_hooks_counts_once(workspace: Workspace) -> None:
    """A second hook brings the same change in another body: it is a duplicate, and the history has one entry."""
    catalog(workspace)
    deliver(workspace, body("annotation_created"), body("annotation_created", unique_id="another"))
    assert [reason for _, reason in states(workspace)] == ["applied 2, task 1", "duplicate 2, task 1"]
    with workspace.db.read() as session:
        values = session.execute(select(LabelHistory.value).where(LabelHistory.source == "moderators")).scalars().all()
    assert len(values) == 2


def test_a_delivery_sent_again_after_a_month_changes_nothing(workspace: Workspace) -> None:
    """Whoever recorded it and sends it again, word for word or otherwise, cannot bring an old answer back (fault 8)."""
    catalog(workspace)
    old, new = body("annotation_created"), body("annotation_updated")
    deliver(workspace, old, new)
    before = builders.label(workspace, "L-1001")
    month = NOW + timedelta(days=31)
    with workspace.db.write() as session:
        assert inbox.receive_each(session, [Delivery("labelstudio", old, month)]) == [False]
        assert inbox.receive_each(session, [Delivery("labelstudio", b" " + old, month)]) == [True]
    Worker(workspace, ["ingest"]).run(until_idle=True)
    assert builders.label(workspace, "L-1001") == before == ("Home / Decor", "moderators")
    assert states(workspace)[-1] == ("applied", "duplicate 2, task 1")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_order_of_arrival_does_not_matter(sqlite_workspace: Workspace, order: tuple[int, ...]) -> None:
    """Create, update and ground truth leave the same label and the same vote in each of the six orders (fault 9)."""
    catalog(sqlite_workspace)
    bodies = [body("annotation_created"), body("annotation_updated"), body("annotation_updated_noop")]
    deliver(sqlite_workspace, *(bodies[i] for i in order))
    assert builders.label(sqlite_workspace, "L-1001") == ("Home / Decor", "moderators")
    with sqlite_workspace.db.read() as session:
        (vote,) = labels.votes(session, "L-1001", Question.CATEGORY)
    assert vote.at.isoformat() == "2026-02-28T09:21:00.000001+00:00"


@pytest.mark.parametrize("late", [True, False])
def test_deletion_wins_early_or_late(workspace: Workspace, late: bool) -> None:
    """After a deletion the seller's word holds again; a create that comes late does not revive the annotation (fault 9)."""
    catalog(workspace)
    bodies = [body("annotation_created"), body("annotations_deleted")]
    deliver(workspace, *(bodies if late else bodies[::-1]))
    assert builders.label(workspace, "L-1001") == ("Home / Decor", "seller")


def test_deleted_task_takes_its_annotations_along(workspace: Workspace) -> None:
    """Label Studio sends no deletion of the annotations that went with a task."""
    catalog(workspace)
    deliver(workspace, body("annotation_created"), body("tasks_deleted"))
    assert builders.label(workspace, "L-1001") == ("Home / Decor", "seller")
    with workspace.db.read() as session:
        found = session.execute(select(TaskRow.task_id, TaskRow.is_deleted)).all()
    assert {(row.task_id, row.is_deleted) for row in found} == {("31", True), ("32", True)}


def test_annotation_before_its_listing(workspace: Workspace) -> None:
    """The annotation of an unknown listing waits as an orphan and counts once the listing is here (fault 10)."""
    builders.add(workspace, builders.record("other", category="Home / Tools"))
    deliver(workspace, body("annotation_created"))
    assert states(workspace) == [("applied", "orphan 2, task 1")]
    builders.add(workspace, builders.record("L-1001", category="Home / Decor"))
    assert builders.label(workspace, "L-1001") == ("Home / Tools", "moderators")


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("annotation_skipped_with_prefill", Outcome.SKIP),
        ("annotation_empty_result", Outcome.EMPTY),
        ("annotation_unknown_label", Outcome.UNKNOWN_LABEL),
        ("annotation_contradictory", Outcome.CONTRADICTORY),
    ],
)
def test_no_guess_becomes_a_label(workspace: Workspace, name: str, outcome: Outcome) -> None:
    """What is no answer is kept under its name and changes no label (fault 17)."""
    catalog(workspace)
    deliver(workspace, body(name))
    assert builders.label(workspace, "L-1001") == ("Home / Decor", "seller")
    with workspace.db.read() as session:
        assert set(session.execute(select(AnnotationRow.outcome)).scalars()) == {outcome.value}


def test_skip_after_a_vote_takes_the_vote_back(workspace: Workspace) -> None:
    """An annotation that is turned into a skip no longer counts (fault 17)."""
    catalog(workspace)
    skipped = body("annotation_updated", was_cancelled=True, updated_at="2026-02-28T10:00:00.000001Z")
    deliver(workspace, body("annotation_created"), skipped)
    assert builders.label(workspace, "L-1001") == ("Home / Decor", "seller")


@pytest.mark.parametrize("name", ["project_updated", "label_link_created"])
def test_irrelevant_actions_are_ignored_with_the_reason(workspace: Workspace, name: str) -> None:
    """They are kept, and the inbox says why nothing came of them."""
    deliver(workspace, (CORPUS / f"{name}.json").read_bytes())
    ((state, reason),) = states(workspace)
    assert state == "ignored"
    assert reason


def test_body_without_payload_asks_for_reconciliation(workspace: Workspace) -> None:
    """Nothing can be read from it, so Label Studio is asked."""
    deliver(workspace, (CORPUS / "without_payload.json").read_bytes())
    with workspace.db.read() as session:
        kinds = session.execute(select(JobRow.kind).where(JobRow.state == "todo")).scalars().all()
    assert kinds == ["reconcile"]


def test_unreadable_body_is_quarantined_and_can_be_replayed(workspace: Workspace) -> None:
    """The job ends well, the reason is kept, and a replay looks at it again."""
    deliver(workspace, b'{"action": "ANNOTATION_CREATED", "annotation": NaN}')
    assert states(workspace) == [("quarantined", "body holds NaN, which is not JSON")]
    with workspace.db.write() as session:
        assert inbox.replay(session, now=NOW) == 1
    assert Worker(workspace, ["ingest"]).run(until_idle=True) == 1


def test_bulk_action_is_applied_in_parts(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body with thousands of annotations never holds the write lock for long; its count is of the whole."""
    catalog(workspace)
    builders.add(workspace, builders.record("L-1002", category="Home / Decor"))
    monkeypatch.setattr(ingest, "EVENTS_PER_WRITE", 2)
    deliver(workspace, (CORPUS / "annotations_created.json").read_bytes())
    assert states(workspace) == [("applied", "applied 4, task 2")]
    assert builders.label(workspace, "L-1001") == ("Home / Tools", "moderators")
    assert builders.label(workspace, "L-1002") == ("Home / Decor", "moderators")


def test_refused_body_leaves_nothing_behind(workspace: Workspace) -> None:
    """One unreadable annotation of a bulk action quarantines the body whole; reconciliation brings the rest."""
    catalog(workspace)
    found = json.loads((CORPUS / "annotations_created.json").read_text())
    found["annotation"][1]["updated_at"] = "yesterday"
    deliver(workspace, json.dumps(found).encode())
    assert states(workspace)[0][0] == "quarantined"
    with workspace.db.read() as session:
        assert session.execute(select(AnnotationRow.id)).all() == []
