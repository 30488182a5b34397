"""The receiver while the database is locked, full, read-only or away, and while the process is killed."""

import dataclasses
import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import create_engine, event, func, select, text
from werkzeug.test import TestResponse

from curation.errors import DatabaseError
from curation.store import inbox
from curation.store.db import Database
from curation.store.tables import Inbox, JobRow
from curation.store.workspace import Workspace
from tests.serving import SECRET as SERVED_SECRET
from tests.serving import Served, served
from webhooks import service, writer
from webhooks.app import create_app
from webhooks.writer import BatchWriter

HOOK = "/hooks/labelstudio"
SECRET = "s3cret-" + "x" * 32


def _post(app: Flask, body: bytes) -> TestResponse:
    return app.test_client().post(HOOK, data=body, headers={"X-Refurbish-Secret": SECRET})


def _bodies(db: Database) -> list[bytes]:
    with db.read() as session:
        return list(session.execute(select(Inbox.body)).scalars())


def _n_jobs(db: Database) -> int:
    with db.read() as session:
        return session.execute(select(func.count()).select_from(JobRow)).scalar_one()


@pytest.fixture
def hasty(workspace: Workspace) -> Iterator[Flask]:
    """A service that waits 0.4 s for the database."""
    settings = workspace.settings.model_copy(update={"webhook_wait_s": 0.4})
    app = create_app(dataclasses.replace(workspace, settings=settings))
    yield app
    service.of(app).close()


@contextmanager
def _locked(workspace: Workspace) -> Iterator[None]:
    """Somebody else holds the inbox."""
    engine = create_engine(workspace.db.url, isolation_level="AUTOCOMMIT" if workspace.db.is_sqlite else "READ COMMITTED")
    with engine.connect() as connection:
        connection.execute(text("BEGIN EXCLUSIVE" if workspace.db.is_sqlite else "LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE"))
        yield
        connection.execute(text("ROLLBACK"))
    engine.dispose()


# Many at once


def test_the_same_delivery_a_hundred_times_at_once_is_one(app: Flask, workspace: Workspace) -> None:
    """One row, one job, a hundred answers of 2xx (fault 6)."""
    with ThreadPoolExecutor(32) as pool:
        answers = Counter(pool.map(lambda _: (_post(app, b'{"n": 1}').json or {})["status"], range(100)))
    assert answers == {"accepted": 1, "duplicate": 99}
    assert (_bodies(workspace.db), _n_jobs(workspace.db)) == ([b'{"n": 1}'], 1)


def test_two_receivers_share_one_database(app: Flask, workspace: Workspace) -> None:
    """Overlapping deliveries to two processes' writers: each body once, nobody waits for ever (fault 6)."""
    other = create_app(workspace)
    wanted = [f"{number % 60}".encode() for number in range(240)]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda pair: _post((app, other)[pair[0] % 2], pair[1]).status_code, enumerate(wanted)))
    service.of(other).close()
    assert set(answers) == {202}
    assert sorted(_bodies(workspace.db)) == sorted(set(wanted)) and _n_jobs(workspace.db) == 60


