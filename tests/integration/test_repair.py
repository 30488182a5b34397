"""`refurbish repair` on both databases: what it changes, on whose word, and how it is taken back."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from curation.cli import main
from curation.errors import NotFoundError, ProbabilityError
from curation.quality.validate import OutOfSample
from curation.release import noise, snapshot
from curation.review import judged, probabilities, repair, repair_commands, selection
from curation.review.repair_evidence import Opinion
from curation.store import history, labels, listings
from curation.store.tables import Category, CategoryAlias, LabelHistory, LabelRow, ListingRow
from curation.store.workspace import Workspace
from curation.types import LabelSource, Origin, Question, Reason
from tests import builders, review_world
from tests.conftest import NOW
from tests.review_world import PATHS

N, N_WRONG = 200, 120
WRONG = [f"r{i:03d}" for i in range(N_WRONG)]
"""Listings that the model would put into the next category."""


def run(workspace: Workspace, *words: object) -> Result:
    url = workspace.settings.database_url
    return CliRunner().invoke(main, ["--home", str(workspace.settings.home), "--database-url", url, *map(str, words)])


def run_json(workspace: Workspace, *words: object) -> dict[str, Any]:
    result = run(workspace, "repair", *words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def given(ref: str) -> str:
    return PATHS[int(ref[1:]) % 4]


def suggested(ref: str) -> str:
    return PATHS[(int(ref[1:]) + 1) % 4]


def predict(workspace: Workspace, refs: list[str] = WRONG, p: float = 0.97) -> int:
    """A finished run whose model would change these."""
    oos = review_world.confident(builders.all_listings(workspace), {ref: suggested(ref) for ref in refs}, p)
    return review_world.finish_run(workspace, oos)


def decide(workspace: Workspace, refs: list[str], **details: Any) -> None:
    """A moderator who was asked about them by chance follows the suggestion for each."""
    review_world.draw(workspace, refs)
    review_world.answer_all(workspace, [(ref, suggested(ref), "anna") for ref in refs], **details)


def sources(workspace: Workspace) -> dict[str, str]:
    """Source of each category label, by ref."""
    query = select(ListingRow.ref, LabelRow.source).join(LabelRow, LabelRow.listing_id == ListingRow.id)
    with workspace.db.read() as session:
        return {row.ref: row.source for row in session.execute(query.where(LabelRow.question == "category"))}


def n_repaired(workspace: Workspace) -> int:
    return sum(source == "refurbished" for source in sources(workspace).values())


@pytest.fixture
def certain(workspace: Workspace) -> Workspace:
    """200 listings; a model would change 120 of them, and moderators agreed to all 60 they were asked about."""
    review_world.catalog(workspace, N)
    predict(workspace)
    decide(workspace, WRONG[:60])
    return workspace


def test_certified_changes_are_made_with_their_evidence(certain: Workspace) -> None:
    """The other sixty are changed; label and history say on whose word."""
    found = run_json(certain)
    assert (found["n_changed"], found["n"], found["n_right"], found["n_missing"]) == (60, 60, 60, 0)
    row = review_world.label(certain, "r100")
    assert (row.value, row.source) == (suggested("r100"), "refurbished") and row.confidence == pytest.approx(0.96, abs=0.01)
    assert row.evidence["given"] == given("r100") and row.evidence["n_verified"] == 60 and row.evidence["run"] == found["run"]
    assert row.evidence["probabilities"] == found["probabilities"] and row.evidence["precision_low"] >= 0.95
    with certain.db.read() as session:
        last = history.of(session, "r100").changes[-1]
        assert repair.last(session) == {key: found[key] for key in repair.last(session) or {}}
    assert (last.old_value, last.value, last.evidence) == (given("r100"), suggested("r100"), row.evidence)


def test_a_dry_run_shows_it_and_writes_nothing(certain: Workspace, tmp_path: Path) -> None:
    """Changes, totals per confusion, the estimate in words; the file holds the same."""
    found = run_json(certain, "--dry-run")
    assert len(found["changes"]) == 60 and sum(pair["n"] for pair in found["confusions"]) == 60
    assert "60 labels score" in found["words"] and "Of the 60 listings drawn at random" in found["words"]
    shown = run(certain, "repair", "--dry-run", "--out", tmp_path / "changes.csv").stdout
    assert "Nothing was written." in shown and given("r100") in shown
    assert pd.read_csv(tmp_path / "changes.csv").ref.tolist() == [change["ref"] for change in found["changes"]]
    assert n_repaired(certain) == 0
    refused = run(certain, "repair", "--out", tmp_path / "changes.xlsx")
    assert refused.exit_code == 1 and "use .csv or .jsonl" in refused.output and n_repaired(certain) == 0


def test_an_answer_about_what_looked_doubtful_is_no_evidence(workspace: Workspace) -> None:
    """Whoever ranked it knows more than the score: what is left at the same score is right less often."""
    review_world.catalog(workspace, N)
    predict(workspace)
    review_world.draw(workspace, WRONG[:30], Reason("label_issue", 0.9, "It looks like something else."))
    review_world.answer_all(workspace, [(ref, suggested(ref), "anna") for ref in WRONG[:60]])
    assert run_json(workspace)["n_evidence"] == 0
    review_world.draw(workspace, WRONG[60:70], selection.AUDIT_REASON)
    review_world.answer_all(workspace, [(ref, suggested(ref), "anna") for ref in WRONG[60:70]])
    assert run_json(workspace)["n_evidence"] == 10


def test_with_too_few_answers_nothing_is_changed(workspace: Workspace) -> None:
    """And it says how many are missing: 59 if none is there, 58 after the first."""
    review_world.catalog(workspace, N)
    assert "run: refurbish retrain" in run(workspace, "repair").output
    predict(workspace)
    assert run_json(workspace)["n_missing"] == 59
    decide(workspace, WRONG[:1])
    found = run_json(workspace)
    assert (found["n_missing"], found["n_changes"], found["cut"]) == (58, 0, None)
    assert "58 more that score" in found["words"] and n_repaired(workspace) == 0


def test_the_same_run_again_changes_nothing(certain: Workspace) -> None:
    """Upheld repairs keep the run that made them, and a snapshot its name."""
    first = run_json(certain)
    before = snapshot.create(certain, now=NOW).sha256
    again = run_json(certain)
    assert (again["n_changed"], again["n_upheld"], again["n_taken_back"]) == (0, 60, 0)
    predict(certain)
    assert run_json(certain)["n_upheld"] == 60
    assert snapshot.create(certain, now=NOW).sha256 == before
    assert review_world.label(certain, "r100").evidence["run"] == first["run"]


def test_a_repair_goes_with_its_evidence(certain: Workspace) -> None:
    """Where the next run no longer supports it, the label is the seller's again, and the history says why."""
    run_json(certain)
    newer = predict(certain, WRONG[:90])
    found = run_json(certain)
    assert (found["n_upheld"], found["n_taken_back"]) == (30, 30)
    row = review_world.label(certain, "r100")
    assert (row.value, row.source, row.evidence) == (given("r100"), "seller", {})
    with certain.db.read() as session:
        assert history.of(session, "r100").changes[-1].evidence == {"rule": "unsupported", "run": newer}


