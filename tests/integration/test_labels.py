"""The annotation log and the label ledger, on both databases."""

import itertools
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select

from curation.store import labels
from curation.store.tables import AnnotationRow, Category, CategoryAlias, LabelHistory, LabelRow, ListingRow
from curation.store.workspace import Workspace
from curation.types import AnnotationsDeleted, Event, LabelEvent, Origin, Outcome, Question, TasksDeleted, TaskSeen
from tests.conftest import NOW

SELLERS, RIGHT, OTHER = "Home / Kitchen", "Home / Garden", "Toys / Games"


def said(value: str | None, *, by: str = "7", minute: int = 0, annotation: str = "1", **changes: object) -> LabelEvent:
    """What one moderator said about listing L, `minute` minutes past NOW."""
    event = LabelEvent(
        source="labelstudio:1",
        source_id=annotation,
        task_id="t1",
        listing_ref="L",
        question=Question.CATEGORY,
        outcome=Outcome.LABEL,
        value=value,
        annotator=by,
        at=NOW + timedelta(minutes=minute),
        state_hash=f"{hash((value, minute)) & 0xFFFFFFFF:016x}",
        origin=Origin.MANUAL,
        lead_time_s=9.0,
    )
    return replace(event, **changes)


@pytest.fixture
def catalog(workspace: Workspace) -> Workspace:
    """Three categories and listing L, which its seller put into Home / Kitchen."""
    with workspace.db.write() as session:
        nodes = {path: Category(path=path, name=path, is_leaf=True) for path in (SELLERS, RIGHT, OTHER)}
        session.add_all(nodes.values())
        session.flush()
        listing = _listing(nodes[SELLERS].id)
        session.add(listing)
        session.flush()
        labels.recompute(session, listing.id, Question.CATEGORY, now=NOW)
    return workspace


def _listing(category_id: int) -> ListingRow:
    texts = {"ref": "L", "title": "Rake", "description": "", "content_sha256": "0" * 64, "group_key": "L"}
    return ListingRow(**texts, attributes={}, images=[], flags=[], category_id=category_id, created_at=NOW)


def feed(workspace: Workspace, *events: Event) -> list[str]:
    """Apply the events, each in its own transaction; their outcomes."""
    outcomes = []
    for event in events:
        with workspace.db.write() as session:
            outcomes.append(labels.apply_event(session, event, via="webhook", now=NOW).outcome)
    return outcomes


def label(workspace: Workspace) -> tuple[str, str]:
    """The current category label of L: value and source."""
    with workspace.db.read() as session:
        row = session.execute(select(LabelRow)).scalar_one()
        return row.value, row.source


def test_a_moderators_decision_changes_the_label_and_is_kept(catalog: Workspace) -> None:
    """The label names its votes, and the history holds both values."""
    assert feed(catalog, said(RIGHT)) == ["applied"]
    assert label(catalog) == (RIGHT, "moderators")
    with catalog.db.read() as session:
        last = session.execute(select(LabelHistory).order_by(LabelHistory.id.desc()).limit(1)).scalar_one()
        assert (last.old_value, last.old_source, last.value) == (SELLERS, "seller", RIGHT)
        assert last.evidence["votes"][0]["annotator"] == "7"


def test_the_same_event_twice_has_one_effect(catalog: Workspace) -> None:
    """A duplicate appends nothing and changes nothing."""
    assert feed(catalog, said(RIGHT), said(RIGHT)) == ["applied", "duplicate"]
    with catalog.db.read() as session:
        assert session.execute(select(func.count()).select_from(AnnotationRow)).scalar_one() == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_any_order_of_arrival_gives_the_same_label(sqlite_workspace: Workspace, order: tuple[int, ...]) -> None:
    """Create, two updates and a second person's vote: the newest states win, whatever came first (fault 9)."""
    workspace = sqlite_workspace
    with workspace.db.write() as session:
        session.add(Category(path=SELLERS, name="k", is_leaf=True))
        session.flush()
        session.add(_listing(1))
    events = [said(SELLERS), said(OTHER, minute=1), said(RIGHT, minute=2), said(RIGHT, by="8", annotation="2")]
    feed(workspace, *(events[i] for i in order))
    assert label(workspace) == (RIGHT, "moderators")


