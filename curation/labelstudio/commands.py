"""`refurbish labelstudio …`"""

from dataclasses import asdict

import click

from curation import console


@click.group("labelstudio", epilog="\b\nExample:\n  refurbish labelstudio setup && refurbish labelstudio push")
def labelstudio() -> None:
    """Set up, push, reconcile, doctor: everything between Refurbish and Label Studio."""


@console.command("setup", example="refurbish labelstudio setup --json")
@click.option(
    "--suggestions/--no-suggestions", "suggests", default=True, help="Connect the live model (default), or disconnect it."
)
@console.pass_session
def setup(session: console.Session, suggests: bool, as_json: bool) -> None:
    """Create or update the project: its page, settings, webhook and live suggestions. Safe to repeat."""
    from curation.labelstudio import project
    from curation.store.workspace import utc_now

    done = project.setup(session.workspace(), utc_now(), suggests=suggests)
    words = (*(done.changed or ("nothing to change",)), *(f"note: {note}" for note in done.notes))
    lines = [f"project {done.project_id} at {done.url}", *(f"  {line}" for line in words)]
    told = asdict(done) | {"changed": list(done.changed), "notes": list(done.notes)}
    console.emit(told, as_json=as_json, human="\n".join(lines))


@console.command("push", example="refurbish labelstudio push --limit 300")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many listings (default: all that wait).")
@console.pass_session
def push(session: console.Session, limit: int | None, as_json: bool) -> None:
    """Send the listings that wait for review; each has one task, ever."""
    from curation.labelstudio import push as pushing
    from curation.store.workspace import utc_now

    console.emit(asdict(pushing.push(session.workspace(), limit=limit, now=utc_now())), as_json=as_json)


@console.command("refresh", example="refurbish labelstudio refresh")
@console.pass_session
def refresh(session: console.Session, as_json: bool) -> None:
    """Replace the suggestions on undecided tasks by the newest model's."""
    from curation.labelstudio import refresh as refreshing
    from curation.store.workspace import utc_now

    console.emit(asdict(refreshing.refresh(session.workspace(), utc_now())), as_json=as_json)


@console.command("reconcile", example="refurbish labelstudio reconcile --full --json")
@click.option("--full", is_flag=True, help="Read every task, not only those changed since the last time.")
@console.pass_session
def reconcile(session: console.Session, full: bool, as_json: bool) -> None:
    """Bring in what webhooks missed and say what it was."""
    from curation.labelstudio import reconcile as reconciling
    from curation.store.workspace import utc_now

    console.emit(asdict(reconciling.reconcile(session.workspace(), utc_now(), full=full)), as_json=as_json)


@console.command("doctor", example="refurbish labelstudio doctor --fix")
@click.option("--fix", is_flag=True, help="Run the set-up first.")
@console.pass_session
def doctor(session: console.Session, fix: bool, as_json: bool) -> None:
    """Check server, token, project, page, webhook and service. Exit code 1 if something is wrong."""
    from curation.labelstudio import doctor as examining
    from curation.labelstudio import project
    from curation.store.workspace import utc_now

    workspace = session.workspace()
    if fix:
        project.setup(workspace, utc_now())
    found = examining.check(workspace)
    ok = all(row.ok for row in found)
    rows = [("ok" if row.ok else "FAILED", row.name, row.found + (f" → {row.advice}" if row.advice else "")) for row in found]
    table = console.table(rows, ("", "check", "found"))
    console.emit({"ok": ok, "checks": [asdict(row) for row in found]}, as_json=as_json, human=table)
    if not ok:
        click.get_current_context().exit(1)


for command in (setup, push, refresh, reconcile, doctor):
    labelstudio.add_command(command)