def test_moderators_who_overrule_repairs_count_against_the_next(certain: Workspace) -> None:
    """They win at once; four failures take the promise away, even if the model has changed its mind since."""
    run_json(certain)
    review_world.answer_all(certain, [(ref, given(ref), "ben") for ref in WRONG[60:64]])
    assert review_world.label(certain, "r060").source == "moderators"
    predict(certain, WRONG[:60] + WRONG[64:])
    found = run_json(certain)
    assert (found["n_failed"], found["n_evidence"], found["n_changes"], found["n_taken_back"]) == (4, 64, 0, 56)
    assert n_repaired(certain) == 0


def test_an_answer_that_agrees_with_a_repair_counts_for_it(certain: Workspace) -> None:
    """Then it is a moderators' label, and no longer one of ours."""
    run_json(certain)
    decide(certain, WRONG[60:70])
    found = run_json(certain)
    assert (found["n_failed"], found["n_right"], found["n_evidence"], found["n_upheld"]) == (0, 70, 70, 50)


def test_a_repair_is_no_evidence(certain: Workspace) -> None:
    """Not for the next repair, nor for noise, nor as a verified row."""
    before = run_json(certain, "--dry-run")["n_evidence"]
    run_json(certain)
    assert run_json(certain, "--dry-run")["n_evidence"] == before
    found = judged.load(certain)
    assert found.is_verified.sum() == 60 and not found.is_verified[100]
    with certain.db.read() as session:
        assert noise.audit_noise(session) is None