def test_a_late_create_does_not_revive_a_deleted_annotation(catalog: Workspace) -> None:
    """The tombstone wins even when the delete arrives first (fault 9)."""
    outcomes = feed(catalog, AnnotationsDeleted("labelstudio:1", ("1",)), said(RIGHT))
    assert outcomes == ["applied", "tombstoned"]
    assert label(catalog) == (SELLERS, "seller")


def test_a_deleted_task_takes_its_votes_along(catalog: Workspace) -> None:
    """The label falls back to the seller's, and later events of the task do not count."""
    outcomes = feed(catalog, said(RIGHT), TasksDeleted("labelstudio:1", ("t1",)), said(OTHER, minute=5))
    assert outcomes == ["applied", "applied", "tombstoned"]
    assert label(catalog) == (SELLERS, "seller")


def test_a_skip_with_a_prefilled_result_is_no_vote(catalog: Workspace) -> None:
    """A moderator who skips after answering takes the answer back."""
    feed(catalog, said(RIGHT), said(None, minute=1, outcome=Outcome.SKIP))
    assert label(catalog) == (SELLERS, "seller")


def test_a_tie_leaves_the_label_as_it_was(catalog: Workspace) -> None:
    """One against one decides nothing; the third vote does (fault 39)."""
    feed(catalog, said(RIGHT), said(OTHER, by="8", annotation="2"))
    assert label(catalog) == (SELLERS, "seller")
    feed(catalog, said(RIGHT, by="9", annotation="3"))
    assert label(catalog) == (RIGHT, "moderators")


def test_a_rubber_stamp_does_not_outvote_a_person(catalog: Workspace) -> None:
    """Two suggestions accepted unread count for nothing beside one real answer (fault 41)."""
    stamps = [said(OTHER, by=by, annotation=by, origin=Origin.PREDICTION, lead_time_s=0.4) for by in ("8", "9")]
    feed(catalog, *stamps)
    assert label(catalog) == (OTHER, "moderators")
    feed(catalog, said(RIGHT))
    assert label(catalog) == (RIGHT, "moderators")


def test_an_orphan_waits_for_its_listing(catalog: Workspace) -> None:
    """A decision that names no listing counts once its task is known (fault 10)."""
    assert feed(catalog, said(RIGHT, listing_ref=None)) == ["orphan"]
    assert feed(catalog, TaskSeen("labelstudio:1", "t1", "L")) == ["task"]
    assert label(catalog) == (RIGHT, "moderators")


def test_a_renamed_category_keeps_its_votes(catalog: Workspace) -> None:
    """Votes under the old path count under the present one (fault 42)."""
    with catalog.db.write() as session:
        target = session.execute(select(Category.id).where(Category.path == RIGHT)).scalar_one()
        session.add(CategoryAlias(old_path="Home / Yard", category_id=target, at=NOW))
    feed(catalog, said("Home / Yard"), said(RIGHT, by="8", annotation="2"))
    assert label(catalog) == (RIGHT, "moderators")


def test_a_repair_never_touches_a_verified_label_and_goes_with_its_evidence(catalog: Workspace, now: datetime) -> None:
    """Refurbished holds while the run supports it; moderators win over it."""
    with catalog.db.write() as session:
        listing_id = session.execute(select(ListingRow.id)).scalar_one()
        assert labels.refurbish(session, Question.CATEGORY, {listing_id: (OTHER, 0.99)}, run_id=1, now=now) == 1
    assert label(catalog) == (OTHER, "refurbished")
    with catalog.db.write() as session:
        assert labels.refurbish(session, Question.CATEGORY, {}, run_id=2, now=now) == 1
    assert label(catalog) == (SELLERS, "seller")
    feed(catalog, said(RIGHT))
    with catalog.db.write() as session:
        assert labels.refurbish(session, Question.CATEGORY, {listing_id: (OTHER, 0.99)}, run_id=3, now=now) == 0


def test_an_answer_counts_once_its_category_is_known(catalog: Workspace) -> None:
    """Read as an unknown label at first, read again after the taxonomy has grown."""
    unread = said(None, outcome=Outcome.UNKNOWN_LABEL, raw_value=RIGHT, state_hash="a" * 16)
    assert feed(catalog, unread, unread) == ["applied", "duplicate"]
    assert label(catalog) == (SELLERS, "seller")
    assert feed(catalog, said(RIGHT, state_hash="a" * 16)) == ["applied"]
    assert label(catalog) == (RIGHT, "moderators")
