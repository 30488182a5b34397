"""Probabilities in the form they are kept in, and the ranking made anew from them after corrections."""

import json
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from curation.errors import NotFoundError, ProbabilityError
from curation.quality.held_out import SparseOutOfSample, sparse
from curation.quality.validate import OutOfSample
from curation.release import registry
from curation.review import probabilities, suspects
from curation.review.refresh import Refreshed, refresh
from curation.review.repair_evidence import Opinion
from curation.store.tables import Category, CategoryAlias
from curation.store.workspace import Workspace
from curation.types import Listing, Question
from tests import builders, review_world
from tests.commands import run
from tests.conftest import NOW
from tests.review_world import PATHS


def ranked(workspace: Workspace) -> dict[str, Any]:
    """The stored ranking of categories by ref."""
    with workspace.db.read() as session:
        return {row.suspect.listing_ref: row.suspect for row in suspects.ranked(session, Question.CATEGORY)}


def doubted(workspace: Workspace) -> list[Listing]:
    """Eighty listings of which four look like something else, and the ranking of the run that says so."""
    listings = review_world.catalog(workspace, 80)
    oos = review_world.confident(listings, {f"r{i:03d}": PATHS[3] for i in (0, 4, 8, 12)})
    run_id = review_world.finish_run(workspace, oos)
    found = suspects.categories(listings, review_world.held(listings), oos)
    review_world.rank(workspace, Question.CATEGORY, *found, run_id=run_id)
    return listings


