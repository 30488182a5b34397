"""One database, SQLite or PostgreSQL, used the same way: `read()` and `write()` sessions."""

import functools
import json
import math
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import DateTime, Dialect, Engine, Text, TypeDecorator, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InternalError, OperationalError, StatementError
from sqlalchemy.exc import DatabaseError as UnusableFile
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from curation.errors import ConfigError, DatabaseError, InputError, shorten

T = TypeVar("T")

MAX_ID = 2**31 - 1
"""The largest id of a row that PostgreSQL can hold."""

BUSY_TIMEOUT_S = 30
LOCK_POLL_S = 0.002
"""Between two looks at SQLite's write lock while somebody else holds it."""

RETRIES = 3
AWAY = (OperationalError, InternalError)
"""Away, locked, full; read-only (PostgreSQL says so with an InternalError)."""

RETRYABLE = {"40001", "40P01"}
"""SQLSTATE of serialization failure and deadlock: the transaction is run again."""

RETRY_AFTER_S = 0.05
"""Before the second try of a transaction; twice as long before each further one."""


HIDDEN = re.compile("pass|secret|key|token", re.IGNORECASE)
"""Options of a database's address that are not shown."""

UNREADABLE = "*** (no address that can be read; percent-encode what is special in the password)"


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in Python, UTC in both databases; a naive value is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise InputError(f"time {shorten(value)} has no time zone; pass an aware datetime")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class SafeText(TypeDecorator[str]):
    """Text both databases can hold: NUL and lone surrogates are refused, with the place named."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if "\x00" in value:
            raise InputError(f"text holds a NUL character at position {value.index(chr(0))}: {shorten(value)}; remove it")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"text holds a lone surrogate at position {error.start}: {shorten(value)}; remove it") from error
        return value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:
        return value


class StrictJSON(TypeDecorator[Any]):
    """JSON as text, sorted keys; NaN, infinity, NUL and lone surrogates are refused."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else dump_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


def dump_json(value: Any) -> str:
    """Canonical JSON text: sorted keys, no spaces, finite numbers only. Raises InputError."""
    try:
        found = json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        found.encode()
    except (ValueError, TypeError) as error:
        raise InputError(f"value cannot be stored as JSON: {error}: {shorten(value)}") from error
    if "\\u0000" in found:
        raise InputError(f"value holds a NUL character: {shorten(value)}; remove it")
    return found


def finite(value: float | None) -> float | None:
    """The value, or None where it is missing or not finite."""
    return value if value is not None and math.isfinite(value) else None