def test_an_undone_listing_stays_as_its_seller_had_it(certain: Workspace) -> None:
    """The next run leaves it alone and says so; the history names the run that was undone."""
    made = run_json(certain)["run"]
    assert run_json(certain, "--undo", "r100", "--dry-run")["n_undone"] == 1
    assert review_world.label(certain, "r100").source == "refurbished"
    assert run_json(certain, "--undo", "ref:r100")["n_undone"] == 1
    predict(certain)
    found = run_json(certain)
    assert (found["n_barred"], found["n_upheld"], found["n_changed"]) == (1, 59, 0)
    assert review_world.label(certain, "r100").source == "seller"
    with certain.db.read() as session:
        assert history.of(session, "r100").changes[-1].evidence == {"rule": "undone", "run": made}


def test_a_whole_run_is_undone(certain: Workspace) -> None:
    """Moderators' labels stay; what is undone can still be decided by people."""
    made = run_json(certain)["run"]
    decide(certain, WRONG[60:61])
    assert run_json(certain, "--undo", f"run:{made}")["n_undone"] == 59
    assert n_repaired(certain) == 0 and sources(certain)["r060"] == "moderators"
    assert run_json(certain)["n_barred"] == 59
    decide(certain, WRONG[61:62])
    assert review_world.label(certain, "r061").source == "moderators"
    again = run(certain, "repair", "--undo", made)
    assert again.exit_code == 1 and "is no run whose repairs are in force" in again.output


def test_what_may_mean_a_run_or_a_listing_is_asked_back(certain: Workspace) -> None:
    """run:7 or ref:7."""
    made = run_json(certain)["run"]
    builders.add(certain, builders.record(str(made), category=PATHS[0]))
    with certain.db.write() as session:
        listing_id = listings.id_by_ref(session, [str(made)])[str(made)]
        label = labels.Resolved(PATHS[1], LabelSource.REFURBISHED, 0.9, {"run": 99})
        labels.set_label(session, listing_id, Question.CATEGORY, label, now=NOW)
    assert f"say run:{made} or ref:{made}" in run(certain, "repair", "--undo", made).output
    assert run_json(certain, "--undo", f"ref:{made}")["n_undone"] == 1


def test_suggestions_accepted_unread_are_no_evidence(workspace: Workspace) -> None:
    """The model would vouch for itself."""
    review_world.catalog(workspace, N)
    predict(workspace)
    decide(workspace, WRONG[:60], origin=Origin.PREDICTION, lead_time_s=0.5)
    assert run_json(workspace)["n_evidence"] == 0


def test_what_people_disagree_about_is_left_to_people(certain: Workspace) -> None:
    """A tie is no moderators' label, and no machine decides it either."""
    review_world.answer_all(certain, [("r100", PATHS[0], "anna"), ("r100", PATHS[1], "ben")])
    assert review_world.label(certain, "r100").source == "seller"
    assert run_json(certain)["n_changed"] == 59 and review_world.label(certain, "r100").source == "seller"


