"""`refurbish categories` and `refurbish periods` over a real catalog on both databases."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select

from curation.quality.validate import OutOfSample
from curation.release import noise
from curation.release.formats import restore
from curation.review import judged, selection
from curation.store.tables import Category, CategoryAlias
from curation.store.workspace import Workspace
from curation.types import Listing
from tests import builders, review_world
from tests.commands import run, run_json
from tests.conftest import NOW
from tests.review_world import PATHS

ADJECTIVES = ("old", "new", "grey", "red", "nice", "large", "small", "used", "oak", "soft", "heavy", "light")


def undecided(listings: list[Listing], pair: tuple[int, int]) -> OutOfSample:
    """A model that is sure of everything but which of two categories is which."""
    rng, oos = np.random.default_rng(0), review_world.confident(listings, p=0.94)
    own = np.array([PATHS.index(listing.category or PATHS[0]) for listing in listings])
    rows = np.flatnonzero(np.isin(own, pair))
    first = rng.uniform(0.3, 0.7, len(rows)) * 0.96
    oos.pred_probs[rows] = 0.02
    oos.pred_probs[rows, pair[0]], oos.pred_probs[rows, pair[1]] = first, 0.96 - first
    return oos


@pytest.fixture
def confused(workspace: Workspace) -> Workspace:
    """240 listings in four categories; nobody can tell balls from bikes, and two things are sold as gardens."""
    words = np.random.default_rng(0).choice(ADJECTIVES, size=(240, 3))
    things = ["desk lamp" if i % 8 == 0 else "corner sofa" for i in range(240)]
    titles = [f"{' '.join(said)} {thing}" for said, thing in zip(words, things, strict=True)]
    builders.add(workspace, *(builders.record(f"=r{i:03d}", category=PATHS[i % 4], title=titles[i]) for i in range(240)))
    review_world.finish_run(workspace, undecided(builders.all_listings(workspace), (2, 3)))
    return workspace


def test_what_nobody_can_tell_apart_is_suggested_as_one(confused: Workspace) -> None:
    """With both shares, how well the two are told apart, and listings that crossed over each way."""
    found = run_json(confused, "categories")
    (merge,) = found["merges"]
    assert (merge["a"], merge["b"], merge["is_merge"]) == (PATHS[2], PATHS[3], True)
    assert merge["told_apart_high"] < 0.75 and merge["there_n"] == merge["back_n"] == 60
    assert all(int(ref[2:]) % 4 == 2 for ref in merge["examples"]) and all(
        int(ref[2:]) % 4 == 3 for ref in merge["examples_back"]
    )
    assert {row["category"] for row in found["categories"][:2]} == {PATHS[2], PATHS[3]}
    assert found["verdict"] == "0 broad, 1 to merge, 1 to split" and found["noise_from"] == "model"


def test_two_things_under_one_name_are_suggested_as_two(confused: Workspace) -> None:
    """Named by the words of their titles, with listings of each."""
    (split,) = run_json(confused, "categories")["splits"]
    assert (split["category"], split["kind"], split["n"]) == (PATHS[0], "titles", 60)
    assert [part["n"] for part in split["parts"]] == [30, 30]
    assert {"sofa", "lamp"} <= {word for part in split["parts"] for word in part["name"].split(", ")}


def test_a_root_and_a_top_choose_what_is_told(confused: Workspace) -> None:
    """The figures stay those of the whole catalog."""
    home = run_json(confused, "categories", "--root", "Home")
    assert {row["category"] for row in home["categories"]} == set(PATHS[:2]) and not home["merges"]
    assert home["n_listings"] == 240 and len(run_json(confused, "categories", "--top", 1)["categories"]) == 1
    wrong = run(confused, "categories", "--root", "Hom")
    assert wrong.exit_code == 1 and "no category lies under 'Hom'; the roots are 'Home, Sport'" in wrong.output


def test_the_table_is_written_with_guarded_cells(confused: Workspace, tmp_path: Path) -> None:
    """One category a row; a listing named like a formula stands inside a sentence, a category so named is guarded."""
    out = tmp_path / "new" / "categories.csv"
    summary = run_json(confused, "categories", "--out", out)
    table = pd.read_csv(out)
    assert summary["n_categories"] == len(table) == 4 and summary["out"] == str(out)
    assert table.merge_with.notna().sum() == 2 and table.split_into.notna().sum() == 1
    run_json(confused, "categories", "--out", tmp_path / "categories.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "categories.jsonl").read_text("utf-8").splitlines()]
    assert [row["category"] for row in rows] == table.category.tolist()
    assert "use .csv or .jsonl" in run(confused, "categories", "--out", tmp_path / "x.xlsx").output


def test_a_category_named_like_a_formula_is_guarded(workspace: Workspace, tmp_path: Path) -> None:
    """And can be restored."""
    builders.add(workspace, *builders.records(3, category="=cmd|x"))
    oos = OutOfSample(np.ones((3, 1)), ("=cmd|x",), ("r0", "r1", "r2"), np.zeros(3, dtype=int))
    review_world.finish_run(workspace, oos)
    run_json(workspace, "categories", "--out", tmp_path / "categories.csv")
    (cell,) = pd.read_csv(tmp_path / "categories.csv").category
    assert cell == "'=cmd|x" and restore(cell) == "=cmd|x"


def test_people_get_tables(confused: Workspace) -> None:
    """Categories, then what to merge and to split; periods with a bar."""
    shown = run(confused, "categories").stdout
    assert f"merge?  {PATHS[2]}  +  {PATHS[3]}" in shown and f"split?  {PATHS[0]}: its titles fall into groups" in shown
    assert "no period drifts" in run(confused, "periods").stdout


@pytest.mark.parametrize("command", ["categories", "periods"])
def test_without_listings_or_a_model_the_next_step_is_said(workspace: Workspace, command: str) -> None:
    """Exit code 1 and one sentence, as other commands do."""
    empty = run(workspace, command)
    assert empty.exit_code == 1 and "there are no listings yet; run: refurbish ingest" in empty.output
    review_world.catalog(workspace, 8)
    early = run(workspace, command)
    assert early.exit_code == 1 and "no model has predicted the listings yet; run: refurbish retrain" in early.output


def test_thin_categories_are_said_to_be_not_estimable(workspace: Workspace) -> None:
    """Also those that came after the run."""
    review_world.finish_run(workspace, review_world.confident(review_world.catalog(workspace, 40)))
    builders.add(workspace, builders.record("late", category="Home / Rugs"))
    found = run_json(workspace, "categories")
    assert {(row["category"], row["n"], row["state"]) for row in found["categories"]} == {
        *((path, 10, "not estimable") for path in PATHS),
        ("Home / Rugs", 0, "not estimable"),
    }
    assert found["verdict"].startswith("no category has 20") and found["n_not_estimable"] == 5


def test_one_category_only(workspace: Workspace) -> None:
    """There is nothing to confuse it with, and that is no error."""
    builders.add(workspace, *builders.records(30))
    refs = tuple(f"r{i}" for i in range(30))
    review_world.finish_run(workspace, OutOfSample(np.ones((30, 1)), ("Home / Garden",), refs, np.zeros(30, dtype=int)))
    found = run_json(workspace, "categories")
    assert "all listings bear one category (Home / Garden)" in found["verdict"] and not found["merges"]


def test_a_clean_catalog_has_nothing_to_suggest(workspace: Workspace) -> None:
    """And says so."""
    review_world.finish_run(workspace, review_world.confident(review_world.catalog(workspace, 120)))
    found = run_json(workspace, "categories")
    assert found["verdict"] == "no category is broad, and nothing suggests a merge or a split"
    assert found["noise"] == 0 and not found["confusions"] and not found["splits"]


def test_renamed_and_merged_categories_go_by_their_present_names(confused: Workspace) -> None:
    """The run knew two names; after the merge there is one, and nothing left to confuse (fault 42)."""
    with confused.db.write() as session:
        kept = session.execute(select(Category.id).where(Category.path == PATHS[2])).scalar_one()
        session.add(CategoryAlias(old_path=PATHS[3], category_id=kept, at=NOW))
    found = run_json(confused, "categories")
    assert not found["confusions"] and {row["category"]: row["n"] for row in found["categories"]}[PATHS[2]] == 120


def dated(workspace: Workspace, wrong_in: int, n_each: int = 30) -> list[Listing]:
    """Listings of January to April; moderators will find those of one month wrong."""
    days = [datetime(2026, 1 + i % 4, 5, tzinfo=UTC) for i in range(4 * n_each)]
    builders.add(workspace, *(builders.record(f"r{i:03d}", category=PATHS[0], listed_at=day) for i, day in enumerate(days)))
    found = builders.all_listings(workspace)
    said = {listing.ref: PATHS[1] for listing in found if listing.listed_at and listing.listed_at.month == wrong_in}
    review_world.finish_run(workspace, review_world.confident(found, wrong=said))
    return found


def audit(workspace: Workspace, listings: list[Listing], wrong_in: int) -> None:
    """All listings are drawn for audit and decided."""
    rng = np.random.default_rng(0)
    selection.select_batch(review_world.with_shares(workspace, audit_share=1.0), n=len(listings), rng=rng, now=NOW)
    said = [(x.ref, PATHS[int(bool(x.listed_at and x.listed_at.month == wrong_in))], "anna") for x in listings]
    review_world.answer_all(workspace, said)


def test_a_month_that_the_model_disagrees_with_drifts(workspace: Workspace) -> None:
    """By month it shows; by year it is one period and cannot."""
    dated(workspace, wrong_in=3)
    found = run_json(workspace, "periods")
    assert [(row["period"], row["n"], row["agreement"]) for row in found["periods"]] == [
        ("2026-01", 30, 1.0),
        ("2026-02", 30, 1.0),
        ("2026-03", 30, 0.0),
        ("2026-04", 30, 1.0),
    ]
    assert [row["drift"] for row in found["periods"]] == ["", "", "agreement", ""]
    assert found["dated_by"] == "listed_at" and found["verdict"] == "1 of 4 periods drift"
    (year,) = run_json(workspace, "periods", "--by", "year")["periods"]
    assert (year["period"], year["agreement"], year["accuracy"], year["noise_n"]) == ("2026", 0.75, None, 0)


def test_noise_and_accuracy_follow_the_moderators(workspace: Workspace) -> None:
    """The audit sample says when sellers were wrong and the model right; the total is that of the release card."""
    audit(workspace, dated(workspace, wrong_in=3), wrong_in=3)
    rows = run_json(workspace, "periods")["periods"]
    assert [row["noise"] for row in rows] == [0, 0, 1, 0] and [row["noise_n"] for row in rows] == [30] * 4
    assert [row["accuracy"] for row in rows] == [row["audit_accuracy"] for row in rows] == [1] * 4
    assert [row["drift"] for row in rows] == ["", "", "noise", ""]
    with workspace.db.read() as session:
        assert noise.audit_noise(session) == judged.load(workspace).audit
    found = run_json(workspace, "categories")
    assert found["noise_from"] == "audit" and found["noise"] > 0.25
    assert {row["category"]: row["audit_noise"] for row in found["categories"]}[PATHS[0]] == 0.25


@pytest.mark.parametrize(("by", "name"), [("day", "2026-01-05"), ("week", "2026-W02"), ("quarter", "2026-Q1")])
def test_periods_of_other_lengths(workspace: Workspace, tmp_path: Path, by: str, name: str) -> None:
    """The first one, in a file."""
    dated(workspace, wrong_in=2, n_each=3)
    run_json(workspace, "periods", "--by", by, "--out", tmp_path / "periods.csv")
    table = pd.read_csv(tmp_path / "periods.csv")
    assert table.period[0] == name and table.n.sum() == 12 and {"agreement_low", "noise_n", "drift"} <= set(table.columns)


def test_listings_without_a_date_are_left_out_and_counted(workspace: Workspace) -> None:
    """Where some have one."""
    found = dated(workspace, wrong_in=3, n_each=3)
    builders.add(workspace, builders.record("undated"))
    result = run_json(workspace, "periods")
    assert result["n_undated"] == 1 and sum(row["n"] for row in result["periods"]) == len(found)
    assert "left out for want of a date: 1" in result["verdict"]


def test_without_any_date_the_time_of_reading_is_taken_and_named(workspace: Workspace) -> None:
    """One period, called by what it is."""
    review_world.finish_run(workspace, review_world.confident(review_world.catalog(workspace, 12)))
    found = run_json(workspace, "periods")
    assert found["dated_by"] == "first_seen" and [row["period"] for row in found["periods"]] == [f"{NOW:%Y-%m}"]
    assert "the time they were first read counts" in found["verdict"]
