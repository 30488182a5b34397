"""`refurbish status | runs | models | promote | rollback | export`."""

import dataclasses
import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from curation import console, crash

FORMATS = ("parquet", "jsonl", "csv", "hf")
QUESTIONS = ("category", "violation")


@console.command("status", example="refurbish status --json")
@console.pass_session
def status(session: console.Session, as_json: bool) -> None:
    """Listings, labels, queues, the live model, and when and why the next run starts."""
    from curation.release import status as status_module

    workspace = session.workspace()
    with workspace.db.read() as db:
        found = status_module.gather(db, workspace.settings, now=workspace.db.now(db))
    if as_json:
        console.emit(found, as_json=True)
    else:
        console.emit(status_module.shown(found), as_json=False)


@console.command("runs", example="refurbish runs --limit 5")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many, newest first.")
@console.pass_session
def runs(session: console.Session, limit: int, as_json: bool) -> None:
    """Training runs, newest first: what started them, how they ended, and why."""
    from curation.release import registry

    with session.workspace().db.read() as db:
        found = registry.runs(db, limit=limit)
    rows = [(run.id, run.started_at, run.state, run.n_corrections, run.n_seconds, run.device, _gate(run.report)) for run in found]
    header = ("run", "began", "state", "corrections", "seconds", "device", "gate")
    human = console.table(rows, header) if rows else "no run yet; `refurbish retrain` starts the first"
    console.emit({"runs": [dataclasses.asdict(run) for run in found]}, as_json=as_json, human=human)


@console.command("models", example="refurbish models")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many, newest first.")
@console.pass_session
def models(session: console.Session, limit: int, as_json: bool) -> None:
    """Model versions, newest first, which one is live, what it may flag, and the log of releases."""
    from curation.release import artifacts, registry
    from curation.release.status import flagging, in_words, verified_accuracy

    workspace = session.workspace()
    with workspace.db.read() as db:
        found, live, log = registry.models(db, limit=limit), registry.live(db), registry.releases(db, limit=limit)
    live_name = live and live.name
    gone = {model.name: words for model in found if (words := artifacts.gone(model, workspace.files))}
    rows = [
        (
            model.name,
            " ".join(("live",) * (model.name == live_name) + ("FILES MISSING",) * (model.name in gone)),
            model.run_id,
            model.created_at,
            in_words(verified_accuracy(model.report)),
        )
        for model in found
    ]
    releases = [(row.at, row.action, row.model, row.by, row.reason) for row in log]
    human = "no model yet; `refurbish retrain` trains the first"
    if rows:
        human = console.table(rows, ("model", "", "run", "made", "accuracy"))
        if live is not None and (cuts := flagging(live.report)):
            human += "\n\n" + console.table(cuts, ("violation", f"flagged by {live.name}"))
        human += "\n\n" + console.table(releases, ("at", "action", "model", "by", "reason"))
    result = {
        "live": live_name,
        "files_missing": gone,
        "models": [dataclasses.asdict(model) for model in found],
        "releases": [dataclasses.asdict(row) for row in log],
    }
    console.emit(result, as_json=as_json, human=human)


@console.command("promote", example='refurbish promote det-0002 --reason "checked by hand"')
@click.argument("name")
@click.option("--reason", required=True, help="Why; it stays in the log of releases.")
@click.option("--by", default=None, help="Who (default: the user of this machine).")
@console.pass_session
def promote(session: console.Session, name: str, reason: str, by: str | None, as_json: bool) -> None:
    """Make a model version live, whatever its gate said."""
    from curation.release import promotion, registry

    workspace = session.workspace()
    promotion.require_usable(workspace, name)
    with workspace.db.write() as db:
        now = workspace.db.now(db)
        model = registry.promote(db, name, by=by or _user(), reason=reason, now=now, files=workspace.files)
    crash.reached("release.after_commit")
    console.emit({"live": model.name, "run_id": model.run_id}, as_json=as_json, human=f"{model.name} is live")


@console.command("rollback", example='refurbish rollback --reason "too many false alarms"')
@click.option("--reason", required=True, help="Why; it stays in the log of releases.")
@click.option("--by", default=None, help="Who (default: the user of this machine).")
@console.pass_session
def rollback(session: console.Session, reason: str, by: str | None, as_json: bool) -> None:
    """Make the previously live model live again; twice goes back two."""
    from curation.release import promotion, registry

    workspace = session.workspace()
    promotion.require_usable(workspace, None)
    with workspace.db.write() as db:
        now = workspace.db.now(db)
        model = registry.rollback(db, by=by or _user(), reason=reason, now=now, files=workspace.files)
    crash.reached("release.after_commit")
    console.emit({"live": model.name, "run_id": model.run_id}, as_json=as_json, human=f"{model.name} is live again")


@console.command("export", example="refurbish export --out dataset --format hf --with-images")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder for the dataset.")
@click.option("--format", "fmt", type=click.Choice(FORMATS), default="parquet", show_default=True)
@click.option("--question", "questions", type=click.Choice(QUESTIONS), multiple=True, help="Labels of this question only.")
@click.option("--snapshot", "sha256", help="A snapshot's sha256, or 8 digits of it (default: a new one).")
@click.option("--with-images", is_flag=True, help="Copy the photos too.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier export in that folder.")
@console.pass_session
def export(
    session: console.Session,
    out: Path,
    fmt: str,
    questions: tuple[str, ...],
    sha256: str | None,
    with_images: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a snapshot of all labels with its listings, card and checksums. The folder appears whole or not at all."""
    from curation.release import export as export_module
    from curation.store.workspace import utc_now
    from curation.types import Question

    workspace = session.workspace()
    progress = console.Progress("listings", quiet=as_json)
    summary = export_module.write(
        workspace,
        out,
        fmt,
        now=utc_now(),
        snapshot_sha256=sha256,
        questions=[Question(name) for name in questions or QUESTIONS],
        with_images=with_images,
        overwrite=overwrite,
        advance=progress.advance,
    )
    progress.done()
    console.emit(dataclasses.asdict(summary), as_json=as_json)


def _gate(report: Mapping[str, Any]) -> str:
    gate = report.get("gate")
    return str(gate.get("words", "")) if isinstance(gate, Mapping) else str(report.get("error", ""))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
