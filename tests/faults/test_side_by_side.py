"""Two transactions side by side, of which neither sees what the other has not committed: the end is as in either order."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.store import labels, listings, reports
from curation.store.reports import Given
from curation.store.tables import AnnotationRow
from curation.store.workspace import Workspace
from curation.types import Event, Question, TasksDeleted, TaskSeen
from tests import builders
from tests.conftest import NOW
from tests.integration.test_labels import RIGHT, SELLERS, said

Work = Callable[[Session], object]

LISTING = builders.record("L", category=SELLERS)
in_either_order = pytest.mark.parametrize("is_swapped", [False, True])


def _applied(event: Event) -> Work:
    return lambda session: labels.apply_event(session, event, via="webhook", now=NOW)


def _ingested(session: Session) -> object:
    return listings.upsert(session, [LISTING], now=NOW)


def _reported(session: Session) -> object:
    return reports.add(session, [Given("L", "counterfeit")], via="api", now=NOW)


def _together(workspace: Workspace, works: tuple[Work, Work], is_swapped: bool) -> None:
    """The first is done and not committed yet while another worker begins the second."""
    first, second = works[::-1] if is_swapped else works
    with ThreadPoolExecutor(1) as pool:
        with workspace.db.write() as session:
            first(session)
            other = pool.submit(workspace.db.retrying, second)
            wait_for([other], 0.5)
        other.result(30)


@in_either_order
def test_an_answer_and_the_deletion_of_its_task(workspace: Workspace, is_swapped: bool) -> None:
    """The answer does not outlive its task (fault 9)."""
    builders.add(workspace, LISTING)
    _together(workspace, (_applied(said(RIGHT)), _applied(TasksDeleted("labelstudio:1", ("t1",)))), is_swapped)
    assert builders.label(workspace, "L") == (SELLERS, "seller")
    with workspace.db.read() as session:
        assert session.execute(select(AnnotationRow.is_current)).scalars().all() == [False]


@in_either_order
def test_an_answer_that_moves_and_the_deletion_of_its_old_task(workspace: Workspace, is_swapped: bool) -> None:
    """Label Studio was asked and has it in another task: it counts there (faults 9, 11)."""
    builders.add(workspace, LISTING)
    workspace.db.retrying(_applied(said(RIGHT)))
    moved = said(RIGHT, task_id="t2", is_there=True)
    _together(workspace, (_applied(moved), _applied(TasksDeleted("labelstudio:1", ("t1",)))), is_swapped)
    assert builders.label(workspace, "L") == (RIGHT, "moderators")


@in_either_order
def test_an_answer_and_the_listing_of_its_task(workspace: Workspace, is_swapped: bool) -> None:
    """An answer that does not name its listing finds it (fault 9)."""
    builders.add(workspace, LISTING)
    _together(workspace, (_applied(said(RIGHT, listing_ref=None)), _applied(TaskSeen("labelstudio:1", "t1", "L"))), is_swapped)
    assert builders.label(workspace, "L") == (RIGHT, "moderators")


@in_either_order
def test_an_answer_and_its_listing(workspace: Workspace, is_swapped: bool) -> None:
    """An answer about a listing that is being ingested becomes its label (fault 10)."""
    _together(workspace, (_applied(said(RIGHT)), _ingested), is_swapped)
    assert builders.label(workspace, "L") == (RIGHT, "moderators")


@in_either_order
@pytest.mark.parametrize("is_there", [False, True])
def test_a_report_and_its_listing(workspace: Workspace, is_there: bool, is_swapped: bool) -> None:
    """A user's report of a listing that is being ingested, or written anew, flags it (fault 10)."""
    if is_there:
        builders.add(workspace, builders.record("L", title="Another title"))
    _together(workspace, (_reported, _ingested), is_swapped)
    assert builders.all_listings(workspace)[0].flags == ("counterfeit",)
    assert builders.label(workspace, "L", Question.VIOLATION) == ("counterfeit", "report")
