"""Ten busy days at once: what the receiver, the queue, the pages and the memory do at ten times a busy day's rate.

    python -m tests.benchmarks.trust_load            # 10 minutes over a million listings, then the memory of the rest
    python -m tests.benchmarks.trust_load --short    # 1 minute over 100,000 listings

A busy day: 100 moderators, 720 decisions each in eight hours, every decision a webhook: 72,000, 2.5 a second. Deliveries are due
at fixed times whatever the answers take, each over a new connection as Label Studio's are; what is shown is the time from
when one was due to its answer. Real `refurbish serve` and `refurbish worker`, over a catalog of which moderators have decided a
tenth: 100,000 labels of a million. Afterwards a bulk action brings thousands of labels at once.
"""

import argparse
import json
import os
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import func, select

from curation.console import table
from curation.store import schema
from curation.store.db import Database
from curation.store.tables import AnnotationRow, Inbox, JobRow, LabelRow
from curation.store.workspace import set_state
from tests.benchmarks import memory, pages
from tests.benchmarks.load_watch import Seen, Watch
from tests.benchmarks.receiver import exchange
from tests.serving import Served, served, working

MODERATORS, DECISIONS, HOURS, TIMES = 100, 720, 8, 10
RATE = TIMES * MODERATORS * DECISIONS / (HOURS * 3600)
"""Deliveries a second."""

KINDS = "ingest,consensus"
PER_BULK = 1000
N_SENDERS = 16
FIRST_ID = 10_000_000
"""Annotations and tasks of ours; below are those of the filled catalog."""


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    minutes: float
    n_listings: int
    n_bulk: int  #: labels that come at once
    n_memory: int  #: listings of the memory figures


FULL = Size(10.0, 1_000_000, 5_000, 1_000_000)
SHORT = Size(1.0, 100_000, 1_000, 100_000)


def run(short: bool) -> list[tuple[str, str]]:
    """(what, figure) of the load, and of the memory at many listings."""
    size = SHORT if short else FULL
    found = load(size)
    return found + [
        (f"peak of {one.name}, {size.n_memory:,} listings", f"{one.mib:.0f} MiB") for one in memory.measure(size.n_memory)
    ]


def load(size: Size) -> list[tuple[str, str]]:
    """The busy day, and the labels at once."""
    with tempfile.TemporaryDirectory(prefix="load-") as name, _system(Path(name), size) as (service, worker_pid):
        watch = Watch(service, worker_pid)
        busy = watch.during(lambda seen: _send(service.port, _decisions(round(60 * size.minutes * RATE), size), RATE, seen))
        wrong = _check(service.database_url, len(busy.answer_ms))
        bulk = watch.during(lambda seen: _send(service.port, _bulks(size), 2.0, seen))
        n_labels = _n_labels(service.database_url)
        watch.close()
    return _busy_rows(size, busy, wrong) + _bulk_rows(size, bulk, n_labels)


@contextmanager
def _system(folder: Path, size: Size) -> Iterator[tuple[Served, int]]:
    url = f"sqlite:///{folder / 'refurbish.db'}"
    db = Database(url)
    schema.upgrade(db)
    memory.fill(db, size.n_listings)
    with db.write() as session:
        set_state(session, "labelstudio.project", {"id": 1, "url": "http://127.0.0.1:1"}, now=pages.NOW)
    db.dispose()
    with served(folder, url) as service, working(folder, "--kinds", KINDS, home=folder / "home", database_url=url) as worker:
        yield service, worker.pid


def _send(port: int, bodies: Sequence[bytes], rate: float, seen: Seen) -> None:
    """Each body when it is due; the senders are many enough not to be what is measured."""
    start_s = time.perf_counter() + 0.2

    def deliver(at: int) -> None:
        due_s = start_s + at / rate
        time.sleep(max(0.0, due_s - time.perf_counter()))
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            seen.answers[exchange(connection, bodies[at], keep=False)] += 1
        seen.answer_ms.append(1000 * (time.perf_counter() - due_s))

    with ThreadPoolExecutor(N_SENDERS) as senders:
        list(senders.map(deliver, range(len(bodies))))


