"""What pages, API, queue and memory do while something goes on."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from sqlalchemy import func, select

from curation.store import tokens
from curation.store.db import Database
from curation.store.people import Role
from curation.store.tables import JobRow
from tests.benchmarks import pages
from tests.serving import Served
from tests.visitor import Visitor

API = (
    "/api/v1/status",
    "/api/v1/labels/changes?limit=100",
    "/api/v1/labels?ref=L0000010&ref=L0000020",
    "/api/v1/suspects?limit=50",
    "/api/v1/listings/L0000010",
)
LOOK_EVERY_S = 2.0
VISIT_EVERY_S = 0.5
DRAIN_PATIENCE_S = 1800.0


@dataclass
class Seen:
    """What was looked at during one stage. Times in ms; memory in MiB by (seconds since the start, process)."""

    answer_ms: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    page_ms: list[float] = field(default_factory=list)
    api_ms: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)  #: by path and status
    queue: list[tuple[float, int]] = field(default_factory=list)
    rss: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: {"server": [], "worker": []})
    drain_s: float = 0.0


class Watch:
    """Looks at pages, API, queue and memory while something goes on."""

    def __init__(self, service: Served, worker_pid: int) -> None:
        self.service, self.pids = service, {"server": service.process.pid, "worker": worker_pid}
        self.db = Database(service.database_url)
        with self.db.write() as session:
            token = tokens.create(session, "load", Role.ENGINEER, now=pages.NOW)
        self.visitor = Visitor(f"http://127.0.0.1:{service.port}", "admin", pages.PASSWORD)
        self.paths = [("page", path) for path in self.visitor.pages().values()] + [("api", path) for path in API]
        self.token = {"Authorization": f"Bearer {token}"}
        self.began_s = time.monotonic()

    def during(self, doing: Callable[[Seen], None]) -> Seen:
        """What was seen from the first delivery until the queue was empty again."""
        seen, done = Seen(), threading.Event()
        threads = [threading.Thread(target=run, args=(seen, done), daemon=True) for run in (self._visit, self._look)]
        for thread in threads:
            thread.start()
        doing(seen)
        sent_s = time.monotonic()
        while self._n_waiting() and time.monotonic() - sent_s < DRAIN_PATIENCE_S:
            time.sleep(0.2)
        seen.drain_s = time.monotonic() - sent_s
        done.set()
        for thread in threads:
            thread.join()
        return seen

    def close(self) -> None:
        self.visitor.client.close()
        self.db.dispose()

    def _visit(self, seen: Seen, done: threading.Event) -> None:
        """One page or API answer after the other, two a second."""
        for at in range(10**9):
            kind, path = self.paths[at % len(self.paths)]
            began_s = time.perf_counter()
            try:
                answer = self.visitor.client.get(path, headers=self.token if kind == "api" else None)
                seen.failed[f"{path} {answer.status_code}"] += answer.status_code != 200
            except httpx.TransportError as error:
                seen.failed[f"{path} {type(error).__name__}"] += 1
            (seen.page_ms if kind == "page" else seen.api_ms).append(1000 * (time.perf_counter() - began_s))
            if done.wait(0.5):
                return

    def _look(self, seen: Seen, done: threading.Event) -> None:
        while True:
            at_s = time.monotonic() - self.began_s
            seen.queue.append((at_s, self._n_waiting()))
            for name, pid in self.pids.items():
                seen.rss[name].append((at_s, resident_mib(pid)))
            if done.wait(LOOK_EVERY_S):
                return

    def _n_waiting(self) -> int:
        waiting = (JobRow.kind == "ingest", JobRow.state.in_(("todo", "doing")))
        with self.db.read() as session:
            return session.execute(select(func.count()).select_from(JobRow).where(*waiting)).scalar_one()


def resident_mib(pid: int) -> float:
    """Memory of a process and all its descendants; what they share is counted once (PSS)."""
    kib, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
            children = Path(f"/proc/{one}/task/{one}/children").read_text().split()
        except OSError:
            continue  # it has just ended
        kib += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        waiting += map(int, children)
    return kib / 1024