class Database:
    """An engine and its two kinds of session.

    `write()` takes the write lock at once (BEGIN IMMEDIATE on SQLite) and commits at the end;
    `read()` sees one consistent state and always rolls back.
    """

    def __init__(self, url: str, *, busy_timeout_s: float | None = None) -> None:
        """`busy_timeout_s`: how long to wait for another's lock (default: 30 s on SQLite, no limit on PostgreSQL)."""
        self.url = url
        self.engine = _engine(url, busy_timeout_s)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._writer = self.engine.execution_options(refurbish_write=True)
        self._reader = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def read(self) -> Iterator[Session]:
        with translated(), Session(self._reader, expire_on_commit=False) as session:
            try:
                yield session
            finally:
                session.rollback()

    @contextmanager
    def write(self) -> Iterator[Session]:
        with translated(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def retrying(self, work: Callable[[Session], T]) -> T:
        """Run `work(session)` in a write transaction, again up to 3 times on a deadlock or a connection that broke."""
        for attempt in range(RETRIES + 1):
            try:
                with self.write() as session:
                    return work(session)
            except DatabaseError as error:
                if attempt == RETRIES or not is_passing(error):
                    raise
                time.sleep(RETRY_AFTER_S * 2**attempt)
        raise AssertionError("unreachable")

    def now(self, session: Session) -> datetime:
        """The database's clock on PostgreSQL, ours on SQLite (it runs on this machine)."""
        if self.is_sqlite:
            return datetime.now(UTC)
        found: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        return found.astimezone(UTC)

    def compact(self) -> bool:
        """Leave nothing of deleted rows in the database's own files; False where others are using it just now.

        Raises DatabaseError where there is no room for it: SQLite writes all that is left once more.

        On PostgreSQL a plain VACUUM: what was deleted cannot be queried, and its space is given to new rows.
        """
        if not self.is_sqlite:
            with translated(), self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM"))
            return True
        raw = self.engine.raw_connection()
        try:
            raw.cursor().execute("VACUUM")
            return bool(raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return False
            raise DatabaseError(
                f"the database's file cannot be cleared: {error}; make room, then run: refurbish erase --finish"
            ) from error
        finally:
            raw.close()

    def dispose(self) -> None:
        self.engine.dispose()


def is_passing(error: DatabaseError) -> bool:
    """The database ended this transaction for a reason that the next one need not meet: a deadlock, a lost connection."""
    cause = error.__cause__
    if not isinstance(cause, DBAPIError):
        return False
    return cause.connection_invalidated or getattr(cause.orig, "sqlstate", None) in RETRYABLE


def shown_url(url: str) -> str:
    """The database's address for people: without the password, also where it stands among the options."""
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        return UNREADABLE
    if found.host and "@" in (found.database or ""):  # the rest of a password with a slash in it
        return UNREADABLE
    hidden = {name: "***" for name in found.query if HIDDEN.search(name)}
    return found.update_query_dict(hidden).render_as_string(hide_password=True)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's "database is away, locked, full, read-only" into DatabaseError; what our types refuse stays theirs."""
    try:
        yield
    except (StatementError, PoolTimeout) as error:
        if isinstance(error, StatementError) and isinstance(error.orig, InputError):
            raise error.orig from None
        if not isinstance(error, (*AWAY, PoolTimeout)) and type(error) is not UnusableFile:
            raise
        words = str(error.orig) if isinstance(error, DBAPIError) else "all connections are in use"
        raise DatabaseError(f"the database did not answer: {shorten(words, 200)}; nothing was changed, try again") from error


def _engine(url: str, busy_timeout_s: float | None) -> Engine:
    try:
        if url.startswith("sqlite"):
            wait_s = BUSY_TIMEOUT_S if busy_timeout_s is None else busy_timeout_s
            engine = create_engine(url, connect_args={"timeout": wait_s, "check_same_thread": False}, hide_parameters=True)
            event.listen(engine, "connect", _configure_sqlite)
            event.listen(engine, "begin", functools.partial(_begin_sqlite, wait_s))
            return engine
        if url.startswith("postgresql+psycopg:"):
            limits = {"pool_size": 10, "max_overflow": 20, "connect_args": _patience(busy_timeout_s)}
            return create_engine(url, pool_pre_ping=True, hide_parameters=True, **limits)
    except (ArgumentError, ValueError):  # their words show parts of the address
        raise ConfigError(
            "database_url cannot be read; percent-encode what is special in the password, and see the port"
        ) from None
    except Exception as error:
        raise ConfigError(f"database_url cannot be used: {error}") from error
    scheme = url.partition(":")[0]
    raise ConfigError(f"database_url starts with {scheme!r}; use sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME")


def _patience(busy_timeout_s: float | None) -> dict[str, Any]:
    """libpq options: how long PostgreSQL may take to accept us, to grant a lock, and to acknowledge a packet."""
    if busy_timeout_s is None:
        return {}
    wait_ms = max(1, round(busy_timeout_s * 1000))
    return {
        "connect_timeout": max(2, math.ceil(busy_timeout_s)),
        "tcp_user_timeout": wait_ms,
        "options": f"-c lock_timeout={wait_ms} -c statement_timeout={wait_ms}",
    }


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
    ):  # the time-out is given to connect()
        connection.execute(f"PRAGMA {pragma}")
    if connection.execute("PRAGMA foreign_keys").fetchone() != (1,):
        raise DatabaseError("this SQLite was built without foreign keys; use another build")


def _begin_sqlite(wait_s: float, connection: Any) -> None:
    if connection.get_execution_options().get("refurbish_write"):
        _begin_immediate(connection, wait_s)
    else:
        connection.exec_driver_sql("BEGIN")


def _begin_immediate(connection: Any, wait_s: float) -> None:
    """Take the write lock. SQLite's own waiting sleeps up to 0.1 s between two looks, and misses the short gaps that a busy
    worker leaves: the receiver would wait for seconds. So it is looked at more often here.
    """
    driver, ends_s = connection.connection.driver_connection, time.monotonic() + wait_s
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while time.monotonic() < ends_s:
            try:
                driver.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
            time.sleep(LOCK_POLL_S)
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # the last time, and what it raises is SQLAlchemy's
    finally:
        driver.execute(f"PRAGMA busy_timeout={round(1000 * wait_s)}")
