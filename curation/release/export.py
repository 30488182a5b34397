"""A snapshot as a dataset: data files, card, SHA256SUMS and, last, the manifest."""

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from curation import __version__
from curation.errors import InputError, IntegrityError, NotFoundError, shorten
from curation.release import card, folder, noise, rows
from curation.release import snapshot as snapshots
from curation.release.formats import GUARD, NAME_SEPARATOR, Csv, DataFile, JsonLines, Shards, Sink
from curation.release.parquet import Classes, HfParquet, Parquet, hf_schema, plain_schema
from curation.release.rows import Column
from curation.release.snapshot import Snapshot
from curation.store import violations
from curation.store.files import FileStore, sha256_of_file
from curation.store.workspace import Workspace
from curation.types import NO_VIOLATION, Question, Split, split_violations

FORMATS = ("parquet", "jsonl", "csv", "hf")
CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Summary:
    """What an export wrote. `n_photos_missing` counts photos that are not in the store or are damaged there."""

    out: str
    format: str
    snapshot_sha256: str
    n_listings: int
    splits: Mapping[str, int]
    content: Mapping[str, int]
    n_files: int
    n_bytes: int
    n_photos: int
    n_photos_missing: int


@dataclass(slots=True)
class _Photos:
    """Copies photos once each, or counts none at all."""

    media: FileStore
    folder: Path
    wanted: bool
    n_copied: int = 0
    missing: set[str] = field(default_factory=set)

    def copy(self, name: str) -> None:
        target = self.folder / "images" / name[:2] / name
        if not self.wanted or target.exists() or name in self.missing:
            return
        try:
            data = self.media.get(name.removesuffix(".jpg"), ".jpg")
        except (NotFoundError, IntegrityError):
            self.missing.add(name)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        self.n_copied += 1

    def described(self) -> dict[str, Any]:
        return {"copied": self.n_copied, "n_missing": len(self.missing), "missing": sorted(self.missing)[: card.LISTED]}


@dataclass(frozen=True, slots=True)
class _Source:
    """What is being exported, and in which shape."""

    fmt: str
    snapshot: Snapshot
    manifest: Path
    classes: Classes
    columns: Mapping[str, Column]


def write(
    workspace: Workspace,
    out: Path,
    fmt: str,
    *,
    now: datetime,
    snapshot_sha256: str | None = None,
    questions: Collection[Question] = tuple(Question),
    with_images: bool = False,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda n: None,
) -> Summary:
    """Write one snapshot (a new one by default) into the folder `out`, which appears whole or not at all.

    `fmt`: parquet, jsonl, csv or hf. Written are the labels of `questions`, at least one of them; they are the snapshot's even if
    they change meanwhile; a listing whose content is another one by now is marked in `content`. Raises InputError,
    NotFoundError (unknown snapshot) or IntegrityError (damaged manifest).
    """
    if fmt not in FORMATS:
        raise InputError(f"format {shorten(fmt)} is not known; use one of {', '.join(FORMATS)}")
    folder.require_free(out.absolute(), overwrite=overwrite)
    source = _source(workspace, fmt, snapshot_sha256, questions, now=now)
    with folder.building(out, overwrite=overwrite) as part:
        photos = _Photos(workspace.media, part, with_images)
        facts, files = _write_data(workspace, part, source, photos, advance)
        head = card.front_matter(facts) if fmt == "hf" else ""
        text = card.text(facts, source.snapshot, files=[file.path for file in files], front_matter=head)
        (part / CARD).write_text(text, encoding="utf-8")
        sums = _write_sums(part)
        described = {**_manifest(source, facts, files, sums, now=now), "photos": photos.described()}
        (part / folder.MANIFEST).write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        n_bytes = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
    return Summary(
        out=str(out),
        format=fmt,
        snapshot_sha256=source.snapshot.sha256,
        n_listings=facts.n_listings,
        splits=dict(facts.splits),
        content=dict(facts.content),
        n_files=len(sums) + 2,
        n_bytes=n_bytes,
        n_photos=photos.n_copied,
        n_photos_missing=len(photos.missing),
    )


def _source(workspace: Workspace, fmt: str, sha256: str | None, questions: Collection[Question], *, now: datetime) -> _Source:
    if sha256 is None:
        snapshot = snapshots.create(workspace, now=now)
    else:
        with workspace.db.read() as session:
            snapshot = snapshots.get(session, sha256)
    manifest = snapshots.manifest(workspace, snapshot.sha256)
    with workspace.db.read() as session:
        policy = violations.names(session, workspace.settings)
    return _Source(fmt, snapshot, manifest, _classes(manifest, policy), rows.columns_of(questions))


