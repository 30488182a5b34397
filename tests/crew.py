"""Real `refurbish worker` processes that are killed, stalled and raced, and a sender that tries again until it is answered."""

import http.client
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from curation.errors import DatabaseError
from curation.store.db import Database
from curation.store.tables import AnnotationRow, JobRow
from tests import launch
from tests.serving import Served

LEASE_S = 0.6
PATIENCE_S = 60.0
FINISH_PATIENCE_S = 1200.0
"""For all deliveries that are left."""


class NothingLeft(Exception):
    """All deliveries are applied."""


@dataclass
class Hand:
    """One worker process."""

    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def stall(self) -> None:
        """Stop it where it is, heartbeat and all."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """Its exit code; negative if it was killed."""
        return self.process.wait(patience_s)

    @property
    def told(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass(frozen=True)
class Crew:
    """Workers of one database. `kinds`: of the jobs they take."""

    home: Path
    database_url: str
    kinds: str = "ingest"
    lease_s: float = LEASE_S

    def start(self, *options: str, crash_at: str = "") -> Hand:
        """One more worker; with `crash_at` it dies there."""
        chosen = {"home": self.home, "database_url": self.database_url, "lease_s": self.lease_s, "poll_s": 0.05}
        self.home.mkdir(parents=True, exist_ok=True)
        log = self.home / f"worker-{len(list(self.home.glob('worker-*.log')))}.log"
        process = launch.start(log, "worker", "--kinds", self.kinds, *options, crash_at=crash_at, **chosen)
        return Hand(process, log)

    @contextmanager
    def working(self, n: int = 1, *options: str) -> Iterator[list[Hand]]:
        """These many at once; all end with the block."""
        hands = [self.start(*options) for _ in range(n)]
        try:
            yield hands
        finally:
            for hand in hands:
                hand.go_on()
                hand.kill()

    def die_at(self, point: str) -> None:
        """Let one worker run until it dies there."""
        hand = self.start(crash_at=point)
        try:
            code = hand.wait()
        finally:
            hand.kill()
        assert code == -signal.SIGKILL, f"the worker ended with {code} before {point}: {hand.told[-2000:]}"

    def finish(self) -> None:
        """Wait for the leases of the dead, then let one worker do all that is left."""
        db = Database(self.database_url)
        try:
            while n_pending(db):
                wait_for_leases(db)
                hand = self.start("--until-idle")
                try:
                    assert hand.wait(FINISH_PATIENCE_S) == 0, hand.told[-2000:]
                finally:
                    hand.kill()
        finally:
            db.dispose()


def send(service: Served, bodies: Iterable[bytes]) -> int:
    """Deliver one after the other, each until it is answered 202; how often no answer came."""
    n_lost = 0
    for body in bodies:
        deadline_s = time.monotonic() + PATIENCE_S
        while not _is_answered(service, body):
            n_lost += 1
            assert time.monotonic() < deadline_s, "the receiver does not come back"
            time.sleep(0.05)
    return n_lost


def _is_answered(service: Served, body: bytes) -> bool:
    try:
        return service.deliver(body) == http.client.ACCEPTED
    except (OSError, http.client.HTTPException):
        return False


def stall_with_a_job(hand: Hand, db: Database) -> None:
    """Stop the worker while a job is its own and it holds no lock on what others need, as between two transactions.

    Raises NothingLeft if it has done all before.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        if not n_pending(db):
            raise NothingLeft
        if _holds_a_job(hand, db):
            hand.stall()
            time.sleep(0.05)  # what the database does for it already is done
            if _holds_a_job(hand, db) and _is_unlocked(hand, db):
                return
            hand.go_on()
        assert hand.process.poll() is None, hand.told[-2000:]
        assert time.monotonic() < deadline_s, f"the worker was never stopped with a job: {hand.told[-2000:]}"
        time.sleep(0.002)


def _holds_a_job(hand: Hand, db: Database) -> bool:
    with db.read() as session:
        mine = (JobRow.state == "doing", JobRow.worker.endswith(f":{hand.process.pid}"))
        return session.execute(select(JobRow.id).where(*mine)).first() is not None


def _is_unlocked(hand: Hand, db: Database) -> bool:
    """Others can write: on SQLite at all, on PostgreSQL to the job that it holds."""
    hasty = Database(db.url, busy_timeout_s=0.5)
    try:
        with hasty.write() as session:
            mine = (JobRow.state == "doing", JobRow.worker.endswith(f":{hand.process.pid}"))
            found = session.execute(select(JobRow.id).where(*mine).with_for_update(skip_locked=True)).first()
            session.rollback()
        return found is not None
    except DatabaseError:
        return False
    finally:
        hasty.dispose()


def wait_for_leases(db: Database) -> None:
    """Until nobody's lease holds any more, and what failed is due again."""

    def nothing_is_held() -> bool:
        with db.read() as session:
            now = db.now(session)
            held = select(JobRow.id).where(JobRow.kind == "ingest", JobRow.state == "doing", JobRow.lease_until >= now)
            put_off = select(JobRow.id).where(JobRow.kind == "ingest", JobRow.state == "todo", JobRow.run_after > now)
            return session.execute(held.union_all(put_off).limit(1)).first() is None

    wait_until(nothing_is_held, "a lease is held")


def n_pending(db: Database) -> int:
    """Deliveries that are not applied yet, and not given up."""
    with db.read() as session:
        pending = select(func.count()).where(JobRow.kind == "ingest", JobRow.state.in_(("todo", "doing")))
        return session.execute(pending).scalar_one()


def n_said(db: Database) -> int:
    """States of annotations that are there."""
    with db.read() as session:
        return session.execute(select(func.count()).select_from(AnnotationRow)).scalar_one()


def wait_until(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, otherwise
        time.sleep(0.01)