def test_one_delivery_that_cannot_be_stored_harms_no_other(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its batch is stored one by one; only the guilty one is refused."""
    real = inbox.receive_each

    def picky(session: object, deliveries: list[inbox.Delivery]) -> list[bool]:
        if any(delivery.body == b"poison" for delivery in deliveries):
            raise ZeroDivisionError
        return real(session, deliveries)  # type: ignore[arg-type]

    monkeypatch.setattr(inbox, "receive_each", picky)
    with _writer(workspace) as made, ThreadPoolExecutor(16) as pool:
        futures = {body: pool.submit(made.store, "s", body, wait_s=20) for body in [b"poison", *(b"%d" % i for i in range(30))]}
    assert isinstance(futures.pop(b"poison").exception(), DatabaseError)
    assert all(future.result() for future in futures.values()) and len(_bodies(workspace.db)) == 30


def test_what_waits_is_stored_when_the_writer_closes(workspace: Workspace) -> None:
    """Closing drains the queue; afterwards deliveries are refused at once."""
    with _writer(workspace) as made, ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(made.store, "s", b"%d" % number, wait_s=20) for number in range(50)]
        while not any(future.done() for future in futures):
            time.sleep(0.001)
        made.close()
    told = [future.exception() for future in futures]
    assert len(_bodies(workspace.db)) == told.count(None) > 0
    assert all(error is None or "stopping" in str(error) for error in told)


@contextmanager
def _writer(workspace: Workspace) -> Iterator[BatchWriter]:
    db = Database(workspace.db.url)
    made = BatchWriter(db)
    try:
        yield made
    finally:
        made.close()
        db.dispose()


# The database


def test_a_locked_database_is_503_and_heals(hasty: Flask, workspace: Workspace) -> None:
    """Nothing half-written, told when to come back, not ready meanwhile; afterwards all is well without a restart (fault 20)."""
    with _locked(workspace):
        began_s = time.monotonic()
        answer = _post(hasty, b"1")
        assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
        assert time.monotonic() - began_s < 3
        assert hasty.test_client().get("/readyz").status_code == 503
        assert hasty.test_client().get("/livez").status_code == 200
    assert _bodies(workspace.db) == [] and _n_jobs(workspace.db) == 0
    assert _post(hasty, b"1").status_code == 202
    assert hasty.test_client().get("/readyz").status_code == 200


def test_a_refused_delivery_is_not_stored_later(hasty: Flask, workspace: Workspace) -> None:
    """Those that were told 503 while waiting in the queue are dropped from it."""
    with _locked(workspace), ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: _post(hasty, b"%d" % number).status_code, range(8)))
    time.sleep(0.2)
    assert answers == [503] * 8 and _bodies(workspace.db) == []


def test_a_full_queue_refuses_at_once(hasty: Flask, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded: beyond the limit nobody waits."""
    monkeypatch.setattr(service.of(hasty).writer._queue, "maxsize", 1)
    with _locked(workspace), ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda number: _timed(lambda: _post(hasty, b"%d" % number).status_code), range(8)))
    assert {status for status, _ in told} == {503} and min(seconds for _, seconds in told) < 0.3


def _timed(work: Callable[[], int]) -> tuple[int, float]:
    began_s = time.monotonic()
    return work(), time.monotonic() - began_s


def test_a_full_disk_is_503_and_heals(app: Flask, workspace: Workspace) -> None:
    """SQLite's own "database or disk is full"; when there is room again, the next delivery is stored (fault 20)."""
    if not workspace.db.is_sqlite:
        pytest.skip("PostgreSQL says it with the same class of error; its disk cannot be filled here")
    limits = {"pages": 1}
    engine = service.of(app).writer.db.engine
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={limits['pages']}"))
    assert _post(app, b"x" * 100_000).status_code == 503
    assert _bodies(workspace.db) == [] and _n_jobs(workspace.db) == 0
    limits["pages"] = 1_000_000
    assert _post(app, b"x" * 100_000).status_code == 202


def test_a_read_only_database_is_503_and_heals(app: Flask, workspace: Workspace) -> None:
    """A standby after a failover, or a file system remounted read-only (fault 20)."""
    states = {"read_only": True}

    def checkout(connection: Any, *_: object) -> None:
        if workspace.db.is_sqlite:
            connection.execute(f"PRAGMA query_only={int(states['read_only'])}")
        else:
            connection.read_only = states["read_only"]

    event.listen(service.of(app).writer.db.engine, "checkout", checkout)
    assert _post(app, b"1").status_code == 503 and _bodies(workspace.db) == []
    assert app.test_client().get("/readyz").status_code == 503
    states["read_only"] = False
    assert _post(app, b"1").status_code == 202


def test_a_database_that_goes_away_comes_back(hasty: Flask, workspace: Workspace, request: pytest.FixtureRequest) -> None:
    """PostgreSQL drops every connection and takes no new ones; when it does again, so does the receiver (fault 20)."""
    if workspace.db.is_sqlite:
        pytest.skip("SQLite has no server that could go away")
    assert _post(hasty, b"1").status_code == 202
    name = workspace.db.engine.url.database
    admin = create_engine(request.getfixturevalue("postgres_url"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
        connection.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name})
        assert _post(hasty, b"2").status_code == 503
        found = hasty.test_client().get("/readyz")
        assert (found.status_code, hasty.test_client().get("/login").status_code) == (503, 503)
        assert "refurbish_database_up 0.0" in hasty.test_client().get("/metrics").text
        connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))
    admin.dispose()
    assert _post(hasty, b"2").status_code == 202
    assert sorted(_bodies(workspace.db)) == [b"1", b"2"]


# The process


