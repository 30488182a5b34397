"""`refurbish status | runs | models | promote | rollback | export`, as a user types them."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from curation.cli import main
from curation.release import commands, export, noise, registry
from curation.store import jobs
from curation.store.tables import ReviewItem
from curation.store.workspace import Workspace, set_state
from curation.types import Question
from tests.api_world import stored
from tests.commands import run, run_json
from tests.release_world import PATHS, add_listings, vote


@pytest.fixture
def filled(workspace: Workspace, now: datetime) -> Workspace:
    """Eight listings, three of them audited, two decided; two models, a run and a job."""
    with workspace.db.write() as session:
        ids = add_listings(session, 8, now=now, flags=["counterfeit"])
        vote(session, "ad-00000", PATHS[2], now=now)
        vote(session, "ad-00001", PATHS[1], now=now)
        vote(session, "ad-00001", "none", now=now, question=Question.VIOLATION)
        for i in (0, 1, 2):
            audit(session, ids[i], now)
        begin = {"kind": "retrain", "snapshot_id": None, "trigger": "test", "config": {}, "device": "cpu", "n_corrections": 2}
        run_id = registry.start_run(session, **begin, now=now)
        registry.finish_run(session, run_id, state="refused", report={"gate": {"words": "too slow"}}, n_seconds=2.0, now=now)
        for i in range(2):
            report = {"accuracy": {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50}}
            registry.add_model(session, run_id=run_id, report=report, now=now, **stored(workspace.files, i))
        jobs.enqueue(session, "push", {}, key="push", now=now)
        set_state(session, "labelstudio.drift", {"n_missed": 3, "n_healed": 3}, now=now)
    return workspace


def audit(session: Any, listing_id: int, now: datetime) -> None:
    """A listing drawn uniformly, asked on both questions."""
    for question in Question:
        session.add(
            ReviewItem(
                listing_id=listing_id,
                question=question.value,
                state="waiting",
                reasons=[{"code": "audit", "score": 1.0, "words": "drawn uniformly"}],
                priority=0.0,
                batch="b",
                n_wanted=1,
                created_at=now,
            )
        )


def test_status_shows_where_the_loop_stands(filled: Workspace) -> None:
    """Counts by state, the live model, the last run, the next one and why, noise and drift."""
    run_json(filled, "promote", "det-0002", "--reason", "by hand")
    found = run_json(filled, "status")
    assert found["listings"] == 8 and found["jobs"] == {"todo": 1} and found["review"] == {"waiting": 6}
    assert found["labels"] == {"category": {"moderators": 2, "seller": 6}, "violation": {"moderators": 1}}
    assert found["live_model"] == {"name": "det-0002", "verified_accuracy": {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50}}
    assert found["last_run"]["state"] == "refused" and found["drift"] == {"n_missed": 3, "n_healed": 3}
    assert found["next_retrain"].startswith("0 of 100 corrections since 2026-03-01 12:00:00 UTC")
    assert found["label_noise"]["category"]["n"] == 2 and found["label_noise"]["category"]["value"] == 0.5
    shown = run(filled, "status").stdout
    assert "det-0002, 80.0% [70.0%, 90.0%] of 50 verified listings" in shown and "0 of 100 corrections" in shown


def test_status_of_an_empty_database(workspace: Workspace) -> None:
    """Before anything happened, every line says so."""
    shown = run(workspace, "status").stdout
    assert "live model" in shown and "none yet" in shown and "not estimated" in shown and "not reconciled yet" in shown
    assert "no run yet" in run(workspace, "runs").stdout and "no model yet" in run(workspace, "models").stdout


def test_noise_counts_decided_audited_listings_only(filled: Workspace) -> None:
    """Of three drawn uniformly two are decided on category, one of them otherwise; reports are the given violation."""
    with filled.db.read() as session:
        category, violation = (noise.audit_noise(session, question) for question in Question)
        assert noise.audit_refs(session) == {"ad-00000", "ad-00001", "ad-00002"}
    assert category is not None and (category.value, category.n) == (0.5, 2) and 0 < category.low < 0.5 < category.high < 1
    assert violation is not None and (violation.value, violation.n) == (1.0, 1)


def test_models_promote_and_rollback(filled: Workspace) -> None:
    """The log shows who, why and what is live; refusals exit with 1 and say what to do."""
    assert run_json(filled, "promote", "det-0001", "--reason", "first", "--by", "anna") == {"live": "det-0001", "run_id": 1}
    run_json(filled, "promote", "det-0002", "--reason", "second")
    assert run_json(filled, "rollback", "--reason", "alarms")["live"] == "det-0001"
    found = run_json(filled, "models")
    assert found["live"] == "det-0001" and [model["name"] for model in found["models"]] == ["det-0002", "det-0001"]
    assert [row["action"] for row in found["releases"]] == ["rollback", "promote", "promote"]
    assert "alarms" in run(filled, "models").stdout
    refused = run(filled, "rollback", "--reason", "more")
    assert refused.exit_code == 1 and "refurbish: there is nothing to roll back to" in refused.stderr
    assert run(filled, "promote", "det-0007", "--reason", "x").exit_code == 1
    assert run(filled, "promote", "det-0001").exit_code == 2


def test_runs_are_listed_newest_first(filled: Workspace) -> None:
    """With the gate's words, and limited as asked."""
    found = run_json(filled, "runs", "--limit", 1)["runs"]
    assert [(run["id"], run["state"], run["report"]["gate"]["words"]) for run in found] == [(1, "refused", "too slow")]
    assert "too slow" in run(filled, "runs").stdout
    assert run(filled, "runs", "--limit", 0).exit_code == 2


def test_export_writes_and_says_what(filled: Workspace, tmp_path: Path) -> None:
    """One object with --json; a second export into the folder needs --overwrite."""
    found = run_json(filled, "export", "--out", tmp_path / "out", "--format", "hf")
    assert found["n_listings"] == 8 and sum(found["splits"].values()) == 8 and found["content"] == {"same": 8}
    assert (tmp_path / "out" / "manifest.json").is_file()
    refused = run(filled, "export", "--out", tmp_path / "out")
    assert refused.exit_code == 1 and "pass --overwrite" in refused.stderr
    again = run_json(filled, "export", "--out", tmp_path / "out", "--overwrite", "--snapshot", found["snapshot_sha256"][:8])
    assert again["snapshot_sha256"] == found["snapshot_sha256"] and (tmp_path / "out" / "data").is_dir()


def test_every_command_has_an_example_and_json() -> None:
    """The help teaches; the formats offered are those that can be written."""
    assert commands.FORMATS == export.FORMATS
    for name in ("status", "runs", "models", "promote", "rollback", "export"):
        text = CliRunner().invoke(main, [name, "--help"]).output
        assert "Example:" in text and f"refurbish {name}" in text and "--json" in text
