"""Seconds and peak memory of a snapshot and of each export, in a process of its own each.

python -m tests.benchmarks.release --n 1000000
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert

from curation import settings
from curation.release import export, snapshot
from curation.store import schema
from curation.store.tables import Category, LabelRow, ListingRow
from curation.store.workspace import Workspace

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TEXT = "A well kept item from a home without pets, collected in person or sent for a small fee. " * 4
PAGE = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="release-") as folder:
        home = Path(folder)
        _measured("fill (not ours)", options.n, lambda: fill(home, options.n))
        _measured("snapshot", options.n, lambda: _snapshot(home))
        for fmt in export.FORMATS:
            _measured(f"export {fmt}", options.n, lambda fmt=fmt: _export(home, fmt))


def _measured(name: str, n: int, work: Callable[[], None]) -> None:
    """Run it in a forked process; say seconds and that process's peak memory."""
    started_s = time.monotonic()
    process = multiprocessing.get_context("fork").Process(target=_and_say_memory, args=(name, n, work, started_s))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{name} failed")


def _and_say_memory(name: str, n: int, work: Callable[[], None], started_s: float) -> None:
    work()
    seconds, peak_mib = time.monotonic() - started_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:<16} {n:>9,} listings {seconds:7.1f} s {n / seconds:>9,.0f}/s  peak {peak_mib:6.0f} MiB", flush=True)


def _open(home: Path) -> Workspace:
    return Workspace.open(settings.load(home=home), check=False)


def _snapshot(home: Path) -> None:
    snapshot.create(_open(home), now=NOW)


def _export(home: Path, fmt: str) -> None:
    export.write(_open(home), home / f"out-{fmt}", fmt, now=NOW)


def fill(home: Path, n: int) -> None:
    """`n` listings in 50 categories with a seller label each, every 20th decided by a moderator."""
    workspace = _open(home)
    schema.upgrade(workspace.db)
    with workspace.db.write() as session:
        paths = [f"Root {i % 8} / Leaf {i}" for i in range(50)]
        session.execute(insert(Category), [{"path": path, "name": path, "is_leaf": True} for path in paths])
        for listings, labels in _rows(n, paths):
            session.execute(insert(ListingRow), listings)
            session.execute(insert(LabelRow), labels)
    workspace.close()


def _rows(n: int, paths: list[str]) -> Iterator[tuple[list[dict[str, object]], list[dict[str, object]]]]:
    for start in range(1, n + 1, PAGE):
        numbers = range(start, min(start + PAGE, n + 1))
        yield [_listing(i) for i in numbers], [_label(i, paths[i % 50]) for i in numbers]


def _listing(i: int) -> dict[str, object]:
    return {
        "id": i,
        "ref": f"ad-{i:08d}",
        "title": f"Item no {i}",
        "description": f"{i}: {TEXT}",
        "price": i % 900 + 0.5,
        "currency": "EUR",
        "attributes": {"brand": "Acme", "condition": "used"},
        "images": [{"sha256": f"{i:064x}", "width_px": 512, "height_px": 384, "dhash": f"{i:016x}"}],
        "category_id": i % 50 + 1,
        "flags": [],
        "content_sha256": f"{i * 7919:064x}",
        "group_key": f"ad-{i:08d}",
        "created_at": NOW,
    }


def _label(i: int, path: str) -> dict[str, object]:
    decided = i % 20 == 0
    vote = {"annotation": i, "annotator": "7", "value": path, "at": NOW.isoformat(), "origin": "manual"}
    return {
        "listing_id": i,
        "question": "category",
        "value": path,
        "source": "moderators" if decided else "seller",
        "confidence": 0.9 if decided else None,
        "evidence": {"rule": "majority", "votes": [vote]} if decided else {},
        "changed_at": NOW,
    }


if __name__ == "__main__":
    main()