class _Senders:
    """Threads that deliver numbered bodies until told to stop; remember which were answered 2xx."""

    def __init__(self, running: Served, n: int) -> None:
        self.running, self.answered, self.statuses = running, set[bytes](), Counter[int]()
        self.stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(name,)) for name in range(n)]
        for thread in self._threads:
            thread.start()

    def _send(self, name: int) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            body = b'{"sender": %d, "number": %d}' % (name, number)
            try:
                status = self.running.deliver(body)
            except (OSError, http.client.HTTPException):  # killed before or in the middle of its answer
                return
            self.statuses[status] += 1
            if status == 202:
                self.answered.add(body)

    def wait_for(self, n_answered: int) -> None:
        deadline_s = time.monotonic() + 30
        while len(self.answered) < n_answered and time.monotonic() < deadline_s:
            time.sleep(0.01)

    def join(self) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join()


def test_what_was_answered_survives_kill_9(tmp_path: Path, db_url: str) -> None:
    """Killed in full flight: every delivery answered 202 is there once, with its job; again, all are duplicates (fault 21)."""
    with served(tmp_path, db_url) as running:
        senders = _Senders(running, 8)
        senders.wait_for(100)
        running.kill()
        senders.join()
    db = Database(db_url)
    stored = _bodies(db)
    assert len(senders.answered) >= 100 and senders.answered <= set(stored)
    assert len(stored) == len(set(stored)) == _n_jobs(db)
    with served(tmp_path, db_url) as again:
        assert {again.deliver(body) for body in sorted(senders.answered)[:20]} == {202}
    assert len(_bodies(db)) == len(stored)
    db.dispose()


def test_sigterm_finishes_what_was_begun(tmp_path: Path) -> None:
    """A deploy loses nothing: no 5xx, every 202 is there, exit code 0, and no secret in the log."""
    url = f"sqlite:///{tmp_path / 'refurbish.db'}"
    with served(tmp_path, url) as running:
        senders = _Senders(running, 8)
        senders.wait_for(50)
        assert running.stop() == 0
        senders.join()
        assert running.log.read_text().count("Traceback") == 0 and SERVED_SECRET not in running.log.read_text()
    db = Database(url)
    assert set(senders.statuses) == {202} and senders.answered <= set(_bodies(db))
    db.dispose()


def test_bytes_on_the_wire(tmp_path: Path) -> None:
    """Over real HTTP: chunked in full is stored, chunked or announced and broken off is not, wrong secret is not (fault 13)."""
    url = f"sqlite:///{tmp_path / 'refurbish.db'}"
    head = b"POST /hooks/labelstudio HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Refurbish-Secret: %s\r\n"
    good, bad = head % SERVED_SECRET.encode(), head % b"wrong"
    chunked = b"Transfer-Encoding: chunked\r\n\r\n"
    with served(tmp_path, url) as running:
        assert b" 202 " in running.raw(good + chunked + b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
        assert b" 202 " not in running.raw(good + chunked + b"3\r\nabc\r\n3\r\nde")
        assert b" 202 " not in running.raw(good + b"Content-Length: 10\r\n\r\nhalf")
        assert b" 401 " in running.raw(bad + b"Content-Length: 3\r\n\r\nabc")
        assert b" 413 " in running.raw(good + b"Content-Length: 99999999\r\n\r\n")
        assert b" 202 " in running.raw(good + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\nlast")
    db = Database(url)
    assert _bodies(db) == [b"abcdef", b"last"]
    db.dispose()


@pytest.mark.slow
def test_senders_that_stall_do_not_hold_the_service(tmp_path: Path) -> None:
    """More stalled senders than threads; they are dropped and an honest delivery gets through (fault 13)."""
    url = f"sqlite:///{tmp_path / 'refurbish.db'}"
    stalled = b"POST /hooks/labelstudio HTTP/1.1\r\nHost: x\r\nX-Refurbish-Secret: " + SERVED_SECRET.encode()
    with served(tmp_path, url, arguments=("--threads", "4")) as running:
        held = [running.connect() for _ in range(12)]
        for number, connection in enumerate(held):
            connection.sendall(stalled + (b"\r\nContent-Length: 9\r\n\r\nhalf" if number % 2 else b""))
        time.sleep(0.5)
        assert running.deliver(b"honest", timeout_s=50) == 202
        for connection in held:
            connection.close()


def test_the_writer_is_bounded() -> None:
    """A batch holds at most as much as fits into memory beside the rest."""
    assert writer.BATCH_BYTES <= 64 * 1024 * 1024 and writer.BATCH_LIMIT <= writer.QUEUE_LIMIT
