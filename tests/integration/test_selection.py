"""What a review batch holds, and what it never holds."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from curation.quality.repair import n_needed
from curation.release import noise
from curation.release.splits import split_of
from curation.review import queue, selection
from curation.review.repair_evidence import Opinion
from curation.review.selection import Selection
from curation.store.workspace import Workspace
from curation.types import BLIND_BATCH, Question, Split
from tests import builders, review_world
from tests.conftest import NOW
from tests.review_world import PATHS, answer, flagged, item, items, suspect, with_shares


def select(workspace: Workspace, n: int, seed: int = 0) -> Selection:
    return selection.select_batch(workspace, n=n, rng=np.random.default_rng(seed), now=NOW)


def chosen(workspace: Workspace) -> dict[str, list[str]]:
    """Ref → reason codes, in the order of choice."""
    refs = {listing.id: listing.ref for listing in builders.all_listings(workspace)}
    return {refs[row.listing_id]: [r["code"] for r in row.reasons] for row in items(workspace) if row.question == "category"}


def doubt_all(workspace: Workspace, n: int = 100, n_issues: int = 60) -> None:
    """`n` listings, ranked in order, the first `n_issues` of them flagged, of ever other confusions."""
    review_world.catalog(workspace, n)
    ranking = [
        suspect(f"r{i:03d}", PATHS[i % 4], PATHS[(i + 1 + i // 4 % 3) % 4], 0.99 - i / 200, is_issue=i < n_issues)
        for i in range(n)
    ]
    review_world.rank(workspace, Question.CATEGORY, *ranking)


def test_the_most_doubtful_labels_fill_the_batch(workspace: Workspace) -> None:
    """Without other shares, the front of the ranking; both questions of each."""
    doubt_all(workspace)
    found = select(with_shares(workspace), 30)
    assert found == Selection(30, {"label_issue": 30}, 0, 0)
    assert sorted(chosen(workspace)) == [f"r{i:03d}" for i in range(30)]
    assert Counter(row.question for row in items(workspace)) == {"category": 30, "violation": 30}


def test_a_batch_mixes_its_shares(workspace: Workspace) -> None:
    """Audit, reported and seen violations, doubts; some blind. Without a run nobody's answer can be doubted."""
    doubt_all(workspace)
    builders.add(workspace, *(builders.record(f"v{i}", category=PATHS[0], flags=("counterfeit",)) for i in range(5)))
    review_world.rank(workspace, Question.VIOLATION, *(flagged(f"r{90 + i:03d}", "unsafe_product", 0.9) for i in range(5)))
    shares = {"audit_share": 0.1, "violation_share": 0.2, "blind_share": 0.05, "second_opinion_share": 0.1}
    found = select(with_shares(workspace, **shares), 40)
    assert (found.n_listings, found.n_blind, found.n_second_opinions) == (40, 2, 0)
    assert found.by_reason["audit"] == 4 and found.by_reason["label_issue"] == 28
    assert found.by_reason["reported"] + found.by_reason["model_violation"] == 8
    assert found.by_reason["model_violation"] >= 3
    rows = items(workspace)
    assert sum(row.batch == BLIND_BATCH for row in rows) == 4 and {row.n_wanted for row in rows} == {1}


def test_the_same_state_and_seed_give_the_same_batch(sqlite_workspace: Workspace) -> None:
    """And another seed another audit sample."""
    doubt_all(sqlite_workspace)
    first = _dry(sqlite_workspace, 0)
    assert first == _dry(sqlite_workspace, 0)
    assert first != _dry(sqlite_workspace, 1)


def _dry(workspace: Workspace, seed: int) -> dict[str, list[str]]:
    """What would be chosen: the choice is taken back."""
    select(with_shares(workspace, audit_share=0.5, blind_share=0.2), 20, seed)
    found = chosen(workspace)
    with workspace.db.write() as session:
        session.execute(queue.ReviewItem.__table__.delete())
    return found


def test_nothing_open_or_decided_is_chosen_again(workspace: Workspace) -> None:
    """Three batches share no listing, and what moderators decided unasked stays away."""
    doubt_all(workspace, 40, 40)
    answer(workspace, "r000", PATHS[1])
    seen: set[str] = set()
    for n_before in (0, 15, 30):
        select(with_shares(workspace), 15)
        fresh = set(chosen(workspace)) - seen
        assert len(fresh) == min(15, 39 - n_before) and "r000" not in fresh
        with workspace.db.write() as session:
            queue.mark_pushed(session, [task.listing.id for task in queue.waiting(session, 100)], now=NOW)
        for ref in sorted(fresh)[:5]:
            assert answer(workspace, ref, PATHS[0]) == "decided"
        seen |= fresh
    assert select(with_shares(workspace), 15).n_listings == 0