def test_what_people_skip_is_left_to_people_and_counts_against_repairs(certain: Workspace) -> None:
    """What nobody can tell may be among the rest as well: one that was drawn and skipped is no success."""
    before = run_json(certain, "--dry-run")
    review_world.draw(certain, ["r100"])
    review_world.answer(certain, "r100", None)
    after = run_json(certain, "--dry-run")
    assert (after["n_evidence"], after["n_changes"]) == (before["n_evidence"] + 1, 0)
    assert "r100" not in {change["ref"] for change in after["changes"]}


def test_near_duplicates_are_one_piece_of_evidence(workspace: Workspace) -> None:
    """Sixty copies of one listing certify nothing."""
    builders.add(workspace, *(builders.record(f"r{i:03d}", category=PATHS[i % 4], group_key="one") for i in range(100)))
    predict(workspace, WRONG[:100])
    decide(workspace, WRONG[:60])
    assert run_json(workspace)["n_evidence"] == 1


def test_a_renamed_category_is_the_same_category(certain: Workspace) -> None:
    """Probabilities, sellers' labels and answers go by the present names; a merge leaves nothing to change (fault 42)."""
    with certain.db.write() as session:
        ids = {row.path: row.id for row in session.execute(select(Category.path, Category.id))}
        session.add(CategoryAlias(old_path=PATHS[0], category_id=ids[PATHS[1]], at=NOW))
    found = run_json(certain, "--dry-run")
    assert found["n_evidence"] == 45 and not any(pair["given"] == PATHS[0] for pair in found["confusions"])


def test_a_callers_opinion_takes_the_place_of_the_default(certain: Workspace) -> None:
    """Its scores, suggestions and conditions; arrays that do not fit are refused."""
    (run_id, oos) = probabilities.newest(certain) or (0, None)
    assert isinstance(oos, OutOfSample)
    score = np.where(np.arange(N) < N_WRONG, 0.8, 0.0)
    opinion = Opinion(oos.pred_probs.argmax(axis=1), score, may=np.arange(N) != 100)
    with certain.db.read() as session:
        found = repair.plan(session, run_id, oos, target=0.95, opinion=opinion)
        assert len(found.changes) == 59 and found.promise.cut == 0.8 and "r100" not in {one.ref for one in found.changes}
        for bad in (score[1:], np.where(score > 0, np.nan, 0.0)):
            with pytest.raises(ProbabilityError):
                repair.plan(session, run_id, oos, target=0.95, opinion=dataclasses.replace(opinion, score=bad))


def opinionated(workspace: Workspace, n: int = N, **changes: Any) -> int:
    """A finished run with an opinion of its own: everything that it would change scores 0.8, whatever the probabilities are."""
    found = builders.all_listings(workspace)
    oos = review_world.confident(found, p=0.97)
    said = np.array([PATHS.index(listing.category or "") for listing in found])
    score = np.where(np.arange(n) < N_WRONG, 0.8, 0.0)
    return review_world.finish_run(workspace, oos, Opinion((said + 1) % 4, score, **({"given": said} | changes)))


def test_the_command_goes_by_the_opinion_of_the_run(certain: Workspace) -> None:
    """Not by the default score of its probabilities, which agree with every seller here."""
    opinionated(certain, may=np.arange(N) != 100)
    found = run_json(certain)
    assert (found["n_changed"], found["cut"]) == (59, 0.8) and review_world.label(certain, "r100").source == "seller"
    assert review_world.label(certain, "r101").confidence == 0.8


def test_a_category_renamed_after_the_repair_changes_nothing(certain: Workspace) -> None:
    """Repairs stand under their former name, as moderators' labels do, and those that people confirm are no failures."""
    opinionated(certain)
    run_json(certain)
    with certain.db.write() as session:
        row = session.execute(select(Category).where(Category.path == PATHS[1])).scalar_one()
        session.add(CategoryAlias(old_path=PATHS[1], category_id=row.id, at=NOW))
        row.path, row.name = "Home / Lights", "Lights"
    review_world.answer_all(certain, [("r060", "Home / Lights", "anna")])
    found = run_json(certain)
    assert (found["n_changed"], found["n_upheld"], found["n_taken_back"], found["n_failed"]) == (0, 59, 0, 0)


