"""Model versions: which one is live, since when and why, and the forms that change it."""

from collections.abc import Callable, Sequence

from flask import Blueprint, Response, flash, g, redirect, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as Answer

from curation.errors import InputError, IntegrityError, NotFoundError
from curation.release import artifacts, promotion, registry
from curation.release.promotion import Changed
from curation.release.registry import Model, Released
from curation.release.status import flagging, verified_accuracy
from curation.store.people import Role
from webhooks import auth, service, tables
from webhooks.pages import told
from webhooks.tables import Column, Row, Table

PAGE = 25
DOWNLOADED = 10_000
LOG_SHOWN = 25

blueprint = Blueprint("models", __name__)


@blueprint.get("/models")
@auth.needs(Role.ENGINEER)
def index() -> str | Response:
    """All models, newest first, the release log, and the form to roll back."""
    before = told.before()
    with service.current().workspace.db.read() as session:
        live = registry.live(session)
        found = registry.models(session, limit=PAGE + 1, before=before)
        return tables.page(
            "models.html",
            _listed(session, found, live),
            _log(registry.releases(session, limit=LOG_SHOWN), whole=lambda: registry.releases(session, limit=DOWNLOADED)),
            live=live,
            since=registry.releases(session, limit=1),
            previous=registry.previous(session),
            before=before,
            limit=promotion.REASON_LIMIT,
        )


@blueprint.get("/models/<name>")
@auth.needs(Role.ENGINEER)
def show(name: str) -> str | Response:
    """One model: what it is made of, what it flags, when it was live, and the form to promote it."""
    here = service.current()
    try:
        with here.workspace.db.read() as session:
            model, live = registry.by_name(session, name), registry.live(session)
            log = registry.releases(session, limit=LOG_SHOWN, model=name)
    except NotFoundError:
        told.stop(404, f"There is no model {name[:80]!r}. The page Models lists all there are.")
    return tables.page(
        "model.html",
        _flagged(model),
        _log(log),
        model=model,
        live=live,
        accuracy=verified_accuracy(model.report),
        gone=artifacts.gone(model, here.workspace.files),
        limit=promotion.REASON_LIMIT,
    )


@blueprint.post("/models/<name>/promote")
@auth.needs(Role.ENGINEER)
def promote(name: str) -> Answer:
    """Make it live, if the live model still is the one that the form showed."""
    return _changed(lambda **who: promotion.promote(service.current().workspace, name, **who))


@blueprint.post("/models/rollback")
@auth.needs(Role.ENGINEER)
def rollback() -> Answer:
    """Make the model before the live one live again, if the live model still is the one that the form showed."""
    return _changed(lambda **who: promotion.rollback(service.current().workspace, **who))


def _changed(change: Callable[..., Changed]) -> Answer:
    seen, reason = request.form.get("live", ""), request.form.get("reason", "")
    try:
        found = change(seen=seen, by=g.person.name, reason=reason)
    except NotFoundError as error:
        told.stop(404, str(error))
    except (InputError, IntegrityError) as error:
        told.stop(400, str(error))
    if found.is_overtaken:
        told.stop(409, found.words)
    flash(found.words)
    return redirect(url_for("models.index"), 303)


def _listed(session: Session, found: Sequence[Model], live: Model | None) -> Table:
    files, live_name = service.current().workspace.files, live and live.name

    def row(model: Model) -> Row:
        accuracy = verified_accuracy(model.report) or {}
        return {
            "name": model.name,
            "link": url_for("models.show", name=model.name),
            "state": "live" if model.name == live_name else None,
            "run": f"run {model.run_id}" if model.run_id else "made without a run",
            "run_link": url_for("runs.show", run_id=model.run_id) if model.run_id else None,
            "created_at": model.created_at,
            **{key: accuracy.get(key) for key in ("value", "low", "high", "n")},
            "files": "some are gone" if artifacts.gone(model, files) else "there",
        }

    columns = [
        Column("name", "Model", link="link"),
        Column("state", "State"),
        Column("run", "Made by", link="run_link"),
        Column("created_at", "Made", "moment"),
        Column("value", "Right", "share"),
        Column("low", "At least", "share"),
        Column("high", "At most", "share"),
        Column("n", "Verified listings", "number"),
        Column("files", "Its files"),
    ]
    return Table(
        "models",
        "Models, newest first",
        columns,
        [row(model) for model in found[:PAGE]],
        "No model yet. The first run makes one: refurbish retrain.",
        older=url_for("models.index", before=found[PAGE - 1].id) if len(found) > PAGE else None,
        whole=lambda: (row(model) for model in registry.models(session, limit=DOWNLOADED)),
    )


def _log(found: Sequence[Released], whole: Callable[[], Sequence[Released]] | None = None) -> Table:
    columns = [
        Column("at", "When", "moment"),
        Column("action", "What"),
        Column("model", "Model", link="link"),
        Column("by", "By whom"),
        Column("reason", "Why", "words"),
    ]

    def row(one: Released) -> Row:
        link = url_for("models.show", name=one.model)
        return {"at": one.at, "action": one.action, "model": one.model, "link": link, "by": one.by, "reason": one.reason}

    all_rows = None if whole is None else lambda: map(row, whole())
    return Table("log", "Releases, newest first", columns, [row(one) for one in found], "It was never live.", whole=all_rows)


def _flagged(model: Model) -> Table:
    columns = [Column("violation", "Violation"), Column("words", "Flagged", "words")]
    rows = [{"violation": name, "words": words} for name, words in flagging(model.report)]
    return Table("flagged", "What it may flag", columns, rows, "It was made before thresholds were certified, and flags nothing.")