def wide(n: int = 40, k: int = 1200) -> tuple[OutOfSample, np.ndarray[Any, np.dtype[np.int64]]]:
    """More classes than are kept whole."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(k, 0.01), n).astype(np.float32)
    refs = tuple(f"r{i:03d}" for i in range(n))
    return OutOfSample(probs, tuple(f"c{i}" for i in range(k)), refs, np.arange(n) % 3), rng.integers(k, size=n)


def test_of_many_classes_the_largest_probabilities_are_kept(sqlite_workspace: Workspace) -> None:
    """With the exact one of the label and the fold; whoever wants a table gets one. Without labels all are kept."""
    files, (oos, labels) = sqlite_workspace.files, wide()
    kept = probabilities.load_held(files, probabilities.store(files, oos, labels))
    assert isinstance(kept, SparseOutOfSample) and kept.classes == oos.classes and kept.refs == oos.refs
    assert (kept.folds == oos.folds).all() and (kept.store.labels == labels).all() and kept.store.k == 10
    assert (kept.store.p_given == oos.pred_probs[np.arange(40), labels]).all()
    table = probabilities.load(files, probabilities.store(files, oos, labels)).pred_probs
    assert (table.argmax(axis=1) == oos.pred_probs.argmax(axis=1)).all() and table.shape == (40, 1200)
    assert isinstance(probabilities.load_held(files, probabilities.store(files, oos)), OutOfSample)


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_an_opinion_is_kept_beside_the_probabilities(sqlite_workspace: Workspace, form: str) -> None:
    """Exactly, in either form; a file without one has none, and one that does not fit is refused."""
    files, (oos, labels) = sqlite_workspace.files, wide()
    said = Opinion(labels, np.linspace(0, 1, 40), may=np.arange(40) != 3, given=np.full(40, -1))
    given = labels if form == "sparse" else None
    held, found = probabilities.load_judged(files, probabilities.store(files, oos, given, opinion=said))
    assert isinstance(held, SparseOutOfSample) == (form == "sparse") and found is not None
    for name in ("suggested", "score", "may", "given"):
        assert (getattr(found, name) == getattr(said, name)).all()
    assert probabilities.load_judged(files, probabilities.store(files, oos, given))[1] is None
    with pytest.raises(ProbabilityError, match=r"1 suggestions are no class of 1200, first rows \[0\]"):
        probabilities.store(files, oos, given, opinion=Opinion(np.where(np.arange(40) == 0, 1200, labels), said.score))


def test_in_sample_probabilities_are_refused_in_either_form(sqlite_workspace: Workspace) -> None:
    """When they are stored."""
    files, (oos, labels) = sqlite_workspace.files, wide()
    oos.folds[5] = -1
    for given in (None, labels):
        with pytest.raises(ProbabilityError, match=r"1 rows are in-sample \(r005\)"):
            probabilities.store(files, oos, given)


def test_the_newest_run_is_a_table_for_those_who_want_one(sqlite_workspace: Workspace) -> None:
    """As before, whatever form was stored."""
    oos, labels = wide()
    with sqlite_workspace.db.write() as session:
        run_id = registry.start_run(
            session, kind="retrain", snapshot_id=None, trigger="test", config={}, device="cpu", n_corrections=0, now=NOW
        )
        report = {probabilities.REPORT_KEY: probabilities.store(sqlite_workspace.files, oos, labels)}
        registry.finish_run(session, run_id, state="finished", report=report, n_seconds=1.0, now=NOW)
    found = probabilities.newest(sqlite_workspace)
    assert found is not None and found[0] == run_id and found[1].pred_probs.shape == (40, 1200)


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_a_refresh_settles_what_moderators_decided(workspace: Workspace, form: str) -> None:
    """Confirmed and corrected listings go to the end, the others stay doubted; the run is the same, nothing is trained."""
    listings = doubted(workspace)
    if form == "sparse":
        held = probabilities.newest(workspace)
        labels = np.array([PATHS.index(str(listing.category)) for listing in listings])
        sha256 = probabilities.store_sparse(workspace.files, sparse(held[1], labels, 3)) if held else ""
        with workspace.db.write() as session:
            run_id = registry.start_run(
                session, kind="retrain", snapshot_id=None, trigger="test", config={}, device="cpu", n_corrections=0, now=NOW
            )
            registry.finish_run(
                session, run_id, state="finished", report={probabilities.REPORT_KEY: sha256}, n_seconds=1.0, now=NOW
            )
    before = ranked(workspace)
    assert [ref for ref, one in before.items() if one.is_issue] == ["r000", "r004", "r008", "r012"]
    review_world.answer_all(workspace, [("r000", PATHS[0], "anna"), ("r004", PATHS[3], "anna")])
    found = refresh(workspace)
    assert (found.n_listings, found.n_issues, found.n_verified) == (80, 2, 2)
    after = ranked(workspace)
    assert [ref for ref, one in after.items() if one.is_issue] == ["r008", "r012"]
    assert list(after)[-2:] == ["r000", "r004"] and after["r004"].given == PATHS[3] and after["r000"].score == 1


def test_a_refresh_twice_is_a_refresh_once(workspace: Workspace) -> None:
    """And before any correction it is the ranking that the run left."""
    doubted(workspace)
    before = ranked(workspace)
    assert refresh(workspace) == refresh(workspace) and ranked(workspace) == before


def test_listings_that_came_or_went_and_renamed_categories(workspace: Workspace) -> None:
    """A listing the run did not see is not ranked; categories go by their present names."""
    doubted(workspace)
    builders.add(workspace, builders.record("late", category=PATHS[0]))
    with workspace.db.write() as session:
        kept = session.execute(select(Category.id).where(Category.path == PATHS[2])).scalar_one()
        session.add(CategoryAlias(old_path=PATHS[3], category_id=kept, at=NOW))
    assert refresh(workspace).n_listings == 80
    after = ranked(workspace)
    assert "late" not in after and after["r000"].suggested == PATHS[2] and after["r003"].given == PATHS[2]


def test_a_run_that_ends_meanwhile_is_ranked_instead(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ranking is newer than what was worked on."""
    listings, ranks, began = doubted(workspace), suspects.categories, []

    def slow(*args: Any) -> Any:
        if not began:
            began.append(review_world.finish_run(workspace, review_world.confident(listings)))
        return ranks(*args)

    monkeypatch.setattr(suspects, "categories", slow)
    assert refresh(workspace) == Refreshed(began[0], 80, 0, 0, 0)


def test_the_command_refreshes_and_shows(workspace: Workspace) -> None:
    """Violations cannot be ranked anew; before a run there is nothing to rank."""
    with pytest.raises(NotFoundError, match="refurbish retrain"):
        refresh(workspace)
    doubted(workspace)
    review_world.answer_all(workspace, [("r000", PATHS[0], "anna")])
    assert json.loads(run(workspace, "suspects", "--json").stdout)["n_issues"] == 4
    shown = run(workspace, "suspects", "--refresh", "--json")
    assert shown.exit_code == 0 and json.loads(shown.stdout)["n_issues"] == 3
    refused = run(workspace, "suspects", "--refresh", "--question", "violation")
    assert refused.exit_code == 1 and "no predictions of violations are kept" in refused.output
