"""Training runs: the list, one run with its figures, and its whole report for programs."""

from typing import Any

from flask import Blueprint, Response, jsonify, url_for
from sqlalchemy.orm import Session

from curation.errors import NotFoundError
from curation.release import registry, run_view
from curation.release.registry import Run
from curation.release.status import verified_accuracy
from curation.store.people import Role
from webhooks import auth, service, tables
from webhooks.pages import run_tables, told
from webhooks.tables import Column, Row, Table

PAGE = 25
DOWNLOADED = 10_000
"""The newest runs that the table's download holds."""

blueprint = Blueprint("runs", __name__)


@blueprint.get("/runs")
@auth.needs(Role.ENGINEER)
def index() -> str | Response:
    """The newest runs; `?before=ID` goes on with older ones."""
    before = told.before()
    with service.current().workspace.db.read() as session:
        found = registry.runs(session, limit=PAGE + 1, before=before)
        return tables.page("runs.html", _listed(session, found), before=before)


@blueprint.get("/runs/<int:run_id>")
@auth.needs(Role.ENGINEER)
def show(run_id: int) -> str | Response:
    """Everything that a run left behind."""
    try:
        with service.current().workspace.db.read() as session:
            view = run_view.of(session, told.known_id(run_id, "Run"))
    except NotFoundError:
        told.stop(404, f"Run {run_id} is not known. The page Runs lists all there are.")
    return tables.page("run.html", *run_tables.of(view), view=view, **run_tables.drawn(view))


@blueprint.get("/runs/<int:run_id>/report.json")
@auth.needs(Role.ENGINEER)
def report(run_id: int) -> Response:
    """What the run was told and what it reported, as it is stored."""
    try:
        with service.current().workspace.db.read() as session:
            run = registry.run(session, told.known_id(run_id, "Run"))
    except NotFoundError:
        told.stop(404, f"Run {run_id} is not known. The page Runs lists all there are.")
    answer = jsonify(id=run.id, kind=run.kind, state=run.state, config=run.config, report=run.report)
    answer.headers["Content-Disposition"] = f'attachment; filename="refurbish-run-{run.id}.json"'
    return answer


def _listed(session: Session, found: list[Run]) -> Table:
    columns = [
        Column("id", "Run", link="link"),
        Column("started_at", "Began", "moment"),
        Column("state", "Ended"),
        Column("kind", "Kind"),
        Column("trigger", "Why it ran"),
        Column("corrections", "Corrections", "number"),
        Column("took", "Took"),
        Column("value", "Right", "share"),
        Column("verdict", "What the gate said", "words"),
    ]
    return Table(
        "runs",
        "Training runs, newest first",
        columns,
        [_row(run) for run in found[:PAGE]],
        "No run yet. Start the first with refurbish retrain, or let it start by itself when enough labels were corrected.",
        older=url_for("runs.index", before=found[PAGE - 1].id) if len(found) > PAGE else None,
        alarm="is_failed",
        whole=lambda: (_row(run) for run in registry.runs(session, limit=DOWNLOADED)),
    )


def _row(run: Run) -> Row:
    gate: Any = run.report.get("gate")
    verdict = gate.get("words") if isinstance(gate, dict) else run.report.get("error") or run.report.get("words")
    accuracy = verified_accuracy(run.report)
    return {
        "id": run.id,
        "link": url_for("runs.show", run_id=run.id),
        "started_at": run.started_at,
        "state": run.state,
        "kind": run.kind,
        "trigger": run.trigger,
        "corrections": run.n_corrections,
        "took": run_tables.duration(run.n_seconds),
        "value": accuracy and accuracy["value"],
        "verdict": verdict if isinstance(verdict, str) else None,
        "is_failed": run.state == "failed",
    }
