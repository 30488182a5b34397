"""How long pages take over a database of a million listings, and what they weigh.

    python -m tests.benchmarks.pages                 # SQLite, 1,000,000 listings
    python -m tests.benchmarks.pages --postgres

Listings, labels, history, annotations, doubts, questions, runs and reports are written straight into the tables of an empty
database. Then a real `refurbish serve` answers, page after page: every page that an admin reaches by links, each asked 20
times. The bars: 200 ms a page, 150 kB without photos.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert

from curation.console import Progress, table
from curation.store import people, schema
from curation.store.base import Base
from curation.store.db import Database
from curation.store.people import Role
from curation.store.service_tables import Report
from curation.store.tables import (
    AnnotationRow,
    Category,
    LabelHistory,
    LabelRow,
    ListingRow,
    ReviewItem,
    RunRow,
    SuspectRow,
    TaskRow,
)
from curation.types import VIOLATIONS
from tests.serving import postgres, served
from tests.visitor import Visitor

N_ROOTS, N_LEAVES = 12, 240
PASSWORD = "a password for measuring"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
CHUNK = 20_000
BAR_MS, BAR_BYTES = 200.0, 150_000


def fill(db: Database, n: int, seed: int = 1, *, doubted_every: int = 10) -> None:
    """`n` listings, a tenth of them decided, a tenth (or one in `doubted_every`) doubted, a hundredth waiting."""
    rng = np.random.default_rng(seed)
    paths = [f"Branch {at % N_ROOTS} / Leaf {at}" for at in range(N_LEAVES)]
    nodes = [{"id": 1 + at, "path": f"Branch {at}", "name": f"Branch {at}", "is_leaf": False} for at in range(N_ROOTS)]
    nodes += [
        {"id": 1 + N_ROOTS + at, "path": path, "name": f"Leaf {at}", "parent_id": 1 + at % N_ROOTS, "is_leaf": True}
        for at, path in enumerate(paths)
    ]
    _insert(db, Category, iter(nodes), len(nodes))
    given, true = rng.integers(N_LEAVES, size=n), rng.integers(N_LEAVES, size=n)
    at = [NOW - timedelta(days=float(day)) for day in rng.uniform(0, 365, size=1000)]
    _insert(db, ListingRow, (_listing(i, int(given[i]), at[i % 1000]) for i in range(n)), n)
    decided = set(range(0, n, 10))
    rows = (_label(i, paths[true[i]] if i in decided else paths[given[i]], i in decided, at[i % 1000]) for i in range(n))
    _insert(db, LabelRow, rows, n)
    few = range(0, n, 10)
    _insert(db, LabelHistory, (_change(i, paths[given[i]], paths[true[i]], at[i % 1000]) for i in few), len(few))
    _insert(db, TaskRow, (_task(i, at[i % 1000]) for i in few), len(few))
    _insert(db, AnnotationRow, (_said(i, paths[true[i]], at[i % 1000]) for i in few), len(few))
    _insert(db, RunRow, (_run(i) for i in range(1, 31)), 30)
    doubted = range(1, n, doubted_every)
    rows = (_doubt(i, rank, paths[given[i]], paths[true[i]]) for rank, i in enumerate(doubted))
    _insert(db, SuspectRow, rows, len(doubted))
    asked = [*range(0, n, 10), *range(1, n, 100)]
    _insert(db, ReviewItem, (_question(i, i in decided, at[i % 1000]) for i in asked), len(asked))
    reported = range(2, n, 50)
    _insert(db, Report, (_report(i, at[i % 1000]) for i in reported), len(reported))
    with db.write() as session:
        people.put(session, "admin", Role.ADMIN, now=NOW)
        people.set_password(session, "admin", PASSWORD)


def _insert(db: Database, kind: type[Base], rows: Iterator[dict[str, Any]], n: int) -> None:
    progress = Progress(kind.__tablename__, n)
    while part := [row for _, row in zip(range(CHUNK), rows, strict=False)]:
        with db.write() as session:
            session.execute(insert(kind), part)
        progress.advance(len(part))
    progress.done()


def _listing(i: int, leaf: int, at: datetime) -> dict[str, Any]:
    return {
        "id": i + 1,
        "ref": f"L{i:07d}",
        "seller_ref": f"S{i % 50_000}",
        "title": f"Lamp {i % 9973} of brand {i % 211}, hardly used",
        "description": "Sold because we move. " * 4,
        "price": float(i % 900) + 0.5,
        "currency": "EUR",
        "attributes": {"brand": f"B{i % 211}"},
        "images": [],
        "category_id": 1 + N_ROOTS + leaf,
        "flags": [],
        "content_sha256": f"{i:064x}",
        "group_key": f"L{i - i % 3:07d}",
        "listed_at": at,
        "created_at": at,
    }


def _label(i: int, value: str, is_decided: bool, at: datetime) -> dict[str, Any]:
    source = "moderators" if is_decided else "seller"
    return {
        "listing_id": i + 1,
        "question": "category",
        "value": value,
        "source": source,
        "confidence": 0.9,
        "evidence": {},
        "changed_at": at,
    }


def _change(i: int, old: str, new: str, at: datetime) -> dict[str, Any]:
    return {
        "listing_id": i + 1,
        "question": "category",
        "old_value": old,
        "old_source": "seller",
        "value": new,
        "source": "moderators",
        "confidence": 0.9,
        "evidence": {"n_votes": 1},
        "at": at,
    }


def _task(i: int, at: datetime) -> dict[str, Any]:
    return {"source": "labelstudio:1", "task_id": str(i), "listing_ref": f"L{i:07d}", "is_deleted": False, "created_at": at}


def _said(i: int, value: str, at: datetime) -> dict[str, Any]:
    return {
        "source": "labelstudio:1",
        "source_id": str(i),
        "revision": "1",
        "question": "category",
        "task_id": str(i),
        "listing_ref": f"L{i:07d}",
        "outcome": "label",
        "value": value,
        "annotator": str(i % 23),
        "origin": "manual",
        "lead_time_s": 4.0 + i % 17,
        "ground_truth": False,
        "note": "",
        "at": at,
        "is_current": True,
        "seen_at": at,
        "via": "webhook" if i % 100 else "reconcile",
    }


def _run(i: int) -> dict[str, Any]:
    accuracy = {"value": 0.8 + i / 300, "low": 0.75 + i / 300, "high": 0.85 + i / 300, "n": 400}
    return {
        "kind": "retrain",
        "trigger": "enough corrections",
        "config": {"recipe": "refurbish"},
        "report": {"challenger": {"accuracy": accuracy}},
        "state": "refused" if i % 3 else "finished",
        "device": "cpu",
        "n_seconds": 900.0,
        "n_corrections": 100 * i,
        "started_at": NOW - timedelta(days=10 * (31 - i)),
        "finished_at": NOW - timedelta(days=10 * (31 - i)) + timedelta(minutes=15),
    }


def _doubt(i: int, rank: int, given: str, suggested: str) -> dict[str, Any]:
    reason = {"code": "label_issue", "score": 0.9, "words": f"The seller chose {given}; it looks like {suggested}."}
    return {
        "listing_id": i + 1,
        "question": "category",
        "run_id": 30,
        "rank": rank,
        "given": given,
        "suggested": suggested,
        "suggested_score": 0.9,
        "score": rank / 1e6,
        "is_issue": rank < 50_000,
        "reasons": [reason],
    }


def _question(i: int, is_decided: bool, at: datetime) -> dict[str, Any]:
    return {
        "listing_id": i + 1,
        "question": "category",
        "state": "decided" if is_decided else "pushed",
        "reasons": [{"code": "audit" if i % 100 == 0 else "label_issue", "score": 0.5, "words": "Why not."}],
        "priority": 0.5,
        "suggestion": None,
        "suggestion_score": None,
        "batch": "b",
        "n_wanted": 1,
        "created_at": at,
        "pushed_at": at,
        "decided_at": at if is_decided else None,
    }


def _report(i: int, at: datetime) -> dict[str, Any]:
    return {
        "dedupe_key": f"{i:064x}",
        "listing_ref": f"L{i:07d}",
        "reason": VIOLATIONS[i % len(VIOLATIONS)],
        "words": "Looks wrong to me.",
        "reporter": f"R{i % 997}",
        "via": "api",
        "at": at,
        "seen_at": at,
    }


def measure(folder: Path, url: str, n: int, n_times: int) -> None:
    """Fill, serve, ask, print."""
    db = Database(url)
    schema.upgrade(db)
    fill(db, n)
    db.dispose()
    with served(folder, url) as service, Visitor(f"http://127.0.0.1:{service.port}", "admin", PASSWORD) as visitor:
        rows = [_asked(visitor, name, path, n_times) for name, path in visitor.pages().items()]
    print(f"{n:,} listings, {service.kind}, {n_times} times each after the first; bars: {BAR_MS:.0f} ms, {BAR_BYTES:,} bytes")
    print(table(rows, ("page", "first, ms", "median, ms", "p95, ms", "bytes", "bar")))


def _asked(visitor: Visitor, name: str, path: str, n_times: int) -> tuple[object, ...]:
    spent_ms, n_bytes = [], 0
    for _ in range(1 + n_times):
        began_s = time.perf_counter()
        n_bytes = len(visitor.get(path).content)
        spent_ms.append(1000 * (time.perf_counter() - began_s))
    p95_ms = float(np.quantile(spent_ms[1:], 0.95))
    kept = "kept" if p95_ms <= BAR_MS and n_bytes <= BAR_BYTES else "MISSED"
    return name, *(f"{x:.0f}" for x in (spent_ms[0], np.median(spent_ms[1:]), p95_ms)), f"{n_bytes:,}", kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000, help="listings")
    parser.add_argument("--times", type=int, default=20, help="how often each page is asked for")
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL instead of SQLite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.postgres:
            with postgres() as url:
                measure(Path(name), url, options.n, options.times)
        else:
            measure(Path(name), f"sqlite:///{name}/refurbish.db", options.n, options.times)


if __name__ == "__main__":
    main()
