"""The consensus job: who decides a tie, what it leaves alone, whom it names."""

import numpy as np
import pytest
from sqlalchemy import update

from curation.errors import IntegrityError, ProbabilityError
from curation.review import consensus, probabilities, queue, selection
from curation.store import jobs
from curation.store.jobrun import JobRun
from curation.store.tables import LabelHistory, ReviewItem
from curation.store.workspace import Workspace, get_state
from curation.types import LabelSource, Origin, Question
from tests import review_world
from tests.conftest import NOW
from tests.review_world import PATHS, answer, answer_all, item, label, suspect, with_shares

REFS = [f"r{i:03d}" for i in range(60)]


@pytest.fixture
def answered(workspace: Workspace) -> Workspace:
    """60 listings asked of two people; on 40 of them two have answered the seller's category."""
    listings = review_world.catalog(workspace, 60)
    review_world.rank(workspace, Question.CATEGORY, *(suspect(ref, PATHS[i % 4], PATHS[0], 0.9) for i, ref in enumerate(REFS)))
    selection.select_batch(with_shares(workspace), n=60, rng=np.random.default_rng(0), now=NOW)
    with workspace.db.write() as session:
        session.execute(update(ReviewItem).values(n_wanted=2))
        queue.mark_pushed(session, [listing.id for listing in listings], now=NOW)
    answer_all(workspace, [(ref, PATHS[i % 4], who) for i, ref in enumerate(REFS[:40]) for who in ("anna", "bela")])
    review_world.finish_run(workspace, review_world.confident(listings, {"r041": PATHS[3]}))
    return workspace


def considered(workspace: Workspace) -> bool:
    with workspace.db.write() as session:
        return consensus.consider(session, now=NOW)


def run_job(workspace: Workspace) -> None:
    """Ask for a run, claim it, handle it."""
    with workspace.db.write() as session:
        jobs.enqueue(session, "consensus", {}, key="consensus", now=NOW)
    with workspace.db.write() as session:
        later = NOW.replace(year=NOW.year + 1)
        job = jobs.claim(session, worker="test", now=later, lease_s=3e9, kinds=["consensus"])
    assert job is not None
    consensus.handle(JobRun(workspace, job))


def history(workspace: Workspace) -> int:
    with workspace.db.read() as session:
        return session.query(LabelHistory).count()


def test_a_run_is_asked_for_once_there_is_something_to_decide(answered: Workspace) -> None:
    """Not twice while one is waiting, nor before anything new was said."""
    assert considered(answered)
    assert not considered(answered)
    run_job(answered)
    assert not considered(answered)
    answer(answered, "r050", PATHS[0])
    assert considered(answered)


def test_twenty_nine_listings_are_not_enough(workspace: Workspace) -> None:
    """One more is (fault 39)."""
    review_world.catalog(workspace, 30)
    answer_all(workspace, [(ref, PATHS[0], who) for ref in REFS[:29] for who in ("anna", "bela")])
    answer(workspace, "r029", PATHS[0], "anna")
    assert not considered(workspace)
    answer(workspace, "r029", PATHS[1], "bela")
    assert considered(workspace)


def test_a_tie_goes_to_the_side_the_model_is_sure_of(answered: Workspace) -> None:
    """The question is decided, the ledger says by whom and how (fault 39)."""
    answer(answered, "r041", PATHS[1], "anna")
    assert answer(answered, "r041", PATHS[3], "bela") == "tie"
    run_job(answered)
    found = label(answered, "r041")
    assert (found.value, found.source, found.evidence["rule"]) == (PATHS[3], LabelSource.MODERATORS.value, "crowd")
    assert found.evidence["run"] == 1 and found.confidence is not None and found.confidence >= consensus.MIN_TIE_QUALITY
    assert item(answered, "r041").state == "decided"


def test_a_tie_the_model_knows_nothing_of_stays_with_the_moderators(answered: Workspace) -> None:
    """Neither side is the model's: a third person is asked, as before."""
    answer(answered, "r042", PATHS[0], "anna")
    answer(answered, "r042", PATHS[1], "bela")
    run_job(answered)
    assert item(answered, "r042").state == "tie" and label(answered, "r042").source == LabelSource.SELLER.value


def test_a_decided_tie_is_open_again_when_somebody_says_more(answered: Workspace) -> None:
    """The crowd's word holds for the votes it was given."""
    answer(answered, "r041", PATHS[1], "anna")
    answer(answered, "r041", PATHS[3], "bela")
    run_job(answered)
    assert answer(answered, "r041", PATHS[1], "carla") == "decided"
    assert label(answered, "r041").value == PATHS[1] and label(answered, "r041").evidence["rule"] == "majority"


def test_one_person_and_the_model_do_not_outvote_two_who_agree(answered: Workspace) -> None:
    """A label confirmed by two stays (fault 40)."""
    answer(answered, "r041", PATHS[1], "anna")
    answer(answered, "r041", PATHS[1], "bela")
    answer(answered, "r041", PATHS[3], "carla", after_s=5)
    run_job(answered)
    assert label(answered, "r041").value == PATHS[1]


def test_running_again_changes_nothing(answered: Workspace) -> None:
    """No history of confidences that moved a little."""
    run_job(answered)
    before = history(answered)
    run_job(answered)
    assert history(answered) == before


