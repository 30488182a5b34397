"""`refurbish backup | restore`."""

from pathlib import Path

import click

from curation import console
from curation.release import verify
from curation.store import backup as backups
from curation.store.workspace import Workspace

FOLDER = click.Path(path_type=Path, file_okay=False)


@console.command("backup", example="refurbish backup /backup/refurbish")
@click.argument("folder", type=FOLDER)
@click.option("--dump", type=click.Path(path_type=Path, dir_okay=False), help="What pg_dump -Fc wrote just now.")
@console.pass_session
def backup(session: console.Session, folder: Path, dump: Path | None, as_json: bool) -> None:
    """Copy the database, then all files, into FOLDER, while everything runs. Run it again to bring it up to date."""
    workspace = session.workspace()
    with workspace.db.read() as reading:
        now = workspace.db.now(reading)
    made = backups.take(workspace, folder, now=now, dump=dump)
    console.emit({"folder": str(folder), **backups.described(made)}, as_json=as_json)


@console.command("restore", example="refurbish restore /backup/refurbish")
@click.argument("folder", type=FOLDER)
@console.pass_session
def restore(session: console.Session, folder: Path, as_json: bool) -> None:
    """Put a backup into an empty home (--home, before the command) and an empty database; say what files it lacks.

    What moderators did since comes back by reconciliation; what was erased since must be erased again.
    """
    settings = session.settings()
    found = backups.restore(settings, folder)
    workspace = Workspace.open(settings, check=False)
    click.get_current_context().call_on_close(workspace.close)
    is_current = backups.is_current(found)
    wrong = (
        [f"{one.kind} {one.name}: {one.words}" for one in verify.every(workspace) if one.state != verify.OK] if is_current else []
    )
    upgrade = [] if is_current else ["refurbish db upgrade"]
    following = [*upgrade, "refurbish doctor", "refurbish labelstudio reconcile --full"]
    told = {
        "taken_at": found.taken_at,
        "n_files": found.n_files,
        "n_bytes": found.n_bytes,
        "lacking": wrong,
        "run_next": following,
    }
    lines = [f"restored what was there at {found.taken_at}: {found.n_files:,} files", *wrong, "run next:"]
    console.emit(told, as_json=as_json, human="\n".join([*lines, *(f"  {one}" for one in following)]))
