"""Runs, the release log, promotion and rollback, exports: what engineers' programs ask."""

from typing import Any

from flask import g

from curation import telemetry
from curation.errors import IntegrityError
from curation.release import exports as datasets
from curation.release import promotion, registry
from curation.store.people import Role
from webhooks import service
from webhooks.api import cursors
from webhooks.api.answers import (
    ExportAnswer,
    ExportAsked,
    ExportsAnswer,
    ReleaseAnswer,
    ReleaseDone,
    ReleasesAnswer,
    RunAnswer,
    RunsAnswer,
)
from webhooks.api.contract import Operation, Refused, operation
from webhooks.api.models import ExportRequest, Page, ReleaseRequest

log = telemetry.logger("api")


@operation(Operation("runs", "GET", "/runs", Role.ENGINEER, "Training runs, newest first.", RunsAnswer, query=Page))
def runs(query: Page) -> RunsAnswer:
    """One page of runs."""
    with service.current().workspace.db.read() as session:
        found = registry.runs(session, limit=query.limit, before=cursors.read("runs", query.cursor))
    return RunsAnswer(items=[_run(run) for run in found], next=_next("runs", found, query))


def _run(run: registry.Run) -> RunAnswer:
    gate = run.report.get("gate")
    words = gate.get("words") if isinstance(gate, dict) else run.report.get("error")
    shown = {name: getattr(run, name) for name in RunAnswer.model_fields if name != "gate"}
    return RunAnswer(**shown, gate=None if words is None else str(words))


@operation(Operation("releases", "GET", "/releases", Role.ENGINEER, "The release log, newest first.", ReleasesAnswer, query=Page))
def releases(query: Page) -> ReleasesAnswer:
    """One page of the log, and what is live."""
    with service.current().workspace.db.read() as session:
        found = registry.releases(session, limit=query.limit, before=cursors.read("releases", query.cursor))
        live = registry.live(session)
    items = [ReleaseAnswer.model_validate(one) for one in found]
    return ReleasesAnswer(live=None if live is None else live.name, items=items, next=_next("releases", found, query))


@operation(
    Operation(
        name="release",
        method="POST",
        path="/releases",
        role=Role.ENGINEER,
        summary="Promote a model, or roll back to the one before, if the live model still is the one that you name.",
        body=ReleaseRequest,
        answer=ReleaseDone,
        refuses=(404, 409, 413, 415),
    )
)
def release(body: ReleaseRequest) -> ReleaseDone:
    """Another model live."""
    workspace, by, seen = service.current().workspace, g.person.name, body.expected_live or ""
    if (body.model is None) == (body.action == "promote"):
        raise Refused(400, "a promote names its model, a rollback names none; the model before is taken")
    try:
        if body.model is not None:
            done = promotion.promote(workspace, body.model, seen=seen, by=by, reason=body.reason)
        else:
            done = promotion.rollback(workspace, seen=seen, by=by, reason=body.reason)
    except IntegrityError as error:
        raise Refused(409, str(error)) from error
    if done.is_overtaken:
        words = f"nothing was changed: {done.live or 'no model'} is live, you expected {seen or 'none'}; look again, then decide"
        raise Refused(409, words)
    log.info("released", action=body.action, live=done.live, by=by)
    return ReleaseDone(live=str(done.live))


@operation(Operation("exports", "GET", "/exports", Role.ENGINEER, "Exported datasets, newest first.", ExportsAnswer, query=Page))
def exports(query: Page) -> ExportsAnswer:
    """One page of exports."""
    with service.current().workspace.db.read() as session:
        found = datasets.newest(session, limit=query.limit, before=cursors.read("exports", query.cursor))
    return ExportsAnswer(items=[ExportAnswer.model_validate(one) for one in found], next=_next("exports", found, query))


@operation(
    Operation(
        name="export",
        method="POST",
        path="/exports",
        role=Role.ENGINEER,
        summary="Have a dataset made by a worker; look for it in GET /exports.",
        body=ExportRequest,
        answer=ExportAsked,
        status=202,
        refuses=(413, 415),
    )
)
def export(body: ExportRequest) -> ExportAsked:
    """Ask for an export."""
    workspace = service.current().workspace
    with workspace.db.write() as session:
        export_id, is_new = datasets.ask(session, body.format, by=g.person.name, now=workspace.db.now(session))
    log.info("export asked for", export=export_id, is_new=is_new, format=body.format)
    return ExportAsked(id=export_id, is_new=is_new)


def _next(kind: str, found: list[Any], query: Page) -> str | None:
    return cursors.write(kind, found[-1].id) if len(found) == query.limit else None
