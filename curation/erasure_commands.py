"""`refurbish erase | verify`: listings removed for good, and whether what is stored is what was stored."""

import getpass
from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from curation import console
from curation.catalog import erasure as catalog
from curation.errors import ConfigError, InputError
from curation.labelstudio import erasure as labelstudio
from curation.release import erasure as release
from curation.release import verify as verifying
from curation.review import neighbours
from curation.store import erasure
from curation.store.workspace import Workspace

BUSY = "in use: old pages may hold erased text still; when it is quiet run: refurbish erase --finish"


@console.command("erase", example="refurbish erase --seller S-1207 --reason 'request 88' --yes")
@click.option("--seller", help="All listings of this seller, by the catalog's seller id.")
@click.option("--listing", help="One listing, by its ref.")
@click.option(
    "--from", "file", type=click.Path(path_type=Path), help="Listings by their refs, one a line, such as those of --log."
)
@click.option("--reason", default="", help="Why; it stays in the log of erasures. Name no person.")
@click.option("--by", default=None, help="Who (default: the user of this machine).")
@click.option("--yes", is_flag=True, help="Do it. Without, only what would go is shown.")
@click.option("--allow", is_flag=True, help="Let the erased --listing be ingested again.")
@click.option("--finish", is_flag=True, help="Go on with erasures that were cut short, and clear the database's files.")
@click.option("--log", "shows_log", is_flag=True, help="Show what was erased.")
@console.pass_session
def erase(
    session: console.Session,
    /,
    seller: str | None,
    listing: str | None,
    file: Path | None,
    reason: str,
    by: str | None,
    as_json: bool,
    **wanted: bool,
) -> None:
    """Remove listings for good: text, photos, answers, exports, tasks in Label Studio. Their ids stay, and the log of it.

    They are not ingested again, unless allowed. Backups and exports that were copied elsewhere are not reached.
    """
    workspace = session.workspace()
    if wanted["shows_log"]:
        _show_log(workspace, as_json)
    elif wanted["finish"]:
        console.emit(finish(workspace), as_json=as_json)
    elif wanted["allow"]:
        _allow(workspace, listing, as_json)
    else:
        named = _refs(file) if file else [listing] if listing is not None else None
        _erase(workspace, seller, named, (by or getpass.getuser(), reason), is_real=wanted["yes"], as_json=as_json)


@console.command("verify", example="refurbish verify")
@click.option("--snapshot", "sha256", help="Only this snapshot, by its sha256 or 8 digits of it.")
@console.pass_session
def verify(session: console.Session, sha256: str | None, as_json: bool) -> None:
    """Read every snapshot and model that is stored and say if it is what was stored. Exit code 1 if one is not."""
    workspace = session.workspace()
    found = [verifying.of_snapshot(workspace, sha256)] if sha256 else list(verifying.every(workspace))
    wrong = [one for one in found if one.state != verifying.OK]
    rows = [(one.state, one.kind, one.name, one.words) for one in found]
    human = console.table(rows, ("state", "kind", "name", "found")) if rows else "nothing is stored yet"
    console.emit({"ok": not wrong, "found": [asdict(one) for one in found]}, as_json=as_json, human=human)
    if wrong:
        raise click.exceptions.Exit(1)


def begin(workspace: Workspace, seller: str | None, refs: Collection[str] | None, *, by: str, reason: str) -> int:
    """Erase from the database, in one transaction; the erasure's id. Raises NotFoundError where there is nothing."""
    with workspace.db.write() as session:
        erasure.hold(session, alone=True)
        found = erasure.find(session, seller=seller, refs=refs)
        erasure_id = erasure.erase(session, found, by=by, reason=reason, now=workspace.db.now(session))
        labelstudio.enqueue(session, erasure_id)
    return erasure_id


def finish(workspace: Workspace) -> dict[str, Any]:
    """Remove the files of every erasure that is not finished, and clear the database's own; counts."""
    total: dict[str, int] = {}
    with workspace.db.read() as session:
        waiting, now = erasure.unfinished(session), workspace.db.now(session)
    for erasure_id in waiting:
        for name, n in _finish(workspace, erasure_id, now).items():
            total[name] = total.get(name, 0) + n
    is_compact = workspace.db.compact()
    return {"finished": len(waiting), **total, "database": "cleared" if is_compact else BUSY}


def _finish(workspace: Workspace, erasure_id: int, now: datetime) -> dict[str, int]:
    with workspace.db.read() as session:
        done = erasure.get(session, erasure_id)
    gone, refs = done.refs, frozenset(done.refs.values())
    titles, photos = done.leftover["titles"], done.leftover["photos"]
    counts = {
        **release.clean_snapshots(workspace, gone, erasure_id, now=now),
        "exports": release.delete_exports(workspace, gone, erasure_id),
        "photos": catalog.remove_photos(workspace, photos),
        "caches": int(catalog.clear_cache(workspace)),
        "rejected_rows": catalog.clean_rejects(workspace, refs, titles),
        "vectors": neighbours.forget(workspace, refs),
        "deliveries": labelstudio.clean_inbox(workspace, refs, titles),
    }
    with workspace.db.write() as session:
        erasure.finish(session, erasure_id, counts, now=now)
    return counts


def _erase(
    workspace: Workspace,
    seller: str | None,
    refs: list[str] | None,
    who: tuple[str, str],
    *,
    is_real: bool,
    as_json: bool,
) -> None:
    with workspace.db.read() as session:
        found = erasure.find(session, seller=seller, refs=refs)
    counts, listings = {**found.counts, "photos": len(found.photos)}, list(found.refs.values())
    if not is_real:
        human = f"would go (nothing was changed; add --yes):\n{_lines(counts)}"
        console.emit({"would_erase": counts, "listings": listings}, as_json=as_json, human=human)
        return
    erasure_id = begin(workspace, seller, refs, by=who[0], reason=who[1])
    done = finish(workspace)
    result = {"erasure": erasure_id, "listings": listings, "erased": counts, "files": done}
    console.emit(result, as_json=as_json, human=f"erased:\n{_lines(counts)}\nfiles:\n{_lines(done)}")


def _allow(workspace: Workspace, ref: str | None, as_json: bool) -> None:
    if ref is None:
        raise InputError("name the listing that may come back: --listing REF --allow")
    finish(workspace)
    with workspace.db.write() as session:
        erasure.allow(session, ref, now=workspace.db.now(session))
    console.emit({"allowed": ref}, as_json=as_json)


def _show_log(workspace: Workspace, as_json: bool) -> None:
    with workspace.db.read() as session:
        found = erasure.log(session)
    rows = [(one.id, one.at, one.finished_at, one.by, len(one.refs), one.reason) for one in found]
    human = console.table(rows, ("id", "at", "finished", "by", "listings", "reason"))
    shown = [
        {**asdict(one), "refs": list(one.refs.values()), "leftover": {name: len(items) for name, items in one.leftover.items()}}
        for one in found
    ]
    console.emit({"erasures": shown}, as_json=as_json, human=human)


def _refs(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"file {file} cannot be read: {error}; name one with a ref a line") from error
    return [line.strip() for line in lines if line.strip()]


def _lines(counts: Mapping[str, Any]) -> str:
    return "\n".join(f"  {name.replace('_', ' '):<24} {value}" for name, value in counts.items())
