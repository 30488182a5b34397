"""Deliveries to a receiver and workers that are killed at every point, stalled, raced and cut off from their database.

The ledger is compared with that of one clean pass, row by row: what is missing was lost, what is too much was applied twice.
"""

import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curation.store.workspace import Workspace
from tests import crew, deliveries, ledger
from tests.conftest import make_workspace
from tests.crew import Crew
from tests.serving import PostgresServer, postgres_server, served

RECEIVER_POINTS = ("receiver.before_commit", "receiver.after_commit")
WORKER_POINTS = ("worker.after_claim", "ingest.before_commit", "ingest.after_part", "ingest.after_commit", "worker.after_finish")


@dataclass
class Told:
    """What was done to one database's processes."""

    n_sent: int = 0
    n_bodies: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    n_stalls: int = 0
    n_restarts: int = 0


def run(short: bool) -> list[tuple[str, str]]:
    """Rows of both databases, ordered (kills) and in any order (races, stalls, restarts)."""
    n_listings, n_rounds = (16, 1) if short else (160, 3)
    found: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="trust-") as name, postgres_server() as server:
        for kind, url in (("SQLite", f"sqlite:///{name}/refurbish.db"), ("PostgreSQL", server.url)):
            folder = Path(name) / kind
            folder.mkdir()
            began_s = time.monotonic()
            found += [(f"{kind}: {what}", figure) for what, figure in _measured(folder, url, server, n_listings, n_rounds)]
            found.append((f"{kind}: seconds", f"{time.monotonic() - began_s:.0f}"))
    return found


def _measured(folder: Path, url: str, server: PostgresServer, n_listings: int, n_rounds: int) -> Iterator[tuple[str, str]]:
    told, total = Told(), ledger.Difference((), ())
    n_effects = n_broken = 0
    for name, ordered in (("ordered", True), ("raced", False)):
        workspace = make_workspace(folder / name, server.another(name) if url.startswith("postgresql") else f"{url}.{name}")
        deliveries.catalog(workspace, n_listings)
        bodies = deliveries.review(n_listings, n_bulk=max(2, n_listings // 20))
        sent = deliveries.with_duplicates(bodies, 0.3)
        (_ordered if ordered else _raced)(folder, workspace, server, sent, n_rounds, told)
        crew_of(workspace).finish()
        expected = ledger.clean_pass(folder / name, sent, n_listings, ordered=ordered)
        rows = ledger.rows(workspace.db, ordered=ordered)
        found = ledger.compare(expected, rows)
        total = ledger.Difference(total.lost + found.lost, total.twice + found.twice)
        n_broken += len(ledger.broken_histories(workspace.db))
        n_effects += sum(n for row, n in rows.items() if row[0] != "delivery")
        told.n_bodies += len(set(sent))
        workspace.close()
    yield "deliveries sent", f"{told.n_sent:,}"
    yield "of them sent again (duplicates, unanswered)", f"{told.n_sent - told.n_bodies:,}"
    yield "processes killed", f"{told.kills.total()} ({', '.join(f'{n} × {point}' for point, n in sorted(told.kills.items()))})"
    yield "workers stalled longer than their lease", f"{told.n_stalls}"
    if url.startswith("postgresql"):
        yield "database killed and restarted under them", f"{told.n_restarts}"
    yield "rows compared with a clean pass", f"{n_effects:,}"
    yield "lost", f"{len(total.lost)}"
    yield "applied twice", f"{len(total.twice)}"
    yield "broken histories", f"{n_broken}"


def crew_of(workspace: Workspace) -> Crew:
    return Crew(workspace.settings.home, workspace.settings.url)


def _ordered(
    folder: Path, workspace: Workspace, server: PostgresServer, sent: Sequence[bytes], n_rounds: int, told: Told
) -> None:
    """One sender and one worker at a time, so that every label's history must be that of the clean pass."""
    parts = _parts(sent, n_rounds)
    for part in parts:
        half = len(part) // 2
        for point, bodies in zip(RECEIVER_POINTS, (part[:half], part[half:]), strict=True):
            with served(folder / "serve", workspace.settings.url, crash_at=f"{point}:25") as service:
                n_unanswered = crew.send(service, bodies)
            told.n_sent += len(bodies) + n_unanswered
            told.kills[point] += service.log.read_text(errors="replace").count("SIGKILL")
            service.log.unlink()
        for point in WORKER_POINTS:
            crew_of(workspace).die_at(point if point == "ingest.after_part" else f"{point}:5")
            told.kills[point] += 1
            crew.wait_for_leases(workspace.db)
        crew_of(workspace).finish()


def _raced(folder: Path, workspace: Workspace, server: PostgresServer, sent: Sequence[bytes], n_rounds: int, told: Told) -> None:
    """Two workers at once while deliveries come out of order; stalled, killed, and on PostgreSQL without their database."""
    with served(folder / "serve", workspace.settings.url) as service:
        for part in _parts(deliveries.reordered(sent), n_rounds):
            with crew_of(workspace).working(2) as hands:
                told.n_sent += len(part) + crew.send(service, part[: len(part) // 2])
                if not workspace.db.is_sqlite:
                    _wait_for_all(hands, workspace)
                    server.restart()
                    told.n_restarts += 1
                told.n_sent += crew.send(service, part[len(part) // 2 :])
                told.n_stalls += _stalled(hands[0], workspace)
            told.kills["anywhere"] += 2


def _wait_for_all(hands: Sequence[crew.Hand], workspace: Workspace) -> None:
    """A worker that starts while its database does not answer ends at once, for its supervisor to start it again."""

    def have_begun() -> bool:
        return all('"event": "job"' in hand.told for hand in hands) or not crew.n_pending(workspace.db)

    crew.wait_until(have_begun, "a worker does not begin")


def _stalled(hand: crew.Hand, workspace: Workspace) -> int:
    """Stop a worker with a job until another has taken that; 0 where all work was done before."""
    if hand.process.poll() is not None:
        return 0
    with contextlib.suppress(crew.NothingLeft):
        crew.stall_with_a_job(hand, workspace.db)
        time.sleep(2 * crew.LEASE_S)
        hand.go_on()
        return 1
    return 0


def _parts(sent: Sequence[bytes], n: int) -> list[Sequence[bytes]]:
    size = -(-len(sent) // n)
    return [sent[first : first + size] for first in range(0, len(sent), size)]