def test_one_kind_of_confusion_does_not_fill_the_batch_while_others_are_there(sqlite_workspace: Workspace) -> None:
    """The value of asking for one more of the same is halved after every three: 20 surest errors get 9 of 25 places."""
    review_world.catalog(sqlite_workspace, 60)
    same = [suspect(f"r{i:03d}", PATHS[0], PATHS[1], 0.95) for i in range(20)]
    other = [suspect(f"r{i:03d}", PATHS[i % 4], PATHS[(i + 2) % 4], 0.8) for i in range(20, 35)]
    weak = [suspect(f"r{i:03d}", PATHS[i % 4], PATHS[(i + 1) % 4], 0.5, is_issue=False) for i in range(35, 60)]
    review_world.rank(sqlite_workspace, Question.CATEGORY, *same, *other, *weak)
    select(with_shares(sqlite_workspace), 25)
    refs = list(chosen(sqlite_workspace))
    assert refs[:3] == ["r000", "r001", "r002"] and all("r020" <= ref < "r035" for ref in refs[3:12])
    assert sum(ref < "r020" for ref in refs) == 9


def second_opinions(workspace: Workspace) -> list[str]:
    """Refs that are asked a second time."""
    return [ref for ref, codes in chosen(workspace).items() if "second_opinion" in codes]


def decided_by_one(workspace: Workspace, odd: str = "r007") -> None:
    """60 listings, the model agrees with the sellers; ten were asked about and one answer is against both."""
    listings = review_world.catalog(workspace, 60)
    review_world.finish_run(workspace, review_world.confident(listings, p=0.97))
    ranking = [suspect(f"r{i:03d}", PATHS[i % 4], PATHS[(i + 1) % 4], 0.2 - i / 1000, is_issue=False) for i in range(60)]
    review_world.rank(workspace, Question.CATEGORY, *ranking)
    select(with_shares(workspace), 10)
    for ref in chosen(workspace):
        i = int(ref[1:])
        assert answer(workspace, ref, PATHS[(i + 2) % 4 if ref == odd else i % 4]) == "decided"
        assert answer(workspace, ref, "none", question=Question.VIOLATION) == "decided"


def test_a_second_opinion_is_asked_where_it_is_worth_more_than_a_new_question(workspace: Workspace) -> None:
    """An answer against seller and model, while what is left to ask about is hardly doubted; those that agree are left alone."""
    decided_by_one(workspace)
    found = select(with_shares(workspace, second_opinion_share=0.5), 10)
    assert (found.n_listings, found.n_second_opinions, found.by_reason["second_opinion"]) == (10, 1, 1)
    assert second_opinions(workspace) == ["r007"]
    again = item(workspace, "r007")
    assert (again.state, again.n_wanted, again.pushed_at) == ("waiting", 2, None)
    assert answer(workspace, "r007", PATHS[3], "bela") == "tie"


def test_second_opinions_keep_to_their_share(sqlite_workspace: Workspace) -> None:
    """None where the share is nothing."""
    decided_by_one(sqlite_workspace)
    assert select(with_shares(sqlite_workspace), 10).n_second_opinions == 0
    assert second_opinions(sqlite_workspace) == []


def test_a_new_question_that_is_worth_more_keeps_its_place(sqlite_workspace: Workspace) -> None:
    """The model is sure that forty sellers are wrong: nobody's answer is doubted as much."""
    decided_by_one(sqlite_workspace)
    listings = builders.all_listings(sqlite_workspace)
    wrong = {listing.ref: PATHS[(i + 1) % 4] for i, listing in enumerate(listings) if i >= 15}
    review_world.finish_run(sqlite_workspace, review_world.confident(listings, wrong, p=0.99))
    sure = [suspect(ref, PATHS[int(ref[1:]) % 4], said, 0.99) for ref, said in wrong.items()]
    review_world.rank(sqlite_workspace, Question.CATEGORY, *sure)
    assert select(with_shares(sqlite_workspace, second_opinion_share=0.5), 10).n_second_opinions == 0


def test_what_people_said_of_a_near_duplicate_moves_its_copies(sqlite_workspace: Workspace) -> None:
    """A copy of what was confirmed falls behind, a copy of what was put right comes first."""
    for group in ("kept", "moved"):
        pair = (builders.record(f"{group}{i}", category=PATHS[0], group_key=group) for i in range(2))
        builders.add(sqlite_workspace, *pair)
    review_world.catalog(sqlite_workspace, 4)
    answer(sqlite_workspace, "kept0", PATHS[0])
    answer(sqlite_workspace, "moved0", PATHS[1])
    copies = [suspect(f"{group}1", PATHS[0], PATHS[1], 0.6) for group in ("kept", "moved")]
    review_world.rank(sqlite_workspace, Question.CATEGORY, suspect("r000", PATHS[0], PATHS[2], 0.7), *copies)
    select(with_shares(sqlite_workspace), 3)
    assert list(chosen(sqlite_workspace)) == ["moved1", "r000", "kept1"]


