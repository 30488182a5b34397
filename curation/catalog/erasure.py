"""Erased listings in the data folder: their photos, what was computed of them, and the rows of files that name them."""

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from sqlalchemy import select

from curation.store.tables import ListingRow
from curation.store.workspace import Workspace

CACHE = "cache"
REJECTS = "rejects"
PAGE = 5000


def remove_photos(workspace: Workspace, photos: Collection[str]) -> int:
    """Remove these photos, in all sizes, but for those that other listings show; how many. Safe to repeat."""
    gone = set(photos) - _used(workspace, set(photos))
    for sha256 in sorted(gone):
        for path in workspace.media.path(sha256).parent.glob(f"{sha256}*"):
            path.unlink(missing_ok=True)
    return len(gone)


def clear_cache(workspace: Workspace) -> bool:
    """Drop what was computed of photos: it is made again where it is needed. Whether there was some."""
    folder = workspace.settings.home / CACHE
    was_there = folder.is_dir()
    shutil.rmtree(folder, ignore_errors=True)
    return was_there


def clean_rejects(workspace: Workspace, refs: Collection[str], titles: Collection[str]) -> int:
    """Take the rows of these listings out of the rejects files that we keep; how many rows."""
    folder = workspace.settings.home / REJECTS
    return sum(_without(path, set(refs), set(titles)) for path in sorted(folder.glob("*.jsonl")))


def _used(workspace: Workspace, photos: set[str]) -> set[str]:
    """Which of the photos a listing still shows."""
    return {sha256 for page in _shown(workspace) for sha256 in page if sha256 in photos} if photos else set()


def _shown(workspace: Workspace) -> Iterator[list[str]]:
    after_id = 0
    while True:
        with workspace.db.read() as session:
            query = select(ListingRow.id, ListingRow.images).where(ListingRow.id > after_id).order_by(ListingRow.id)
            rows = session.execute(query.limit(PAGE)).all()
        if not rows:
            return
        after_id = rows[-1].id
        yield [photo["sha256"] for row in rows for photo in row.images]


def _without(path: Path, refs: set[str], titles: set[str]) -> int:
    """Rewrite a file without the lines that name one of the listings or hold its title."""
    n_gone = 0
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    with path.open(encoding="utf-8") as lines, os.fdopen(handle, "w", encoding="utf-8") as kept:
        for line in lines:
            if _is_about(line, refs, titles):
                n_gone += 1
            else:
                kept.write(line)
    os.replace(part, path)
    return n_gone


def _is_about(line: str, refs: set[str], titles: set[str]) -> bool:
    try:
        said = json.loads(line)
    except ValueError:
        return True
    values = said.get("values") or {}
    texts = {str(value) for value in values.values()}
    raw = str(said.get("raw") or "")
    return bool(texts & refs or texts & titles or any(one in raw for one in (*refs, *titles)))
