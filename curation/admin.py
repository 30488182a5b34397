"""Commands that look after the store: database, settings, inbox, jobs, history."""

import base64
import importlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class
from pydantic import SecretStr

from curation import console
from curation import settings as settings_module
from curation.errors import NotFoundError
from curation.settings import Settings
from curation.store import health, mounts, schema
from curation.store import history as history_store
from curation.store import inbox as inbox_store
from curation.store import jobs as job_store
from curation.store.db import shown_url
from curation.store.health import Check
from curation.store.workspace import Workspace

INBOX_STATES = ("received", "applied", "ignored", "quarantined")
JOB_STATES = ("todo", "doing", "done", "dead")
SHELLS = ("bash", "zsh", "fish")
LIMIT = click.IntRange(1, 10_000)


@click.group()
def db() -> None:
    """Create or upgrade the database."""


@console.command("upgrade", example="refurbish db upgrade")
@console.pass_session
def db_upgrade(session: console.Session, as_json: bool) -> None:
    """Bring the database to this version's schema; creates it if it is empty."""
    workspace = _unchecked(session)
    if workspace.db.is_sqlite:
        mounts.require_usable(Path(workspace.db.engine.url.database or ""))
    before = schema.current(workspace.db)
    after = schema.upgrade(workspace.db)
    console.emit({"before": before, "after": after, "changed": before != after}, as_json=as_json)


@console.command("current", example="refurbish db current")
@console.pass_session
def db_current(session: console.Session, as_json: bool) -> None:
    """The schema revision of the database, and the one this version needs."""
    found = schema.current(_unchecked(session).db)
    console.emit({"current": found, "needed": schema.head(), "is_current": found == schema.head()}, as_json=as_json)


@console.command("config", example="refurbish config --json")
@console.pass_session
def config(session: console.Session, as_json: bool) -> None:
    """Show every setting and where it comes from (flag, env, file or default); secrets are hidden."""
    settings = session.settings()
    origins = settings_module.origins(session.config, session.flags)
    shown = {name: {"value": _visible(settings, name), "origin": origins[name]} for name in Settings.model_fields}
    rows = [(name, entry["value"], entry["origin"]) for name, entry in shown.items()]
    console.emit(shown, as_json=as_json, human=console.table(rows, ("setting", "value", "from")))


@console.command("doctor", example="refurbish doctor")
@console.pass_session
def doctor(session: console.Session, as_json: bool) -> None:
    """Check database, files, clock, device, settings and the live model. Exit code 1 if something failed."""
    workspace = _unchecked(session)
    found = [*health.checks(workspace), *health.settings_checks(workspace.settings), _device(workspace.settings)]
    if not any(check.is_failed for check in found if check.name in ("database", "schema")):
        from curation.release import promotion  # ONNX Runtime takes a second to import

        found.append(promotion.health_check(workspace))
    failed = [check.name for check in found if check.is_failed]
    rows = [(check.state, check.name, check.words) for check in found]
    console.emit(
        {"ok": not failed, "checks": [asdict(check) for check in found]},
        as_json=as_json,
        human=console.table(rows, ("state", "check", "found")),
    )
    if failed:
        raise click.exceptions.Exit(1)


@console.command("completion", example="refurbish completion bash")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str, as_json: bool) -> None:
    """Print what makes this shell complete commands and options.

    In ~/.bashrc: eval "$(refurbish completion bash)"; zsh and fish read it where they start in the same way.
    """
    made = get_completion_class(shell)
    root = click.get_current_context().find_root()
    if made is None:
        raise NotFoundError(f"click knows no completion for {shell}; use one of {', '.join(SHELLS)}")
    script = made(root.command, {}, "refurbish", "_REFURBISH_COMPLETE").source()
    console.emit({"shell": shell, "script": script}, as_json=as_json, human=script)


@click.group()
def inbox() -> None:
    """Look at received deliveries; replay quarantined ones."""


