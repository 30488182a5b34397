"""`refurbish noise` over a real catalog on both databases."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from curation.quality.validate import OutOfSample
from curation.release.formats import restore
from curation.review import selection
from curation.store.workspace import Workspace
from curation.types import Listing
from tests import builders, review_world
from tests.commands import run, run_json
from tests.conftest import NOW
from tests.review_world import PATHS

N = 160


def confused(workspace: Workspace) -> list[Listing]:
    """Forty listings in each of four categories; sixteen of the first look like the last."""
    listings = review_world.catalog(workspace, N)
    wrong = {f"r{i:03d}": PATHS[3] for i in range(0, 64, 4)}
    review_world.finish_run(workspace, review_world.confident(listings, wrong, p=0.7))
    return listings


def test_the_category_that_sellers_confuse_comes_first(workspace: Workspace) -> None:
    """With the rate, its interval, and where its listings belong; the others are clean."""
    confused(workspace)
    found = run_json(workspace, "noise")
    first, *others = found["categories"]
    assert (first["category"], first["n"], first["not_estimable"]) == (PATHS[0], 40, "")
    assert first["noise"] == pytest.approx(0.4, abs=0.05) and first["noise_low"] < 0.35 < 0.45 < first["noise_high"]
    (suggestion,) = first["suggestions"]
    assert suggestion["suggested"] == PATHS[3] and suggestion["n_suggested"] == pytest.approx(16, abs=2)
    assert len(others) == 3 and all(row["noise"] < 0.1 for row in others)
    assert found["noise"] == pytest.approx(0.1, abs=0.02) and found["n_listings"] == N and found["audit_noise"] is None
    assert "no audited listing is decided yet" in found["verdict"]


def test_moderators_words_replace_the_models_and_the_audit_stands_beside(workspace: Workspace) -> None:
    """Everything is audited and confirmed but two: then these two are the noise."""
    listings = confused(workspace)
    rng = np.random.default_rng(0)
    selection.select_batch(review_world.with_shares(workspace, audit_share=1.0), n=N, rng=rng, now=NOW)
    said = {listing.ref: listing.category for listing in listings} | {"r001": PATHS[2], "r005": PATHS[2]}
    review_world.answer_all(workspace, [(ref, value, "anna") for ref, value in said.items()])
    found = run_json(workspace, "noise")
    assert (found["n_decided"], found["noise"], found["audit_noise"], found["audit_n"]) == (N, 0.0125, 0.0125, N)
    first = found["categories"][0]
    assert (first["category"], first["n_wrong"]) == (PATHS[1], 2)
    assert [(one["suggested"], one["n_suggested"]) for one in first["suggestions"]] == [(PATHS[2], 2)]
    assert found["verdict"].endswith("they agree")


def test_thin_categories_are_not_estimable(workspace: Workspace) -> None:
    """Their counts are told, no rate."""
    review_world.finish_run(workspace, review_world.confident(review_world.catalog(workspace, 20)))
    found = run_json(workspace, "noise")
    assert found["n_not_estimable"] == 4
    assert {(row["n"], row["noise"], row["not_estimable"]) for row in found["categories"]} == {(5, None, "few labels")}


def test_root_and_top_choose_what_is_told(workspace: Workspace) -> None:
    """The estimate is of the whole catalog either way."""
    confused(workspace)
    sport = run_json(workspace, "noise", "--root", "Sport")
    assert {row["category"] for row in sport["categories"]} == set(PATHS[2:]) and sport["n_listings"] == N
    assert [row["category"] for row in run_json(workspace, "noise", "--top", 1)["categories"]] == [PATHS[0]]
    wrong = run(workspace, "noise", "--root", "Spo")
    assert wrong.exit_code == 1 and "no category lies under 'Spo'; the roots are 'Home, Sport'" in wrong.output


def test_the_table_is_one_confusion_a_row(workspace: Workspace, tmp_path: Path) -> None:
    """A category without any has a row too; people see the same as a table."""
    confused(workspace)
    summary = run_json(workspace, "noise", "--out", tmp_path / "new" / "noise.csv")
    table = pd.read_csv(tmp_path / "new" / "noise.csv")
    assert summary["n_rows"] == len(table) >= 4 and set(table.category) == set(PATHS)
    assert table.suggested[0] == PATHS[3] and table.share[0] == pytest.approx(0.4, abs=0.05)
    run_json(workspace, "noise", "--out", tmp_path / "noise.jsonl")
    assert len((tmp_path / "noise.jsonl").read_text("utf-8").splitlines()) == len(table)
    assert "use .csv or .jsonl" in run(workspace, "noise", "--out", tmp_path / "x.xlsx").output
    shown = run(workspace, "noise").stdout
    assert f"{PATHS[3]} (" in shown and "4 categories; " in shown


def test_a_category_named_like_a_formula_is_guarded(workspace: Workspace, tmp_path: Path) -> None:
    """And can be restored."""
    builders.add(workspace, *builders.records(12, category="=cmd|x"))
    oos = OutOfSample(np.ones((12, 1)), ("=cmd|x",), tuple(f"r{i}" for i in range(12)), np.zeros(12, dtype=int))
    review_world.finish_run(workspace, oos)
    run_json(workspace, "noise", "--out", tmp_path / "noise.csv")
    (cell,) = pd.read_csv(tmp_path / "noise.csv").category
    assert cell == "'=cmd|x" and restore(cell) == "=cmd|x"


def test_a_verified_category_the_run_does_not_know_counts_as_wrong(workspace: Workspace) -> None:
    """It came after the run; where the listing belongs cannot be told in its classes."""
    confused(workspace)
    builders.add(workspace, builders.record("late", category="Toys / Kites"))
    review_world.answer_all(workspace, [("r001", "Toys / Kites", "anna")])
    row = next(one for one in run_json(workspace, "noise")["categories"] if one["category"] == PATHS[1])
    assert row["n_wrong"] >= 1 and "Toys / Kites" not in {one["suggested"] for one in row["suggestions"]}


def test_without_listings_or_a_model_the_next_step_is_said(workspace: Workspace) -> None:
    """Exit code 1 and one sentence."""
    assert "run: refurbish ingest" in run(workspace, "noise").output
    review_world.catalog(workspace, 8)
    early = run(workspace, "noise")
    assert early.exit_code == 1 and "no model has predicted the listings yet; run: refurbish retrain" in early.output