def test_one_of_a_near_duplicate_group_is_asked_about(sqlite_workspace: Workspace) -> None:
    """Also while another of the group is with the moderators from an earlier batch."""
    builders.add(sqlite_workspace, *(builders.record(f"d{i}", category=PATHS[0], group_key="same") for i in range(4)))
    review_world.catalog(sqlite_workspace, 4)
    twins = [suspect(f"d{i}", PATHS[0], PATHS[1], 0.99) for i in range(4)]
    review_world.rank(sqlite_workspace, Question.CATEGORY, *twins, suspect("r000", PATHS[0], PATHS[2], 0.6))
    assert select(with_shares(sqlite_workspace), 2).n_listings == 2
    assert list(chosen(sqlite_workspace)) == ["d0", "r000"]
    assert select(with_shares(sqlite_workspace), 2).n_listings == 0


def test_before_the_first_model_reports_and_the_audit_are_the_batch(workspace: Workspace) -> None:
    """Nothing is doubted yet, and nothing is suggested."""
    review_world.catalog(workspace, 50)
    builders.add(workspace, *(builders.record(f"v{i}", category=PATHS[0], flags=("counterfeit",)) for i in range(6)))
    found = select(with_shares(workspace, audit_share=0.1, violation_share=0.1), 20)
    assert found.by_reason["audit"] == 2 and found.n_listings == found.by_reason["reported"] + 2
    assert found.by_reason["reported"] >= 5
    assert all(row.suggestion is None for row in items(workspace))
    assert item(workspace, "v5").reasons[-1]["words"] in ("Reported by users as counterfeit.", selection.AUDIT_REASON.words)


def test_a_report_moderators_have_judged_is_not_asked_again(sqlite_workspace: Workspace) -> None:
    """Even where they were never asked about it."""
    builders.add(sqlite_workspace, builders.record("v1", flags=("counterfeit",)), builders.record("v2", flags=("counterfeit",)))
    answer(sqlite_workspace, "v1", "none", question=Question.VIOLATION)
    select(with_shares(sqlite_workspace), 10)
    assert list(chosen(sqlite_workspace)) == ["v2"]


def test_the_surest_violations_come_first(sqlite_workspace: Workspace) -> None:
    """Reported and seen, then seen for sure, then reported alone."""
    review_world.catalog(sqlite_workspace, 8)
    builders.add(sqlite_workspace, *(builders.record(f"v{i}", category=PATHS[0], flags=("counterfeit",)) for i in range(2)))
    review_world.rank(
        sqlite_workspace, Question.VIOLATION, flagged("r001", "counterfeit", 0.97), flagged("v1", "counterfeit", 0.8)
    )
    review_world.rank(sqlite_workspace, Question.CATEGORY, suspect("r007", PATHS[3], PATHS[0], 0.9))
    select(with_shares(sqlite_workspace, violation_share=0.6), 5)
    assert list(chosen(sqlite_workspace)) == ["v1", "r001", "v0", "r007"]


def test_what_the_moderator_will_see_is_kept_and_nothing_where_asked_blind(sqlite_workspace: Workspace) -> None:
    """So that agreement with and without a suggestion can be compared later (fault 41)."""
    doubt_all(sqlite_workspace)
    select(with_shares(sqlite_workspace, blind_share=0.5), 10)
    rows = [row for row in items(sqlite_workspace) if row.question == "category"]
    assert {row.suggestion is None for row in rows if row.batch == BLIND_BATCH} == {True}
    assert {row.suggestion in PATHS for row in rows if row.batch != BLIND_BATCH} == {True}


def test_a_withdrawn_listing_can_be_chosen_anew_with_new_reasons(sqlite_workspace: Workspace) -> None:
    """The row is used again, as if it had just been written."""
    doubt_all(sqlite_workspace, 4, 4)
    select(with_shares(sqlite_workspace), 4)
    with sqlite_workspace.db.write() as session:
        queue.withdraw(session, [row.listing_id for row in items(sqlite_workspace)])
    review_world.rank(sqlite_workspace, Question.CATEGORY, suspect("r002", PATHS[2], PATHS[0], 0.77))
    assert select(with_shares(sqlite_workspace), 4).n_listings == 1
    found = item(sqlite_workspace, "r002")
    assert (found.state, found.n_wanted, found.priority, found.suggestion) == ("waiting", 1, pytest.approx(0.77), PATHS[0])
    assert item(sqlite_workspace, "r001").state == "withdrawn"


