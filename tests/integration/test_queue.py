"""The review queue after each kind of answer, in any order, on both databases."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from curation.review import queue, selection
from curation.store import health, labels
from curation.store.workspace import Workspace
from curation.types import HARD_BATCH, AnnotationsDeleted, Origin, Question, Suspect
from tests import review_world
from tests.conftest import NOW
from tests.review_world import PATHS, answer, item, item_in, label, with_shares


@pytest.fixture
def asked(workspace: Workspace) -> Workspace:
    """r000 is with the moderators, wanted once; r001 is wanted twice."""
    review_world.catalog(workspace, 8)
    rows = (review_world.suspect("r000", PATHS[0], PATHS[3], 0.9), review_world.suspect("r001", PATHS[1], PATHS[2], 0.8))
    review_world.rank(workspace, Question.CATEGORY, *rows)
    chosen = selection.select_batch(with_shares(workspace), n=2, rng=np.random.default_rng(0), now=NOW)
    assert chosen.n_listings == 2
    with workspace.db.write() as session:
        item_in(session, "r001").n_wanted = 2
        queue.mark_pushed(session, [task.listing.id for task in queue.waiting(session, 10)], now=NOW)
    return workspace


def refs_waiting(workspace: Workspace) -> list[str]:
    with workspace.db.read() as session:
        return [task.listing.ref for task in queue.waiting(session, 10)]


def test_one_answer_decides_where_one_is_wanted(asked: Workspace) -> None:
    """And a later answer of the same person does not move the time of the decision."""
    assert answer(asked, "r000", PATHS[3]) == "decided"
    first = item(asked, "r000").decided_at
    assert answer(asked, "r000", PATHS[2], after_s=60) == "decided"
    assert item(asked, "r000").decided_at == first


def test_a_second_opinion_is_waited_for(asked: Workspace) -> None:
    """One of two: still open; the second agrees: decided."""
    assert answer(asked, "r001", PATHS[2], "anna") == "pushed"
    assert answer(asked, "r001", PATHS[2], "bela") == "decided"


def test_a_tie_asks_a_third_person_once(asked: Workspace) -> None:
    """The page says who said what; the third answer decides."""
    answer(asked, "r001", PATHS[2], "anna")
    assert answer(asked, "r001", PATHS[1], "bela") == "tie"
    found = item(asked, "r001")
    assert (found.state, found.n_wanted, found.pushed_at) == ("tie", 3, None)
    words = "2 moderators disagree: 1 × Home / Lamps, 1 × Sport / Balls. One more opinion decides."
    assert found.reasons[-1] == {"code": "tie", "score": 1.0, "words": words}
    assert refs_waiting(asked) == ["r001"]
    with asked.db.write() as session:
        queue.mark_pushed(session, [found.listing_id], now=NOW)
    assert refs_waiting(asked) == [] and item(asked, "r001").state == "tie"
    assert answer(asked, "r001", PATHS[1], "carla") == "decided"


def test_a_pushed_tie_is_not_pushed_again_without_a_new_answer(asked: Workspace) -> None:
    """Reconciliation settles as often as it likes."""
    answer(asked, "r001", PATHS[2], "anna")
    answer(asked, "r001", PATHS[1], "bela")
    with asked.db.write() as session:
        listing_id = item_in(session, "r001").listing_id
        queue.mark_pushed(session, [listing_id], now=NOW)
        assert queue.settle(session, listing_id, Question.CATEGORY, now=NOW) == "pushed"
    assert item(asked, "r001").n_wanted == 3


def test_four_who_are_split_evenly_need_a_fifth(asked: Workspace) -> None:
    """A tie can come back."""
    for who, value in zip(("anna", "bela", "carla", "dora"), (PATHS[1], PATHS[2], PATHS[3], PATHS[1]), strict=True):
        answer(asked, "r001", value, who)
    assert answer(asked, "r001", PATHS[2], "emil") == "tie"
    assert item(asked, "r001").n_wanted == 6


def test_a_deleted_answer_opens_the_question_again(asked: Workspace) -> None:
    """And the seller's label is back."""
    answer(asked, "r000", PATHS[3])
    with asked.db.write() as session:
        gone = AnnotationsDeleted("labelstudio:1", ("r000-anna-category",))
        (touched,) = labels.apply_event(session, gone, via="webhook", now=NOW).touched
        assert queue.settle(session, *touched, now=NOW) == "pushed"
    assert item(asked, "r000").decided_at is None and label(asked, "r000").value == PATHS[0]


def test_two_skips_make_a_hard_question_once(asked: Workspace) -> None:
    """Nobody's skip is a vote; the page is shown again and says so, and a third skip changes nothing."""
    answer(asked, "r000", None, "anna")
    assert "skipped" not in [reason["code"] for reason in item(asked, "r000").reasons]
    assert answer(asked, "r000", None, "bela") == "tie"  # ask for a push
    found = item(asked, "r000")
    assert [reason["code"] for reason in found.reasons] == ["label_issue", "skipped"]
    assert (found.state, found.batch, found.pushed_at) == ("waiting", HARD_BATCH, None)
    with asked.db.write() as session:
        assert health.counts(session).n_hard == 1
        queue.mark_pushed(session, [found.listing_id], now=NOW)
    assert answer(asked, "r000", None, "carla") == "pushed"
    assert answer(asked, "r000", PATHS[1], "dora") == "decided"
    with asked.db.read() as session:
        assert health.counts(session).n_hard == 0