def test_an_opinion_on_another_category_than_the_sellers_says_nothing(certain: Workspace) -> None:
    """Who has placed the listing elsewhere since the run was not judged by it."""
    opinionated(certain)
    builders.add(certain, builders.record("r100", category=PATHS[2]), builders.record("r101", category=PATHS[3]))
    found = run_json(certain)
    assert found["n_changed"] == 58
    assert {review_world.label(certain, ref).source for ref in ("r100", "r101")} == {"seller"}


def test_a_plan_gives_way_to_what_happened_since(certain: Workspace) -> None:
    """People who disagree and a seller who moved a listing after it was made; what was repaired before goes back."""
    opinionated(certain)
    run_json(certain)
    run_id, held, opinion = probabilities.newest_judged(certain) or (0, None, None)
    assert held is not None
    with certain.db.read() as session:
        planned = repair.plan(session, run_id, held, target=0.95, opinion=opinion)
    review_world.answer_all(certain, [("r100", PATHS[0], "anna"), ("r100", PATHS[1], "ben")])
    builders.add(certain, builders.record("r101", category=PATHS[3]))
    with certain.db.write() as session:
        assert dataclasses.asdict(repair.apply(session, planned, now=NOW)) == {"n_changed": 0, "n_upheld": 58, "n_taken_back": 1}
    assert [review_world.label(certain, ref).value for ref in ("r100", "r101")] == [given("r100"), PATHS[3]]


def test_a_plan_of_a_run_that_is_no_longer_the_newest_is_made_anew(certain: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retrain that ends between reading and writing is not undone by the run before it."""
    made = repair_commands._plan

    def late(workspace: Workspace) -> repair.Plan:
        planned = made(workspace)
        monkeypatch.setattr(repair_commands, "_plan", made)
        opinionated(workspace)
        return planned

    monkeypatch.setattr(repair_commands, "_plan", late)
    assert run_json(certain)["cut"] == 0.8 and review_world.label(certain, "r100").confidence == 0.8


def test_a_plan_never_overrides_an_answer_that_came_meanwhile(certain: Workspace) -> None:
    """It is checked again when it is written."""
    newest = probabilities.newest(certain)
    assert newest is not None
    with certain.db.read() as session:
        planned = repair.plan(session, *newest, target=0.95)
    review_world.answer(certain, "r100", PATHS[3])
    with certain.db.write() as session:
        assert repair.apply(session, planned, now=NOW).n_changed == 59
    assert review_world.label(certain, "r100").value == PATHS[3]


def test_an_export_names_source_confidence_and_run(certain: Workspace) -> None:
    """What a repaired label rests on travels with it."""
    made = run_json(certain)["run"]
    frozen = snapshot.create(certain, now=NOW)
    row = snapshot.load(certain, frozen.sha256).set_index("ref").loc["r100"]
    assert (row.category, row.category_source, row.run_id) == (suggested("r100"), "refurbished", made)
    assert row.category_confidence > 0.9 and json.loads(str(row.category_evidence))["precision_low"] >= 0.95
    assert frozen.summary["labels"]["category"] == {"moderators": 60, "refurbished": 60, "seller": 80}


def test_undo_of_what_is_not_there_says_so(certain: Workspace) -> None:
    """A listing that was never repaired, a run that made nothing."""
    with certain.db.read() as session:
        for what in ("r100", "run:99", "7", "run:x", "nobody"):
            with pytest.raises(NotFoundError, match="no repaired listing"):
                repair.to_undo(session, what)
        assert not session.execute(select(LabelHistory).where(LabelHistory.source == "refurbished")).all()