def test_the_audit_is_uniform_over_all_listings_decided_or_not(sqlite_workspace: Workspace) -> None:
    """A decided listing that is drawn is marked, not asked again, so that the measured noise has no bias."""
    doubt_all(sqlite_workspace, 40, 40)
    select(with_shares(sqlite_workspace), 20)
    for ref in chosen(sqlite_workspace):
        answer(sqlite_workspace, ref, PATHS[0])
    found = select(with_shares(sqlite_workspace, audit_share=1.0), 40)
    assert found == Selection(20, {"audit": 20}, 0, 0)
    with sqlite_workspace.db.read() as session:
        assert len(noise.audit_refs(session)) == 40
        estimate = noise.audit_noise(session)
    assert estimate is not None and (estimate.n, estimate.value) == (20, 0.75)


def test_the_audit_prefers_listings_no_model_was_trained_on(sqlite_workspace: Workspace) -> None:
    """Drawn by hash they are as good a sample as any, and each answer also judges the models."""
    doubt_all(sqlite_workspace, 100, 0)
    select(with_shares(sqlite_workspace, audit_share=1.0), 15)
    with sqlite_workspace.db.read() as session:
        drawn = noise.audit_refs(session)
    groups = {listing.ref: listing.group_key for listing in builders.all_listings(sqlite_workspace)}
    assert [split_of(groups[ref]) for ref in drawn] == [Split.TEST] * 15


def likely(workspace: Workspace, n: int = 400, **shares: float) -> Workspace:
    """A run that would change every label, the surest last, and doubts them all; 80 of them are the surest fifth."""
    found = review_world.catalog(workspace, n)
    given = np.array([PATHS.index(listing.category or "") for listing in found])
    opinion = Opinion((given + 1) % 4, np.linspace(0.1, 0.9, n), given=given)
    review_world.finish_run(workspace, review_world.confident(found), opinion)
    sure = [suspect(one.ref, PATHS[k], PATHS[(k + 1) % 4], 0.9) for one, k in zip(found, given, strict=True)]
    review_world.rank(workspace, Question.CATEGORY, *reversed(sure))
    asked = with_shares(workspace, **({"repair_share": 0.2} | shares))
    return dataclasses.replace(asked, settings=asked.settings.model_copy(update={"repair_precision": 0.6}))


def test_likely_errors_are_drawn_so_that_repair_can_be_certified(workspace: Workspace) -> None:
    """A share of the batch out of the surest fifth, in words that say why; no other part of the batch takes from it."""
    asked = likely(workspace)
    found = select(asked, 50)
    assert found.by_reason == {"label_issue": 40, "repair": 10}
    drawn = {ref for ref, codes in chosen(workspace).items() if codes == ["repair"]}
    assert {int(ref[1:]) >= 320 for ref in drawn} == {True} and max(map(int, (ref[1:] for ref in drawn))) > 329
    assert all(int(ref[1:]) < 320 for ref in chosen(workspace).keys() - drawn)
    assert "to measure how often" in item(workspace, min(drawn)).reasons[0]["words"]


def test_drawing_ends_when_there_are_enough_answers(sqlite_workspace: Workspace) -> None:
    """Whatever they are; then the surest errors are asked about like any other."""
    asked = likely(sqlite_workspace, 800)
    drawn = [select(asked, 50, seed).by_reason.get("repair", 0) for seed in range(12)]
    assert drawn[:2] == [10, 10] and drawn[-1] == 0 and n_needed(0.6, 10) <= sum(drawn) < 90
    assert any(int(ref[1:]) >= 640 for ref, codes in chosen(sqlite_workspace).items() if codes == ["label_issue"])


@pytest.mark.parametrize("why", ["small", "off", "no opinion"])
def test_nothing_is_drawn_where_no_promise_would_come_of_it(sqlite_workspace: Workspace, why: str) -> None:
    """Too few likely errors, the share turned off, a run that kept no opinion."""
    asked = likely(sqlite_workspace, 100 if why == "small" else 400, repair_share=0.0 if why == "off" else 0.2)
    if why == "no opinion":
        review_world.finish_run(sqlite_workspace, review_world.confident(builders.all_listings(sqlite_workspace)))
    assert select(asked, 50).by_reason == {"label_issue": 50}


def test_an_empty_catalog_gives_an_empty_batch(workspace: Workspace) -> None:
    """No error."""
    assert select(workspace, 10) == Selection(0, {}, 0, 0)