def _classes(manifest: Path, policy: tuple[str, ...]) -> Classes:
    """Every category and violation that occurs; the policy's violations keep their order."""
    import pyarrow.parquet as pq

    categories: set[str] = set()
    found: set[str] = set()
    with pq.ParquetFile(manifest) as file:
        for batch in file.iter_batches(columns=["seller_category", "category", "violation"]):
            categories.update(*(batch[name].unique().to_pylist() for name in ("seller_category", "category")))
            found.update(
                name for value in batch["violation"].unique().to_pylist() for name in split_violations(value or NO_VIOLATION)
            )
    known = sorted(name for name in categories if name is not None)
    return Classes(tuple(known), (*policy, *sorted(found - set(policy))))


def _write_data(
    workspace: Workspace, part: Path, source: _Source, photos: _Photos, advance: Callable[[int], None]
) -> tuple[card.Facts, list[DataFile]]:
    (part / "data").mkdir()
    shards = _shards(part, source)
    with workspace.db.read() as session, ExitStack() as stack:
        for writer in shards.values():
            stack.callback(writer.abandon)
        facts = card.Facts(audited=noise.audit_refs(session), columns=source.columns)
        for batch in rows.read(session, source.manifest):
            for split, writer in shards.items():
                writer.write([row for row in batch if split is None or row["split"] == split])
            for row in batch:
                facts.add(row)
                for name in row["photos"]:
                    photos.copy(name)
            advance(len(batch))
        return facts, [file for writer in shards.values() for file in writer.close()]


def _shards(part: Path, source: _Source) -> dict[Split | None, Shards]:
    """The data files to fill: one set, or for Hugging Face one a split that is not empty (`datasets` refuses empty ones)."""
    snapshot, classes, columns = source.snapshot, source.classes, source.columns
    metadata = {"refurbish.format": folder.FORMAT, "refurbish.snapshot": snapshot.sha256}
    if source.fmt == "hf":
        schema = hf_schema(metadata, classes, columns)
        counts = snapshot.summary["splits"]
        return {
            split: Shards(part, split, ".parquet", counts[split.value], lambda path: HfParquet(path, schema, classes))
            for split in Split
            if counts.get(split.value)
        }
    plain = plain_schema(metadata, columns)
    openers: Mapping[str, Callable[[Path], Sink]] = {
        "parquet": lambda path: Parquet(path, plain),
        "jsonl": lambda path: JsonLines(path, columns),
        "csv": lambda path: Csv(path, columns),
    }
    return {None: Shards(part, "listings", f".{source.fmt}", snapshot.n_listings, openers[source.fmt])}


def _write_sums(part: Path) -> dict[str, str]:
    paths = sorted(path for path in part.rglob("*") if path.is_file())
    sums = {path.relative_to(part).as_posix(): sha256_of_file(path) for path in paths}
    (part / folder.SUMS).write_text("".join(f"{sha256}  {name}\n" for name, sha256 in sums.items()), encoding="utf-8")
    return sums


def _manifest(
    source: _Source, facts: card.Facts, files: list[DataFile], sums: Mapping[str, str], *, now: datetime
) -> dict[str, Any]:
    snapshot, classes = source.snapshot, source.classes
    found = facts.noise()
    return {
        "format": folder.FORMAT,
        "shape": source.fmt,
        "refurbish_version": __version__,
        "written_at": now.isoformat(),
        "snapshot": {"sha256": snapshot.sha256, "created_at": snapshot.created_at.isoformat()},
        "n_listings": facts.n_listings,
        "splits": dict(facts.splits),
        "labels": {question: dict(counts) for question, counts in facts.sources.items()},
        "categories": classes.categories,
        "violations": classes.violations,
        "noise": None if found is None else {"value": found.value, "low": found.low, "high": found.high, "n": found.n},
        "content": {**facts.content, "not_same": facts.not_same},
        "columns": [{"name": name, "kind": column.kind, "meaning": column.words} for name, column in source.columns.items()],
        **(CSV_NOTES if source.fmt == "csv" else {}),
        "files": [{"path": file.path, "n_rows": file.n_rows, "sha256": sums[file.path]} for file in files],
    }


CSV_NOTES = {
    "csv": {
        "dialect": "RFC 4180, UTF-8, CRLF; text cells are quoted, a missing value is empty and unquoted",
        "guard": GUARD,
        "guarded": "in text cells what a spreadsheet could run, and what starts with the guard: remove one guard at the start "
        "of the cell, and one behind each semicolon, tab, carriage return and line feed",
        "names_separator": NAME_SEPARATOR,
        "reader": "curation.release.formats.read_csv",
    }
}
