"""`refurbish retrain`, as a user types it."""

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from curation.store.tables import JobRow
from curation.store.workspace import Workspace
from tests.commands import run
from tests.integration.test_retrain import catalog
from trainer.retrain import train_config
from trainer.search.cells import pool_and_skip


def test_enqueue_leaves_one_job(workspace: Workspace) -> None:
    """Asked twice, a worker trains once, with what was asked for first."""
    first, second = (run(workspace, "retrain", "--enqueue", "--trigger", f"ask {at}", "--epochs", "3", "--json") for at in (1, 2))
    assert [json.loads(found.stdout)["enqueued"] for found in (first, second)] == [True, False]
    with workspace.db.read() as session:
        assert session.execute(select(JobRow.payload)).scalars().all() == [{"trigger": "ask 1", "epochs": 3}]


def test_parts_of_the_fit_are_set_by_name(sqlite_workspace: Workspace) -> None:
    """Typed as they are; they reach the worker. What is no part of a fit is named before anything runs."""
    assert run(sqlite_workspace, "retrain", "--enqueue", "--set", "recipe=selfie", "--set", "mixup=0.3").exit_code == 0
    with sqlite_workspace.db.read() as session:
        assert session.execute(select(JobRow.payload)).scalar_one()["changes"] == {"recipe": "selfie", "mixup": 0.3}
    for change, told in (("momentum=1", "momentum"), ("carry", "NAME=VALUE"), ("epochs=few", "must be int")):
        found = run(sqlite_workspace, "retrain", "--enqueue", "--set", change)
        assert found.exit_code in (1, 2) and told in found.stderr


def test_cells_are_read_from_a_file(sqlite_workspace: Workspace, tmp_path: Path) -> None:
    """The worker gets the cells themselves, settings may name the file; what is neither file nor cells is named at once."""
    file, cells = tmp_path / "cells.json", pool_and_skip().to_json()
    file.write_text(cells, encoding="utf-8")
    assert run(sqlite_workspace, "retrain", "--enqueue", "--set", f"architecture=@{file}").exit_code == 0
    with sqlite_workspace.db.read() as session:
        assert session.execute(select(JobRow.payload)).scalar_one()["changes"] == {"architecture": cells}
    settings = sqlite_workspace.settings.model_copy(update={"train": {"architecture": f"@{file}"}})
    assert train_config(settings).architecture == cells
    file.write_text(cells.replace('"from": 0', '"from": 9'), encoding="utf-8")
    for change, told in ((f"@{file}", "cycle"), ("@gone.json", "cannot be read"), ('{"format": 1}', "no genotype")):
        found = run(sqlite_workspace, "retrain", "--enqueue", "--set", f"architecture={change}")
        assert found.exit_code == 2 and told in found.stderr


def test_an_empty_catalog_is_explained(sqlite_workspace: Workspace) -> None:
    """No traceback: what is missing, and what to do."""
    found = run(sqlite_workspace, "retrain")
    assert found.exit_code == 1 and "refurbish ingest" in found.stderr


@pytest.mark.slow
def test_report_for_people_and_for_programs(sqlite_workspace: Workspace) -> None:
    """A table by default; one JSON object on stdout with --json."""
    catalog(sqlite_workspace, 60)
    shown = run(sqlite_workspace, "retrain", "--epochs", "1", "--folds", "2")
    assert (
        shown.exit_code == 0
        and "det-0001: no verified listing to judge it by" in shown.stdout
        and "provisionally" in shown.stdout
    )
    report = json.loads(run(sqlite_workspace, "retrain", "--epochs", "1", "--folds", "2", "--json").stdout)
    assert report["state"] == "refused" and report["champion"]["name"] == "det-0001" and report["seconds"]["total"] > 0


def test_a_run_tells_how_far_it_is(sqlite_workspace: Workspace) -> None:
    """Lines of a tenth each on stderr."""
    catalog(sqlite_workspace, 60)
    told = run(sqlite_workspace, "retrain", "--folds", "2", "--epochs", "2").stderr
    assert "epochs of all fits: 3 of 6 (50%)" in told and "epochs of all fits: 6 done" in told
