"""Is what is stored what was stored? Snapshots with their erasures, and the files of models that were or are live."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from curation.errors import IntegrityError, NotFoundError
from curation.release import artifacts, erasure, registry, snapshot
from curation.store.files import sha256_of_file
from curation.store.tables import SnapshotRow
from curation.store.workspace import Workspace

OK, MISSING, DAMAGED = "ok", "missing", "damaged"


@dataclass(frozen=True, slots=True)
class Verified:
    """One stored thing. `state`: ok, missing or damaged; `words` say what was found, and what to do."""

    kind: str
    name: str
    state: str
    words: str


def every(workspace: Workspace) -> Iterator[Verified]:
    """All snapshots, then all models, oldest first."""
    with workspace.db.read() as session:
        shas = session.execute(select(SnapshotRow.sha256).order_by(SnapshotRow.id)).scalars().all()
        live = registry.live_name(session)
        models = registry.models(session, limit=10_000)[::-1]
    for sha256 in shas:
        yield of_snapshot(workspace, sha256)
    for model in models:
        yield _of_model(workspace, model, is_live=model.name == live)


def of_snapshot(workspace: Workspace, sha256: str) -> Verified:
    """The manifest's bytes, the chain of erasures, and the rows that are left. Raises NotFoundError on an unknown one."""
    with workspace.db.read() as session:
        found = snapshot.get(session, sha256)
    name = found.sha256[:12]
    try:
        words = _checked(workspace, found)
    except NotFoundError as error:
        return Verified("snapshot", name, MISSING, str(error))
    except IntegrityError as error:
        return Verified("snapshot", name, DAMAGED, str(error))
    return Verified("snapshot", name, OK, words)


def _checked(workspace: Workspace, found: snapshot.Snapshot) -> str:
    path = snapshot.manifest(workspace, found.sha256)
    chain = found.summary.get(erasure.KEY, [])
    _check_chain(found.sha256, chain, found.summary["manifest_sha256"])
    n_rows = n_erased = 0
    for row in erasure.rows_of(path):
        n_rows, n_erased = n_rows + 1, n_erased + (not row["content_sha256"])
    if (n_rows, n_erased) != (found.n_listings, sum(entry["n"] for entry in chain)):
        words = f"{n_rows} rows, {n_erased} of them erased, do not fit its summary"
        raise IntegrityError(f"snapshot {found.sha256[:12]} holds {words}; restore it from a backup")
    if not chain:
        _check_content(found.sha256, path)
        return f"{n_rows:,} listings"
    if erasure.digest(erasure.rows_of(path)) != chain[-1]["remaining"]:
        raise IntegrityError(f"the rows left in snapshot {found.sha256[:12]} are others than after its last erasure; restore it")
    told = ", ".join(f"erased {entry['n']:,} listings on {entry['at'][:10]}" for entry in chain)
    return f"{n_rows:,} listings, {told}; the others are as they were"


def _check_chain(sha256: str, chain: list[Mapping[str, Any]], manifest: str) -> None:
    before, at = "", None
    for entry in chain:
        if entry["link"] != erasure.link(before, entry) or at not in (None, entry["before"]):
            raise IntegrityError(
                f"the erasures noted with snapshot {sha256[:12]} were changed; restore the database from a backup"
            )
        before, at = entry["link"], entry["after"]
    if at not in (None, manifest):
        raise IntegrityError(f"snapshot {sha256[:12]} names a manifest that its erasures do not end in; restore it from a backup")


def _check_content(sha256: str, path: Any) -> None:
    """Without an erasure the name itself can be counted again."""
    tally = snapshot.Tally()
    for row in erasure.rows_of(path):
        tally.hash_row(list(row.values()))
    if tally.digest.hexdigest() != sha256:
        raise IntegrityError(f"the rows of snapshot {sha256[:12]} are not those it is named by; restore it from a backup")


def _of_model(workspace: Workspace, model: registry.Model, *, is_live: bool) -> Verified:
    words = "live" if is_live else "not live"
    gone = artifacts.gone(model, workspace.files)
    if gone:
        return Verified("model", model.name, MISSING, f"{words}; {gone}")
    for sha256, suffix in artifacts.files_of(model, workspace.files):
        path = workspace.files.path(sha256, suffix)
        if sha256_of_file(path) != sha256:
            advice = f"{words}; {path} does not match its name; restore it from a backup"
            return Verified("model", model.name, DAMAGED, advice)
    return Verified("model", model.name, OK, words)
