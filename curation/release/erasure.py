"""Erased listings in snapshots and exports.

A snapshot keeps its name, which is the sha256 of what it once said. Its manifest is written anew with a tombstone in the
place of each erased row (id, ref, split and group stay), and the summary remembers each erasure as a link: the manifest
before, the manifest after, how many rows went, and the digest of the rows that stayed. Each link holds the sha256 of the
one before, so that none can be taken out. `curation.release.verify` reads all of it.
"""

import hashlib
import json
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from curation.errors import IntegrityError, NotFoundError
from curation.release import exports, snapshot
from curation.store.service_tables import ExportRow
from curation.store.tables import SnapshotRow
from curation.store.workspace import Workspace

KEY = "erasures"
KEPT = ("listing_id", "ref", "split", "group_key")
TOMBSTONE: Mapping[str, Any] = {"content_sha256": "", "n_annotators": 0}
"""What an erased row holds besides what is kept; the rest is null."""


def digest(rows: Iterator[Mapping[str, Any]]) -> str:
    """The sha256 of rows in their order, tombstones left out."""
    found = hashlib.sha256()
    for row in rows:
        if row["content_sha256"]:
            line = json.dumps([row[name] for name in snapshot.COLUMNS], ensure_ascii=False, allow_nan=False)
            found.update(b"\n" + line.encode())
    return found.hexdigest()


def link(before: str, entry: Mapping[str, Any]) -> str:
    """The sha256 of one link of the chain after the one before ("" for the first)."""
    text = json.dumps({name: value for name, value in entry.items() if name != "link"}, sort_keys=True)
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


def rows_of(path: Path) -> Iterator[Mapping[str, Any]]:
    """A manifest's rows in their order, a part at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=20_000, columns=list(snapshot.COLUMNS)):
            yield from batch.to_pylist()


def clean_snapshots(workspace: Workspace, refs: Mapping[int, str], erasure_id: int, *, now: datetime) -> dict[str, int]:
    """Write tombstones into every snapshot that holds these listings; counts. Safe to repeat."""
    with workspace.db.read() as session:
        found = list(session.execute(select(SnapshotRow.sha256, SnapshotRow.summary).order_by(SnapshotRow.id)))
    n_cleaned = n_lost = 0
    for row in found:
        _remove_former(workspace, row.summary)
        try:
            path = snapshot.manifest(workspace, row.sha256)
        except (NotFoundError, IntegrityError):
            n_lost += not _remove_damaged(workspace, row.summary)
            continue
        n_cleaned += _clean(workspace, row.sha256, path, refs, erasure_id, now=now)
    return {"snapshots": n_cleaned, "snapshots_without_manifest": n_lost}


def delete_exports(workspace: Workspace, refs: Mapping[int, str], erasure_id: int) -> int:
    """Delete the files of every export whose snapshot held these listings; how many."""
    with workspace.db.read() as session:
        found = [(row.id, row.state) for row in _exports(session, erasure_id, refs)]
    n_deleted = 0
    for export_id, state in found:
        if state != exports.MAKING:  # one that is being made notices the erasure itself
            n_deleted += exports.delete(workspace, export_id, by=f"erasure {erasure_id}")
    return n_deleted


def _exports(session: Session, erasure_id: int, refs: Mapping[int, str]) -> Iterator[ExportRow]:
    """Those made before the erasure: any of them may hold the listings."""
    held = {row.id for row in session.execute(select(SnapshotRow)).scalars() if _names(row.summary, erasure_id)}
    for row in session.execute(select(ExportRow).order_by(ExportRow.id)).scalars():
        if row.snapshot_id is None or row.snapshot_id in held:
            yield row


def _names(summary: Mapping[str, Any], erasure_id: int) -> bool:
    return any(entry["erasure"] == erasure_id for entry in summary.get(KEY, ()))


def _clean(workspace: Workspace, sha256: str, path: Path, refs: Mapping[int, str], erasure_id: int, *, now: datetime) -> bool:
    mine = {row["listing_id"] for row in _among(path, "listing_id", list(refs)) if refs[row["listing_id"]] == row["ref"]}
    if not mine:
        return False
    with tempfile.TemporaryDirectory(dir=workspace.files.root, prefix=".snapshot-") as folder:
        made = Path(folder) / "manifest.parquet"
        _rewrite(path, made, mine)
        after = workspace.files.put_file(made, snapshot.SUFFIX)
    entry = {
        "at": now.isoformat(),
        "erasure": erasure_id,
        "n": len(mine),
        "before": path.stem,
        "after": after,
        "remaining": digest(rows_of(workspace.files.path(after, snapshot.SUFFIX))),
    }
    _record(workspace, sha256, entry)
    path.unlink(missing_ok=True)
    return True


def _among(path: Path, column: str, wanted: Sequence[Any]) -> list[dict[str, Any]]:
    """The manifest's rows, but for tombstones, whose `column` holds one of these values."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(
        path, columns=["listing_id", "ref", "group_key", "content_sha256"], filters=pc.field(column).isin(wanted)
    )
    return [row for row in table.to_pylist() if row["content_sha256"]]


def _rewrite(path: Path, target: Path, erased: Collection[int]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    named = {row["group_key"] for row in _among(path, "listing_id", list(erased))}
    groups = {row["group_key"] for row in _among(path, "group_key", sorted(named)) if row["listing_id"] not in erased}
    with pq.ParquetFile(path) as file, pq.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer:
        for batch in file.iter_batches(batch_size=20_000):
            rows = [_buried(row, groups) if row["listing_id"] in erased else row for row in batch.to_pylist()]
            writer.write_table(pa.Table.from_pylist(rows, schema=file.schema_arrow))


def _buried(row: Mapping[str, Any], groups: Collection[str]) -> dict[str, Any]:
    """A group's name stays where others are in it; a catalog may have named it after its listing."""
    kept = {name: row[name] if name in KEPT else TOMBSTONE.get(name) for name in row}
    return kept | {"group_key": row["group_key"] if row["group_key"] in groups else row["ref"]}


def _record(workspace: Workspace, sha256: str, entry: Mapping[str, Any]) -> None:
    with workspace.db.write() as session:
        kept = session.execute(select(SnapshotRow.summary).where(SnapshotRow.sha256 == sha256)).scalar_one()
        chain = list(kept.get(KEY, ()))
        chain.append({**entry, "link": link(chain[-1]["link"] if chain else "", entry)})
        path = workspace.files.path(entry["after"], snapshot.SUFFIX)
        summary = {**kept, "manifest_sha256": entry["after"], "n_bytes": path.stat().st_size, KEY: chain}
        session.execute(update(SnapshotRow).where(SnapshotRow.sha256 == sha256).values(summary=summary))


def _remove_former(workspace: Workspace, summary: Mapping[str, Any]) -> None:
    """What a kill between the record and the removal left behind."""
    for entry in summary.get(KEY, ()):
        workspace.files.path(entry["before"], snapshot.SUFFIX).unlink(missing_ok=True)


def _remove_damaged(workspace: Workspace, summary: Mapping[str, Any]) -> bool:
    """A manifest that does not match its sha256 may say anything; whether there was one."""
    path = workspace.files.path(summary["manifest_sha256"], snapshot.SUFFIX)
    was_there = path.is_file()
    path.unlink(missing_ok=True)
    return was_there
