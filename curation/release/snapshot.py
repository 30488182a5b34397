"""Snapshots: one consistent state of all labels, frozen in a Parquet manifest.

A snapshot is named by the sha256 of its canonical content, not of its Parquet bytes, which carry
the writer's version: the same state has the same name on every machine. The bytes are checked
against ``summary["manifest_sha256"]`` before every use.
"""

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from curation import crash
from curation.errors import InputError, IntegrityError, NotFoundError, shorten
from curation.release.labels import LabelState, pages
from curation.store import erasure
from curation.store.files import SHA256, remove_leftovers
from curation.store.jobs import insert_new
from curation.store.tables import ListingRow, SnapshotRow
from curation.store.workspace import Workspace
from curation.types import Question

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "refurbish-snapshot-1"
SUFFIX = ".parquet"
DRAFT = ".snapshot-"
PREFIX_MIN = 8
"""Hex digits that are enough to name a snapshot on the command line."""

COLUMNS = {
    "listing_id": "int64",
    "ref": "string",
    "content_sha256": "string",
    "group_key": "string",
    "split": "string",
    "seller_category": "string",
    "category": "string",
    "category_source": "string",
    "category_confidence": "double",
    "category_evidence": "string",
    "violation": "string",
    "violation_source": "string",
    "violation_confidence": "double",
    "violation_evidence": "string",
    "n_annotators": "int64",
    "run_id": "int64",
}
"""Columns of a manifest and their Arrow types; evidence is JSON text, `run_id` the refurbishing run or null."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A frozen state of all labels. `summary` counts listings, splits and labels by source."""

    id: int
    sha256: str
    n_listings: int
    summary: Mapping[str, Any]
    created_at: datetime


@dataclass(slots=True)
class Tally:
    """What is counted and hashed while the rows go by."""

    digest: Any = field(default_factory=lambda: hashlib.sha256(json.dumps([FORMAT, *COLUMNS]).encode()))
    n_listings: int = 0
    n_annotated: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    sources: dict[str, Counter[str]] = field(default_factory=lambda: {question.value: Counter() for question in Question})

    def add(self, row: LabelState) -> None:
        """Count and hash one row."""
        self.hash_row([getattr(row, name) for name in COLUMNS])
        self.n_listings += 1
        self.n_annotated += row.n_annotators > 0
        self.splits[row.split] += 1
        for question, counts in self.sources.items():
            counts[getattr(row, f"{question}_source") or "unlabelled"] += 1

    def hash_row(self, values: Sequence[Any]) -> None:
        """Take one row, its values in the order of COLUMNS, into the snapshot's name."""
        line = json.dumps(values, ensure_ascii=False, allow_nan=False)
        self.digest.update(b"\n" + line.encode())

    def summary(self) -> dict[str, Any]:
        """What is counted, as it is kept."""
        return {
            "n_listings": self.n_listings,
            "n_annotated": self.n_annotated,
            "splits": dict(self.splits),
            "labels": {question: dict(counts) for question, counts in self.sources.items()},
        }


def create(workspace: Workspace, *, now: datetime) -> Snapshot:
    """Freeze the labels as they are; the same state gives the same sha256 and the same row.

    Everything is read in one consistent transaction, in pages, so memory does not grow with the
    catalog. Read again if listings are erased meanwhile. Raises InputError if there are no listings, or no room.
    """
    try:
        while (found := _frozen(workspace, now=now)) is None:
            pass
    except OSError as error:
        raise InputError(
            f"the snapshot cannot be written to {workspace.files.root}: {error}; make room, then try again"
        ) from error
    return found


def _frozen(workspace: Workspace, *, now: datetime) -> Snapshot | None:
    """None where listings were erased since they were read: nothing of them is kept."""
    workspace.files.root.mkdir(parents=True, exist_ok=True)
    remove_leftovers(workspace.files.root, DRAFT)
    with tempfile.TemporaryDirectory(dir=workspace.files.root, prefix=DRAFT) as folder:
        path = Path(folder) / "manifest.parquet"
        with workspace.db.read() as session:
            seen = erasure.newest(session)
            tally = _write(pages(session), path)
            if not tally.n_listings:
                raise InputError("there are no listings to take a snapshot of; run `refurbish ingest` first")
            n_groups = session.execute(select(func.count(ListingRow.group_key.distinct()))).scalar_one()
        n_bytes = path.stat().st_size
        manifest = workspace.files.put_file(path, SUFFIX)
    crash.reached("snapshot.before_row")
    summary = {**tally.summary(), "n_groups": n_groups, "n_bytes": n_bytes, "manifest_sha256": manifest}
    return _record(workspace, tally.digest.hexdigest(), summary, seen, now=now)


