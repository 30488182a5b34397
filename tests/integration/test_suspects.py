"""From predictions to a stored ranking with reasons in words, and the suggestions taken from it."""

from dataclasses import replace

import numpy as np
import pytest
from cleanlab.filter import find_label_issues

from curation.errors import ProbabilityError
from curation.review import suggestions, suspects
from curation.store.workspace import Workspace
from curation.types import LabelSource, Listing, Question, Suspect
from tests import builders, review_world
from tests.review_world import PATHS

VIOLATIONS = ("counterfeit", "unsafe_product")


def ranking(listings: list[Listing], **changes: object) -> dict[Question, list[Suspect]]:
    """A ranking in which r000 looks like something else and r001 is suspicious."""
    given: dict[str, object] = {
        "labels_by_ref": review_world.held(listings),
        "category_oos": review_world.confident(listings, {"r000": PATHS[3]}),
        "violation_probs": np.array([[0.81, 0.1] if listing.ref == "r001" else [0.02, 0.01] for listing in listings]),
        "violations": VIOLATIONS,
    }
    return suspects.from_predictions(listings, **given | changes)  # type: ignore[arg-type]


def test_a_wrong_category_comes_first_with_a_reason_a_moderator_reads(sqlite_workspace: Workspace) -> None:
    """The seller's choice, what it looks like, how sure the model is."""
    found = ranking(review_world.catalog(sqlite_workspace))[Question.CATEGORY]
    first = found[0]
    assert (first.listing_ref, first.given, first.suggested, first.is_issue) == ("r000", PATHS[0], PATHS[3], True)
    assert first.suggested_score == pytest.approx(0.91) and first.score < 0.03 / 0.94
    assert [reason.words for reason in first.reasons] == [
        "The seller chose Home / Garden; the text reads like Sport / Bikes (91%); wrong with over 99%."
    ]
    assert len(found) == 40 and not any(suspect.is_issue or suspect.reasons for suspect in found[1:])


def test_the_order_of_the_classes_is_no_matter(sqlite_workspace: Workspace) -> None:
    """Classes go by their paths: permuted columns are the same probabilities (fault 35)."""
    listings = review_world.catalog(sqlite_workspace)
    oos = review_world.confident(listings, {"r000": PATHS[3]})
    order = [2, 0, 3, 1]
    permuted = replace(oos, pred_probs=oos.pred_probs[:, order], classes=tuple(oos.classes[at] for at in order))
    assert ranking(listings, category_oos=permuted)[Question.CATEGORY] == ranking(listings)[Question.CATEGORY]


def test_cleanlab_flags_if_it_is_asked_to(sqlite_workspace: Workspace) -> None:
    """The reference decides what is flagged; the ranking stays ours."""
    listings = review_world.catalog(sqlite_workspace)
    oos = review_world.confident(listings, {"r000": PATHS[3]})
    found = ranking(listings, category_oos=oos, method="cleanlab")[Question.CATEGORY]
    theirs = find_label_issues(np.array([oos.classes.index(str(one.category)) for one in listings]), oos.pred_probs)
    assert {one.listing_ref for one in found if one.is_issue} == {listings[at].ref for at in np.flatnonzero(theirs)} == {"r000"}


def test_a_confusion_of_categories_is_a_reason_of_its_own(sqlite_workspace: Workspace) -> None:
    """Half of one category reads like another; the words say how many, beside how probable it is of this listing."""
    listings = review_world.catalog(sqlite_workspace, 160)
    wrong = {f"r{i:03d}": PATHS[3] for i in range(0, 64, 4)}
    found = ranking(listings, category_oos=review_world.confident(listings, wrong, p=0.7))[Question.CATEGORY]
    doubted = next(suspect for suspect in found if suspect.listing_ref == "r000")
    first, second = doubted.reasons
    assert first.code == "label_issue" and "wrong with " in first.words
    assert second.code == "confusion" and second.score == pytest.approx(0.4, abs=0.05)
    assert second.words == f"About 1 in {round(1 / second.score)} of the listings in {PATHS[0]} belong in {PATHS[3]}."


def test_the_words_know_photos_repairs_and_missing_categories(sqlite_workspace: Workspace) -> None:
    """Nothing is said that is not so."""
    listings = review_world.catalog(sqlite_workspace, photos=(builders.photo(sqlite_workspace),))
    held = review_world.held(listings) | {"r001": (PATHS[0], LabelSource.REFURBISHED)}
    del held["r002"]
    found = {suspect.listing_ref: suspect for suspect in ranking(listings, labels_by_ref=held)[Question.CATEGORY]}
    assert "title and photos look like Sport / Bikes" in found["r000"].reasons[0].words
    assert found["r001"].reasons[0].words.startswith("An earlier repair says Home / Garden;")
    assert found["r002"].reasons[0].code == "unlabelled" and found["r002"].given is None


def test_what_moderators_decided_is_ranked_last_and_beyond_doubt(sqlite_workspace: Workspace) -> None:
    """However sure the model is."""
    listings = review_world.catalog(sqlite_workspace)
    held = review_world.held(listings) | {"r000": (PATHS[0], LabelSource.MODERATORS)}
    last = ranking(listings, labels_by_ref=held)[Question.CATEGORY][-1]
    assert (last.listing_ref, last.score, last.is_issue, last.reasons) == ("r000", 1.0, False, ())