@console.command("list", example="refurbish inbox list --state quarantined")
@click.option("--state", type=click.Choice(INBOX_STATES), help="Only deliveries in this state.")
@click.option("--limit", default=20, type=LIMIT, show_default=True, help="How many, newest first.")
@console.pass_session
def inbox_list(session: console.Session, state: str | None, limit: int, as_json: bool) -> None:
    """The last deliveries: state, reason, size."""
    with session.workspace().db.read() as reading:
        found = inbox_store.newest(reading, state=state, limit=limit)
        counts = inbox_store.count_by_state(reading)
    rows = [(entry.id, entry.received_at, entry.state, entry.n_bytes, entry.reason) for entry in found]
    human = console.table(rows, ("id", "received", "state", "bytes", "reason"))
    console.emit({"counts": counts, "deliveries": [asdict(entry) for entry in found]}, as_json=as_json, human=human)


@console.command("show", example="refurbish inbox show 12")
@click.argument("inbox_id", type=click.IntRange(1))
@console.pass_session
def inbox_show(session: console.Session, inbox_id: int, as_json: bool) -> None:
    """One delivery with its body as it was received (secrets redacted); base64 if it is not text."""
    with session.workspace().db.read() as reading:
        entries = inbox_store.newest(reading, ids=[inbox_id])
        delivery = inbox_store.load(reading, inbox_id)
    if not entries or delivery is None:
        raise NotFoundError(f"there is no delivery {inbox_id}; see: refurbish inbox list")
    try:
        body = {"body": delivery.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(delivery.body).decode()}
    console.emit(asdict(entries[0]) | body, as_json=as_json)


@console.command("replay", example="refurbish inbox replay --state quarantined")
@click.argument("inbox_ids", nargs=-1, type=click.IntRange(1))
@click.option("--state", default="quarantined", type=click.Choice(INBOX_STATES), show_default=True)
@console.pass_session
def inbox_replay(session: console.Session, inbox_ids: tuple[int, ...], state: str, as_json: bool) -> None:
    """Interpret deliveries once more, after a fix: those with these ids, or all in this state. Safe to repeat."""
    workspace = session.workspace()
    with workspace.db.write() as writing:
        missing = sorted(
            set(inbox_ids) - {entry.id for entry in inbox_store.newest(writing, ids=inbox_ids, limit=len(inbox_ids))}
        )
        if missing:
            raise NotFoundError(f"there is no delivery {missing[0]}; see: refurbish inbox list")
        now = workspace.db.now(writing)
        n_enqueued = inbox_store.replay(writing, now=now, state=state, ids=inbox_ids or None)
    console.emit({"enqueued": n_enqueued}, as_json=as_json)


@click.group()
def jobs() -> None:
    """Look at the job queue; revive dead jobs."""


@console.command("list", example="refurbish jobs list --state dead")
@click.option("--state", type=click.Choice(JOB_STATES), help="Only jobs in this state.")
@click.option("--kind", help="Only jobs of this kind.")
@click.option("--limit", default=20, type=LIMIT, show_default=True, help="How many, newest first.")
@console.pass_session
def jobs_list(session: console.Session, state: str | None, kind: str | None, limit: int, as_json: bool) -> None:
    """The last jobs: state, attempts, error."""
    with session.workspace().db.read() as reading:
        found = job_store.newest(reading, state=state, kind=kind, limit=limit)
        counts = job_store.count_by_state(reading)
    rows = [(job.id, job.kind, job.state, f"{job.attempt}/{job.max_attempts}", job.run_after, job.error) for job in found]
    human = console.table(rows, ("id", "kind", "state", "attempt", "due", "error"))
    console.emit({"counts": counts, "jobs": [asdict(job) for job in found]}, as_json=as_json, human=human)


