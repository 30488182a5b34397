"""Which state of an annotation counts, whatever the order, the clock or the people: by the data, on both databases."""

from datetime import timedelta

import pytest
from sqlalchemy import insert, select, text

from curation.store import annotations, labels
from curation.store.tables import AnnotationRow, Tombstone
from curation.store.workspace import Workspace
from curation.types import NOBODY, AnnotationsDeleted, Question, TasksDeleted, TaskSeen
from tests.conftest import NOW
from tests.integration.test_labels import OTHER, RIGHT, SELLERS, catalog, feed, label, said
from tests.plans import plans

__all__ = ["catalog"]


@pytest.mark.parametrize("is_star_late", [True, False])
def test_of_two_states_of_one_time_the_one_without_the_star_is_newer(catalog: Workspace, is_star_late: bool) -> None:
    """Label Studio clears a star under the same time, and setting one moves it; arrival decides nothing (faults 9, 17)."""
    starred = said(RIGHT, ground_truth=True, state_hash="a" * 16)
    cleared = said(RIGHT, state_hash="b" * 16)
    feed(catalog, *((cleared, starred) if is_star_late else (starred, cleared)))
    with catalog.db.read() as session:
        current = select(AnnotationRow.ground_truth).where(AnnotationRow.is_current.is_(True))
        assert session.execute(current).scalars().all() == [False]


@pytest.mark.parametrize("hours", [-1, 1])
def test_our_clock_decides_nothing(catalog: Workspace, hours: int) -> None:
    """It jumps an hour between two deliveries that come in the wrong order; the newer state counts (fault 19)."""
    for event, now in ((said(RIGHT, minute=2), NOW), (said(OTHER, minute=1), NOW + timedelta(hours=hours))):
        with catalog.db.write() as session:
            labels.apply_event(session, event, via="webhook", now=now)
    assert label(catalog) == (RIGHT, "moderators")


def test_a_vote_stays_its_persons_when_the_account_is_gone(catalog: Workspace) -> None:
    """A later state that names nobody belongs to whom the earlier one named (fault 18)."""
    feed(catalog, said(OTHER, by="7"), said(RIGHT, by=NOBODY, minute=1))
    with catalog.db.read() as session:
        (vote,) = labels.votes(session, "L", Question.CATEGORY)
    assert (vote.annotator, vote.value) == ("7", RIGHT)


def test_an_annotation_of_nobody_counts(catalog: Workspace) -> None:
    """An account that was deleted before we heard of the answer (fault 18)."""
    feed(catalog, said(RIGHT, by=NOBODY))
    assert label(catalog) == (RIGHT, "moderators")


def test_what_label_studio_has_is_brought_back(catalog: Workspace) -> None:
    """An annotation that moved to another task went with its old one; asked for, it counts again, once (fault 11)."""
    moved = said(RIGHT, task_id="t2", is_there=True)
    feed(catalog, said(RIGHT), TasksDeleted("labelstudio:1", ("t1",)))
    assert label(catalog) == (SELLERS, "seller")
    assert feed(catalog, TaskSeen("labelstudio:1", "t2", "L", is_there=True), moved) == ["task", "applied"]
    assert label(catalog) == (RIGHT, "moderators")
    with catalog.db.read() as session:
        assert session.execute(select(Tombstone.id)).first() is None
        assert session.execute(select(AnnotationRow.task_id)).scalars().all() == ["t2"]


def test_a_webhook_alone_brings_nothing_back(catalog: Workspace) -> None:
    """Only what was asked and answered lifts a tombstone (fault 9)."""
    feed(catalog, said(RIGHT), AnnotationsDeleted("labelstudio:1", ("1",)))
    assert feed(catalog, said(RIGHT), said(OTHER, minute=1)) == ["duplicate", "tombstoned"]
    assert label(catalog) == (SELLERS, "seller")


def test_votes_of_a_listing_are_found_without_those_of_others(catalog: Workspace) -> None:
    """At every decision, over any number of answers; nearly all of them count now, so that alone is no way to find some."""
    with catalog.db.write() as session:
        copies = [annotations._row(said(RIGHT, annotation=str(n)), f"L{n}", "webhook", NOW) for n in range(2000)]
        session.execute(insert(AnnotationRow), [row | {"is_current": True} for row in copies])
        if not catalog.db.is_sqlite:
            session.execute(text("ANALYZE annotation"))
        plan = plans(session, lambda session: annotations.votes(session, "L7", Question.CATEGORY))[0]
    assert "ix_annotation_votes" in plan or "ix_annotation_listing_ref" in plan, plan