def test_a_seller_whom_moderators_overruled_is_doubted_sooner(sqlite_workspace: Workspace) -> None:
    """The same doubt weighs more where the seller was wrong before."""
    builders.add(sqlite_workspace, *(builders.record(f"s{i}", category=PATHS[0], seller_ref="careless") for i in range(11)))
    listings = review_world.catalog(sqlite_workspace)
    oos = review_world.confident(listings, {"s0": PATHS[1], "r000": PATHS[1]}, p=0.6)
    held = review_world.held(listings)
    overruled = {f"s{i}": (PATHS[2], LabelSource.MODERATORS) for i in range(1, 11)}
    found = {s.listing_ref: s for s in ranking(listings, labels_by_ref=held | overruled, category_oos=oos)[Question.CATEGORY]}
    before = {s.listing_ref: s for s in ranking(listings, labels_by_ref=held, category_oos=oos)[Question.CATEGORY]}
    assert before["s0"].score == pytest.approx(before["r000"].score, abs=0.01)
    assert found["s0"].score < 0.7 * found["r000"].score


def test_a_category_the_model_does_not_know_counts_as_unlabelled(sqlite_workspace: Workspace) -> None:
    """It was created after the training; its listing is ranked, its name kept."""
    listings = review_world.catalog(sqlite_workspace)
    held = review_world.held(listings) | {"r000": ("Toys / Kites", LabelSource.SELLER)}
    found = next(s for s in ranking(listings, labels_by_ref=held)[Question.CATEGORY] if s.listing_ref == "r000")
    assert found.given == "Toys / Kites" and not found.is_issue and "Toys / Kites" in found.reasons[0].words


def test_reports_and_what_the_model_sees_are_reasons(sqlite_workspace: Workspace) -> None:
    """A report the model does not see is doubted too."""
    builders.add(sqlite_workspace, builders.record("r900", category=PATHS[0], flags=("unsafe_product",)))
    listings = review_world.catalog(sqlite_workspace)
    found = {s.listing_ref: s for s in ranking(listings)[Question.VIOLATION]}
    assert found["r001"].suggested == "counterfeit" and found["r001"].is_issue
    assert [r.words for r in found["r001"].reasons] == ["The model sees counterfeit (81%)."]
    assert (found["r900"].given, found["r900"].suggested, found["r900"].is_issue) == ("unsafe_product", "none", True)
    assert [r.words for r in found["r900"].reasons] == ["Reported by users as unsafe product."]
    assert not found["r002"].is_issue and found["r002"].suggested_score == pytest.approx(0.98)


def test_a_violation_moderators_decided_is_no_suspect(sqlite_workspace: Workspace) -> None:
    """Neither cleared nor confirmed."""
    listings = review_world.catalog(sqlite_workspace)
    decided = {"r001": ("none", LabelSource.MODERATORS)}
    last = ranking(listings, violation_labels_by_ref=decided)[Question.VIOLATION][-1]
    assert (last.listing_ref, last.score, last.is_issue) == ("r001", 1.0, False)


def test_rows_in_another_order_than_the_listings_are_refused(sqlite_workspace: Workspace) -> None:
    """One shifted row would suspect everybody of the neighbour's category."""
    listings = review_world.catalog(sqlite_workspace, 8)
    with pytest.raises(ProbabilityError, match="do not match"):
        ranking(listings, category_oos=review_world.confident(listings[::-1]))
    with pytest.raises(ProbabilityError, match="do not match"):
        ranking(listings, violation_probs=np.zeros((8, 3)))


def test_a_ranking_is_stored_whole_and_replaces_the_one_before(workspace: Workspace) -> None:
    """Also in pages; a listing that is gone by then is left out."""
    listings = review_world.catalog(workspace)
    review_world.rank(workspace, Question.CATEGORY, review_world.suspect("r005", PATHS[1], PATHS[2], 0.7))
    stored = ranking(listings)
    with workspace.db.write() as session:
        gone = review_world.suspect("gone", PATHS[0], PATHS[1], 0.9)
        assert suspects.replace(session, Question.CATEGORY, [gone, *stored[Question.CATEGORY]], run_id=None) == 40
        suspects.replace(session, Question.VIOLATION, stored[Question.VIOLATION], run_id=None)
    with workspace.db.read() as session:
        first = suspects.ranked(session, Question.CATEGORY, limit=15)
        rest = suspects.ranked(session, Question.CATEGORY, limit=100, after_rank=first[-1].rank)
        assert [row.suspect for row in (*first, *rest)] == stored[Question.CATEGORY]
        assert suspects.ranked(session, Question.VIOLATION)[0].suspect.listing_ref == "r001"


def test_suggestions_are_out_of_sample_answers_to_both_questions(workspace: Workspace) -> None:
    """They name the run they come from; a listing without a prediction has none."""
    listings = review_world.catalog(workspace)
    run_id = review_world.finish_run(workspace, review_world.confident(listings))
    for question, found in ranking(listings[:39], category_oos=review_world.confident(listings[:39], {"r000": PATHS[3]})).items():
        review_world.rank(workspace, question, *found, run_id=run_id)
    with workspace.db.read() as session:
        made = suggestions.for_listings(session, [listing.id for listing in listings])
    first = made[listings[0].id]
    assert (first.category, first.violation, first.model_version) == (PATHS[3], "none", f"run-{run_id:04d}")
    assert (first.category_score, first.violation_score) == (pytest.approx(0.91), pytest.approx(0.98))
    assert made[listings[1].id].violation == "counterfeit" and listings[39].id not in made