@console.command("revive", example="refurbish jobs revive 7")
@click.argument("job_ids", nargs=-1, required=True, type=click.IntRange(1))
@console.pass_session
def jobs_revive(session: console.Session, job_ids: tuple[int, ...], as_json: bool) -> None:
    """Give dead jobs a fresh set of attempts."""
    workspace = session.workspace()
    with workspace.db.write() as writing:
        now = workspace.db.now(writing)
        for job_id in job_ids:
            if not job_store.revive(writing, job_id, now=now):
                raise NotFoundError(f"job {job_id} is not dead; see: refurbish jobs list --state dead")
    console.emit({"revived": len(job_ids)}, as_json=as_json)


@console.command("history", example="refurbish history L000042")
@click.argument("ref")
@console.pass_session
def history(session: console.Session, ref: str, as_json: bool) -> None:
    """Everything known of one listing's labels: values, changes, annotations, review, suspects."""
    with session.workspace().db.read() as reading:
        found = history_store.of(reading, ref)
    console.emit(asdict(found), as_json=as_json, human=_told(found))


def _told(found: history_store.History) -> str:
    absent = (
        "(listing not ingested)"
        if found.erased_at is None
        else f"(listing erased {found.erased_at.isoformat(timespec='minutes')})"
    )
    head = f"{found.ref}  {found.title or absent}\nseller's category: {found.seller_category or '-'}"
    labels = [(x.question, x.value, x.source, x.confidence, x.changed_at) for x in found.labels]
    changes = [
        (x.at, x.question, f"{x.old_value or '-'} ({x.old_source or '-'})", f"{x.value} ({x.source})") for x in found.changes
    ]
    said = [
        (x.at, x.question, x.annotator, x.value or x.raw_value or x.outcome, x.origin, x.via, _standing(x))
        for x in found.annotations
    ]
    asked = [
        (x.question, x.state, x.batch, x.suggestion, "; ".join(str(r.get("words", r)) for r in x.reasons)) for x in found.review
    ]
    doubted = [(x.question, x.rank, x.given, x.suggested, x.score, x.run_id) for x in found.suspects]
    parts: list[tuple[str, Sequence[Sequence[object]], Sequence[str]]] = [
        ("Labels", labels, ("question", "value", "source", "confidence", "since")),
        ("Changes", changes, ("at", "question", "from", "to")),
        ("Annotations", said, ("at", "question", "annotator", "said", "origin", "via", "standing")),
        ("Review", asked, ("question", "state", "batch", "suggestion", "why")),
        ("Suspect", doubted, ("question", "rank", "given", "suggested", "score", "run")),
    ]
    return "\n\n".join([head, *(f"{name}\n{console.table(rows, header)}" for name, rows, header in parts if rows)])


def _standing(said: history_store.Said) -> str:
    return "deleted" if said.is_deleted else "current" if said.is_current else "superseded"


def _unchecked(session: console.Session) -> Workspace:
    """The workspace, whatever its schema; closed when the command ends."""
    workspace = Workspace.open(session.settings(), check=False)
    click.get_current_context().call_on_close(workspace.close)
    return workspace


def _visible(settings: Settings, name: str) -> Any:
    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    if name == "database_url" and value:
        return shown_url(value)
    return list(value) if isinstance(value, tuple) else value


def _device(settings: Settings) -> Check:
    version = health.installed("torch")
    if version is None:
        return Check(
            "device", "warning", "torch is not installed, so nothing can be trained here; pip install 'refurbish[train]'"
        )
    has_cuda = bool(importlib.import_module("torch").cuda.is_available())  # heavy, and not a dependency of this room
    if settings.device == "cuda" and not has_cuda:
        return Check("device", "failed", f"device is 'cuda', but torch {version} finds no GPU; use 'auto'")
    return Check("device", "ok", f"torch {version} trains on {'cuda' if has_cuda and settings.device != 'cpu' else 'cpu'}")


for _group, _commands in {
    db: (db_upgrade, db_current),
    inbox: (inbox_list, inbox_show, inbox_replay),
    jobs: (jobs_list, jobs_revive),
}.items():
    for _command in _commands:
        _group.add_command(_command)
