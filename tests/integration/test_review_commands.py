"""`refurbish suspects` and `refurbish review` as a user types them."""

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from curation.release.formats import restore
from curation.store.workspace import Workspace
from curation.types import Question
from tests import builders, review_world
from tests.commands import run, run_json
from tests.review_world import PATHS, suspect

COLUMNS = ["rank", "listing_ref", "given", "suggested", "suggested_score", "score", "is_issue", "reasons"]


@pytest.fixture
def ranked(workspace: Workspace) -> Workspace:
    """Twelve listings, one of them named like a formula, one without a category."""
    review_world.catalog(workspace, 10)
    builders.add(workspace, builders.record("=cmd|x", category=PATHS[0]), builders.record("r900", category=None))
    rows = [suspect(f"r{i:03d}", PATHS[i % 4], PATHS[3 - i % 4], 0.9 - i / 100, is_issue=i < 4) for i in range(10)]
    odd = suspect("=cmd|x", PATHS[0], PATHS[1], 0.99)
    missing = suspect("r900", PATHS[0], PATHS[2], 0.6, is_issue=False)
    unlabelled = type(missing)(**{name: getattr(missing, name) for name in missing.__slots__} | {"given": None})
    review_world.rank(workspace, Question.CATEGORY, odd, *rows, unlabelled)
    return workspace


def test_all_ranked_listings_are_written_in_order(ranked: Workspace, tmp_path: Path) -> None:
    """CSV that no spreadsheet runs: the formula is guarded, and can be restored."""
    out = tmp_path / "new folder" / "suspects.csv"
    summary = run_json(ranked, "suspects", "--question", "category", "--out", out)
    assert (summary["n_rows"], summary["n_issues"]) == (12, 5)
    table = pd.read_csv(out)
    assert list(table.columns) == COLUMNS and table["rank"].tolist() == list(range(1, 13))
    assert table.listing_ref[0] == "'=cmd|x" and restore(table.listing_ref[0]) == "=cmd|x"
    assert table.given.isna().sum() == 1 and table.is_issue.sum() == 5
    assert table.reasons[1] == "The seller chose Home / Garden; it looks like Sport / Bikes."


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".PARQUET"])
def test_the_other_formats_hold_the_same_unguarded(ranked: Workspace, tmp_path: Path, suffix: str) -> None:
    """Numbers and booleans keep their types, a missing category is null."""
    out = tmp_path / f"suspects{suffix}"
    run_json(ranked, "suspects", "--out", out)
    if suffix == ".jsonl":
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    else:
        rows = pq.read_table(out).to_pylist()
    assert [list(row) for row in rows] == [COLUMNS] * 12
    assert rows[0]["listing_ref"] == "=cmd|x" and rows[0]["is_issue"] is True
    assert rows[0]["score"] == pytest.approx(0.01) and rows[-1]["given"] is None


def test_a_limit_cuts_the_ranking(ranked: Workspace, tmp_path: Path) -> None:
    """The most doubtful ones are left."""
    assert run_json(ranked, "suspects", "--limit", 3)["n_rows"] == 3
    assert [row["listing_ref"] for row in run_json(ranked, "suspects", "--limit", 2)["suspects"]] == ["=cmd|x", "r000"]


def test_people_get_a_table(ranked: Workspace) -> None:
    """With how many there are."""
    result = run(ranked, "suspects")
    assert result.exit_code == 0 and "listing_ref" in result.stdout and "12 ranked, 5 doubted" in result.stdout


def test_without_a_ranking_the_next_step_is_said(workspace: Workspace, tmp_path: Path) -> None:
    """And no file is written."""
    result = run(workspace, "suspects", "--out", tmp_path / "suspects.csv")
    assert result.exit_code == 1 and "run: refurbish retrain" in result.output
    assert not (tmp_path / "suspects.csv").exists()


def test_an_unknown_suffix_and_question_are_refused(ranked: Workspace, tmp_path: Path) -> None:
    """Each says what there is."""
    assert "use .csv, .jsonl or .parquet" in run(ranked, "suspects", "--out", tmp_path / "suspects.xlsx").output
    result = run(ranked, "suspects", "--question", "colour")
    assert result.exit_code == 2 and "violation" in result.output


def test_a_batch_is_selected_and_listed(ranked: Workspace) -> None:
    """The counts by reason are told; what waits is shown by priority."""
    found = run_json(ranked, "review", "select", "--n", 6)
    assert found["n_listings"] == 6 == sum(found["by_reason"].values())
    waiting = run_json(ranked, "review", "list")["waiting"]
    assert len(waiting) == 6 and waiting[0]["priority"] == max(row["priority"] for row in waiting)
    assert "listing_ref" in run(ranked, "review", "list").stdout


def test_the_next_batch_is_another_one(ranked: Workspace) -> None:
    """Until there is nothing left to ask about."""
    assert [run_json(ranked, "review", "select", "--n", 7)["n_listings"] for _ in range(3)] == [7, 5, 0]


def test_the_batch_size_is_a_setting(ranked: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """`review_batch`, unless --n says otherwise."""
    monkeypatch.setenv("REFURBISH_REVIEW_BATCH", "4")
    assert run_json(ranked, "review", "select")["n_listings"] == 4