def _write(batches: Iterator[list[LabelState]], path: Path) -> Tally:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()], metadata={"refurbish": FORMAT})
    tally = Tally()
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=6) as writer:
        for rows in batches:
            for row in rows:
                tally.add(row)
            columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
            writer.write_table(pa.table(columns, schema=schema), row_group_size=len(rows))
    return tally


def _record(workspace: Workspace, sha256: str, summary: dict[str, Any], seen: int, *, now: datetime) -> Snapshot | None:
    with workspace.db.write() as session:
        erasure.hold(session)
        if erasure.newest(session) != seen:
            workspace.files.path(summary["manifest_sha256"], SUFFIX).unlink(missing_ok=True)
            return None
        insert_new(session, SnapshotRow, [{"sha256": sha256, "summary": summary, "created_at": now}], ["sha256"])
        found = get(session, sha256)
        if not workspace.files.has(found.summary["manifest_sha256"], SUFFIX):
            # the file was lost, or another version of the writer made it: the content is the same
            session.execute(update(SnapshotRow).where(SnapshotRow.sha256 == sha256).values(summary=summary))
            session.expire_all()
            found = get(session, sha256)
    return found


def get(session: Session, sha256: str) -> Snapshot:
    """The snapshot with this sha256, or with a prefix of it that names only one. Raises NotFoundError."""
    is_prefix = PREFIX_MIN <= len(sha256) < 64 and SHA256.fullmatch(sha256.ljust(64, "0"))
    if not is_prefix and not SHA256.fullmatch(sha256):
        raise NotFoundError(f"{shorten(sha256)} is not a snapshot's sha256 (at least {PREFIX_MIN} hex digits)")
    rows = session.execute(select(SnapshotRow).where(SnapshotRow.sha256.startswith(sha256)).limit(2)).scalars().all()
    if len(rows) != 1:
        problem = "names several snapshots; give more digits" if rows else "is not known; see `refurbish runs` for those used"
        raise NotFoundError(f"snapshot {shorten(sha256)} {problem}")
    return _as_snapshot(rows[0])


def by_id(session: Session, snapshot_id: int) -> Snapshot:
    """The snapshot with this id. Raises NotFoundError."""
    row = session.get(SnapshotRow, snapshot_id)
    if row is None:
        raise NotFoundError(f"snapshot {snapshot_id} is not known")
    return _as_snapshot(row)


def load(workspace: Workspace, sha256: str) -> "pd.DataFrame":
    """The manifest as a frame, one row per listing ordered by listing_id; columns as in COLUMNS.

    Absent text is missing, `run_id` is nullable Int64. Listings that were erased since are left out. Raises NotFoundError
    or IntegrityError if the stored file is gone or was changed.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    with _checked(workspace, sha256) as file:
        table = pq.read_table(file)
    frame: pd.DataFrame = table.drop_columns("run_id").to_pandas()
    frame["run_id"] = pd.array(table["run_id"].to_pylist(), dtype="Int64")
    return frame[frame["content_sha256"] != ""].reset_index(drop=True)


def manifest(workspace: Workspace, sha256: str) -> Path:
    """The checked manifest file. Raises NotFoundError or IntegrityError."""
    with _checked(workspace, sha256) as file:
        return Path(file.name)


@contextmanager
def _checked(workspace: Workspace, sha256: str) -> Iterator[BinaryIO]:
    """The open manifest, whose bytes are those that were hashed, whatever takes its place meanwhile."""
    with workspace.db.read() as session:
        found = get(session, sha256)
    expected = found.summary["manifest_sha256"]
    path = workspace.files.path(expected, SUFFIX)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFoundError(f"the manifest {path} of snapshot {found.sha256[:12]} is gone; restore it from a backup") from None
    with file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != expected:
            raise IntegrityError(
                f"the manifest {path} of snapshot {found.sha256[:12]} holds sha256 {actual}; it was changed, "
                "restore it from a backup"
            )
        file.seek(0)
        yield file


def _as_snapshot(row: SnapshotRow) -> Snapshot:
    return Snapshot(row.id, row.sha256, int(row.summary["n_listings"]), row.summary, row.created_at)