def test_unread_suggestions_count_little_and_name_nothing(answered: Workspace) -> None:
    """Three who stamp another category do not outweigh two who read; who stamps everything is named (fault 41)."""
    stamps = [(ref, PATHS[(i + 1) % 4], who) for i, ref in enumerate(REFS[:40]) for who in ("stamp 1", "stamp 2", "stamp 3")]
    answer_all(answered, stamps, origin=Origin.PREDICTION, lead_time_s=0.5)
    run_job(answered)
    with answered.db.read() as session:
        state = get_state(session, consensus.ANNOTATORS) or {}
    assert all(label(answered, ref).value == PATHS[i % 4] for i, ref in enumerate(REFS[:40]))
    assert state["careless"] == ["stamp 1", "stamp 2", "stamp 3"]


def test_an_unread_suggestion_makes_a_label_a_little_less_sure(answered: Workspace) -> None:
    """Somebody who disagrees after reading makes it much less so."""
    answer(answered, "r000", PATHS[2], "carla", origin=Origin.PREDICTION, lead_time_s=0.5)
    answer(answered, "r004", PATHS[2], "carla")
    run_job(answered)
    stamped, read, alone = (label(answered, ref).confidence or 0.0 for ref in ("r000", "r004", "r008"))
    assert read < stamped <= alone and stamped - read > 3 * (alone - stamped)


def test_listings_that_only_one_person_read_are_not_enough(workspace: Workspace) -> None:
    """A stamp beside an answer is nobody to compare with."""
    listings = review_world.catalog(workspace, 40)
    answer_all(workspace, [(ref, PATHS[0], "anna") for ref in REFS[:40]])
    answer_all(workspace, [(ref, PATHS[1], "bela") for ref in REFS[:40]], origin=Origin.PREDICTION, lead_time_s=0.5)
    review_world.finish_run(workspace, review_world.confident(listings))
    run_job(workspace)
    with workspace.db.read() as session:
        assert get_state(session, consensus.ANNOTATORS) is None


def test_who_flips_everything_is_named_and_what_only_they_decided_is_asked_again(answered: Workspace) -> None:
    """Labels that two others confirmed stand; the flipper's own are with the moderators again (fault 40)."""
    answer_all(answered, [(ref, PATHS[(i + 1) % 4], "carla") for i, ref in enumerate(REFS[:40])], after_s=7)
    with answered.db.write() as session:
        review_world.item_in(session, "r050").n_wanted = 1
    assert answer(answered, "r050", PATHS[0], "carla") == "decided"
    run_job(answered)
    assert all(label(answered, ref).value == PATHS[i % 4] for i, ref in enumerate(REFS[:40]))
    with answered.db.read() as session:
        state = get_state(session, consensus.ANNOTATORS) or {}
        pushes = [job for job in jobs.newest(session) if job.kind == "push"]
    assert state["careless"] == ["carla"] and state["quality"]["carla"] < 0.2 < 0.7 < state["quality"]["anna"]
    again = item(answered, "r050")
    assert (again.state, again.n_wanted, again.reasons[-1]["code"]) == ("waiting", 2, "second_opinion")
    assert len(pushes) == 1


def test_without_a_finished_run_nothing_is_decided(workspace: Workspace) -> None:
    """The job ends well and is not asked for again in vain."""
    review_world.catalog(workspace, 40)
    answer_all(workspace, [(ref, PATHS[a], who) for ref in REFS[:40] for a, who in enumerate(("anna", "bela"))])
    run_job(workspace)
    assert label(workspace, "r000").source == LabelSource.SELLER.value and not considered(workspace)


def test_probabilities_come_back_as_they_were_stored(sqlite_workspace: Workspace) -> None:
    """With their classes, refs and folds; the newest run that has some counts."""
    listings = review_world.catalog(sqlite_workspace, 9)
    assert probabilities.newest(sqlite_workspace) is None
    oos = review_world.confident(listings)
    run_id = review_world.finish_run(sqlite_workspace, oos)
    found = probabilities.newest(sqlite_workspace)
    assert found is not None and found[0] == run_id
    assert (found[1].classes, found[1].refs) == (oos.classes, oos.refs)
    assert (found[1].folds == oos.folds).all() and found[1].pred_probs == pytest.approx(oos.pred_probs, abs=1e-6)


def test_files_that_are_no_probabilities_are_refused(sqlite_workspace: Workspace) -> None:
    """Other bytes, a changed file, in-sample rows (faults 34, 37, 48)."""
    other = sqlite_workspace.files.put(b"not a table", ".parquet")
    with pytest.raises(ProbabilityError, match="holds no out-of-sample probabilities"):
        probabilities.load(sqlite_workspace.files, other)
    oos = review_world.confident(review_world.catalog(sqlite_workspace, 4))
    good = probabilities.store(sqlite_workspace.files, oos)
    path = sqlite_workspace.files.path(good, ".parquet")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError):
        probabilities.load(sqlite_workspace.files, good)
    oos.folds[0] = -1
    with pytest.raises(ProbabilityError, match="in-sample"):
        probabilities.store(sqlite_workspace.files, oos)