def _annotation(number: int, listing: int, at: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a person said about a listing of the filled catalog, and its task."""
    leaf = number % pages.N_LEAVES
    path = [f"Branch {leaf % pages.N_ROOTS}", f"Leaf {leaf}"]
    result = [
        {"from_name": "category", "to_name": "title", "type": "taxonomy", "value": {"taxonomy": [path]}},
        {"from_name": "violation", "to_name": "title", "type": "choices", "value": {"choices": ["none"]}},
    ]
    task = {"id": FIRST_ID + listing, "data": {"listing_id": f"L{listing:07d}", "title": "x" * 60, "description": "word " * 60}}
    annotation = {
        "id": FIRST_ID + number,
        "task": FIRST_ID + listing,
        "result": result,
        "completed_by": 1000 + number % MODERATORS,
        "was_cancelled": False,
        "ground_truth": False,
        "updated_at": at.isoformat(),
        "lead_time": 8.0,
    }
    return annotation, task


def _decisions(n: int, size: Size) -> list[bytes]:
    """`n` webhooks of one decision each, of Label Studio's shape and size (about 6 kB)."""
    project = {f"setting_{i}": "x" * 40 for i in range(48)} | {"id": 1, "label_config": "<View>" + " " * 2000 + "</View>"}
    made = []
    for number in range(n):
        annotation, task = _annotation(number, number % size.n_listings, pages.NOW + timedelta(seconds=number))
        body = {"action": "ANNOTATION_CREATED", "annotation": annotation, "task": task, "project": project}
        made.append(json.dumps(body).encode())
    return made


def _bulks(size: Size) -> list[bytes]:
    """Webhooks of a bulk action, a thousand annotations each."""
    made = []
    for first in range(0, size.n_bulk, PER_BULK):
        numbers = range(FIRST_ID + first, FIRST_ID + first + PER_BULK)
        pairs = [_annotation(number, number % size.n_listings, pages.NOW + timedelta(days=1)) for number in numbers]
        annotations, tasks = ([pair[at] for pair in pairs] for at in (0, 1))
        body = {"action": "ANNOTATIONS_CREATED", "annotation": annotations, "task": tasks, "project": {"id": 1}}
        made.append(json.dumps(body).encode())
    return made


def _check(url: str, n_sent: int) -> list[str]:
    """What is wrong: nothing, if every delivery is in the inbox, applied, and counts once for each question."""
    db = Database(url)
    with db.read() as session:
        counted = {
            "in the inbox": select(func.count()).select_from(Inbox),
            "applied": select(func.count()).select_from(Inbox).where(Inbox.state == "applied"),
            "jobs done": select(func.count()).select_from(JobRow).where(JobRow.kind == "ingest", JobRow.state == "done"),
        }
        found = {name: session.execute(query).scalar_one() for name, query in counted.items()}
        rows = select(AnnotationRow.source_id, AnnotationRow.question).where(AnnotationRow.is_current.is_(True))
        pairs = [row for row in session.execute(rows).all() if int(row.source_id) >= FIRST_ID]
    db.dispose()
    wrong = [f"{n:,} {name}, not {n_sent:,}" for name, n in found.items() if n != n_sent]
    if len(pairs) != 2 * n_sent or len(set(pairs)) != len(pairs):
        wrong.append(f"{len(pairs):,} answers that count ({len(set(pairs)):,} distinct), not {2 * n_sent:,}")
    return wrong


def _n_labels(url: str) -> int:
    db = Database(url)
    with db.read() as session:
        n: int = session.execute(select(func.count()).select_from(LabelRow).where(LabelRow.source == "moderators")).scalar_one()
    db.dispose()
    return n


def _busy_rows(size: Size, seen: Seen, wrong: list[str]) -> list[tuple[str, str]]:
    waiting = [n for _, n in seen.queue]
    return [
        ("catalog", f"{size.n_listings:,} listings, {size.n_listings // 10:,} labels of moderators"),
        ("busy day", f"{MODERATORS} moderators × {DECISIONS} decisions in {HOURS} h; {TIMES} × = {RATE:.0f} deliveries a second"),
        ("deliveries", f"{len(seen.answer_ms):,} in {size.minutes:g} minutes, answered {_named(seen.answers)}"),
        ("receiver p50, p99, worst", _quantiles(seen.answer_ms, 0.5, 0.99, 1.0)),
        ("queue: median, longest, drained in", f"{np.median(waiting):.0f}, {max(waiting):,} jobs, {seen.drain_s:.1f} s"),
        *_memory_rows(seen),
        (
            "pages p95, API p95 meanwhile",
            f"{_quantiles(seen.page_ms, 0.95)}, {_quantiles(seen.api_ms, 0.95)}; failed {_named(+seen.failed) or 0}",
        ),
        ("lost or applied twice", "; ".join(wrong) or "0"),
    ]


def _bulk_rows(size: Size, seen: Seen, n_labels: int) -> list[tuple[str, str]]:
    return [
        (
            f"{size.n_bulk:,} labels at once",
            f"applied in {seen.queue[-1][0] - seen.queue[0][0]:.0f} s, moderators' labels {n_labels:,}",
        ),
        ("… receiver worst", _quantiles(seen.answer_ms, 1.0)),
        *((f"… {name}", value) for name, value in _memory_rows(seen)),
        (
            "… pages p95, API p95",
            f"{_quantiles(seen.page_ms, 0.95)}, {_quantiles(seen.api_ms, 0.95)}; failed {_named(+seen.failed) or 0}",
        ),
    ]


def _memory_rows(seen: Seen) -> Iterator[tuple[str, str]]:
    for name, looks in seen.rss.items():
        at_s, mib = np.array(looks).T
        half = len(mib) // 2
        slope = 60 * np.polyfit(at_s[half:], mib[half:], 1)[0] if len(mib) - half > 2 else float("nan")
        words = f"{mib[0]:.0f}, {mib[half]:.0f}, {mib[-1]:.0f} MiB; slope of the second half {slope:+.2f} MiB/min"
        yield f"memory of the {name}: start, middle, end", words


def _quantiles(ms: Sequence[float], *shares: float) -> str:
    return ", ".join(f"{np.quantile(ms, share):.0f}" for share in shares) + " ms"


def _named(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.most_common())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a minute, and less of everything")
    parser.add_argument("--without-memory", action="store_true", help="only the load; see tests.benchmarks.memory for the rest")
    parser.add_argument("--minutes", type=float, help="of the load")
    chosen = parser.parse_args()
    size = SHORT if chosen.short else FULL
    size = replace(size, minutes=chosen.minutes or size.minutes)
    found = load(size) if chosen.without_memory else run(chosen.short)
    print(f"{os.cpu_count()} cores, SQLite")
    print(table(found, ("load", "")))
    return int(dict(found)["lost or applied twice"] != "0")


if __name__ == "__main__":
    sys.exit(main())