def test_what_a_new_run_does_not_doubt_is_withdrawn(asked: Workspace) -> None:
    """Unless somebody answered, it was asked for another reason too, or the run has not seen it."""
    answer(asked, "r001", PATHS[2], "anna")
    certain = Suspect("r000", Question.CATEGORY, PATHS[0], PATHS[0], 1.0, False, 0.9)
    review_world.rank(asked, Question.CATEGORY, certain, dataclasses.replace(certain, listing_ref="r001"))
    with asked.db.write() as session:
        found = queue.no_longer_doubted(session)
        assert found == [item_in(session, "r000").listing_id]
        item_in(session, "r000").reasons = [*item_in(session, "r000").reasons, {"code": "audit", "score": 0.1, "words": "Drawn."}]
        session.flush()
        assert queue.no_longer_doubted(session) == []


@pytest.mark.parametrize(("lead_time_s", "state"), [(0.8, "tie"), (6.0, "decided")])
def test_a_suggestion_accepted_unread_decides_nothing(asked: Workspace, lead_time_s: float, state: str) -> None:
    """Nobody reads a listing in 0.8 s: somebody else is asked, once; a considered yes counts."""
    assert answer(asked, "r000", PATHS[3], origin=Origin.PREDICTION, lead_time_s=lead_time_s) == state
    if state == "tie":
        found = item(asked, "r000")
        assert (found.state, found.n_wanted, found.reasons[-1]["code"]) == ("waiting", 2, "stamped")
        assert refs_waiting(asked) == ["r000"]
        assert answer(asked, "r000", PATHS[3], "bela") == "decided"


def test_an_answer_nobody_asked_for_changes_no_queue(asked: Workspace) -> None:
    """The label counts all the same."""
    assert answer(asked, "r005", PATHS[0]) == "none"
    assert label(asked, "r005").value == PATHS[0]


def test_a_withdrawn_question_stays_withdrawn(asked: Workspace) -> None:
    """Both questions of the listing."""
    with asked.db.write() as session:
        assert queue.withdraw(session, [item_in(session, "r000").listing_id]) == 2
    assert answer(asked, "r000", PATHS[3]) == "none" and item(asked, "r000").state == "withdrawn"


def test_the_other_question_is_settled_on_its_own(asked: Workspace) -> None:
    """A category answer says nothing of violations."""
    answer(asked, "r000", PATHS[3])
    assert item(asked, "r000", Question.VIOLATION).state == "pushed"
    assert answer(asked, "r000", "none", question=Question.VIOLATION) == "decided"


def test_waiting_tasks_come_by_priority_with_all_that_the_page_needs(workspace: Workspace) -> None:
    """Listing, suggestion, reasons of both questions once."""
    review_world.catalog(workspace, 6)
    rows = [review_world.suspect(f"r00{i}", PATHS[i], PATHS[3 - i], 0.6 + i / 10) for i in range(4)]
    review_world.rank(workspace, Question.CATEGORY, *rows)
    selection.select_batch(with_shares(workspace), n=4, rng=np.random.default_rng(0), now=NOW)
    with workspace.db.read() as session:
        tasks = queue.waiting(session, 3)
    assert [task.listing.ref for task in tasks] == ["r003", "r002", "r001"]
    assert tasks[0].suggestion is not None and tasks[0].suggestion.category == PATHS[0]
    assert len(tasks[0].reasons) == 1 and tasks[0].priority == pytest.approx(0.9) and not tasks[0].is_blind


def test_an_opinion_asked_for_while_the_task_was_sent_is_not_forgotten(asked: Workspace) -> None:
    """The push had sent for two people; a tie that came meanwhile wants three, and still waits."""
    answer(asked, "r001", PATHS[2], "anna")
    answer(asked, "r001", PATHS[1], "bela")
    with asked.db.write() as session:
        listing_id = item_in(session, "r001").listing_id
        queue.mark_pushed(session, [listing_id], now=NOW, n_sent={listing_id: 2})
    assert refs_waiting(asked) == ["r001"]


def test_one_person_who_submits_twice_is_one_opinion(asked: Workspace) -> None:
    """A double click or two tabs make two annotations: the question that wants two people stays open (fault 43)."""
    assert answer(asked, "r001", PATHS[2], "anna") == "pushed"
    assert answer(asked, "r001", PATHS[2], "anna", after_s=2, annotation="second-tab") == "pushed"
    with asked.db.read() as session:
        assert len(labels.votes(session, "r001", Question.CATEGORY)) == 2
    assert label(asked, "r001").value == PATHS[2]
    assert answer(asked, "r001", PATHS[2], "bela") == "decided"


@pytest.mark.parametrize("second", [PATHS[1], PATHS[2]])
def test_two_people_who_answer_at_the_same_moment_are_both_heard(asked: Workspace, second: str) -> None:
    """Two workers apply them at once: together they decide, or disagree and a third is asked; neither is lost (fault 43)."""
    meet = threading.Barrier(2)

    def say(who: str, value: str) -> str:
        meet.wait(10)
        return answer(asked, "r001", value, who)

    with ThreadPoolExecutor(2) as pool:
        states = sorted(pool.map(say, ("anna", "bela"), (PATHS[2], second)))
    assert states == sorted(["pushed", "decided" if second == PATHS[2] else "tie"])
    with asked.db.read() as session:
        assert {vote.annotator for vote in labels.votes(session, "r001", Question.CATEGORY)} == {"anna", "bela"}
