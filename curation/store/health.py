"""Is everything in order? Checks for `refurbish doctor` and `/readyz`, and the counts behind `/metrics`."""

import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from curation.errors import RefurbishError
from curation.settings import Settings
from curation.store import mounts, schema
from curation.store.db import Database, shown_url
from curation.store.service_tables import User
from curation.store.tables import Inbox, JobRow, LabelRow, ReviewItem
from curation.store.workspace import Workspace, get_state, utc_now
from curation.types import HARD_BATCH, OPEN

DRIFT_KEY = "labelstudio.drift"
DISK_FREE_BYTES = 1 << 30
CLOCK_SKEW_S = 5.0
JOB_WAITS_S = 600.0
"""A due job that waits longer says that no worker runs, or that it cannot keep up."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `state`: ok, warning or failed."""

    name: str
    state: str
    words: str

    @property
    def is_failed(self) -> bool:
        """Whether something must be done about it."""
        return self.state == "failed"


@dataclass(frozen=True, slots=True)
class Counts:
    """What is in the database now; keys are label values of a metric."""

    inbox: Mapping[tuple[str, ...], int]  #: by state
    jobs: Mapping[tuple[str, ...], int]  #: by state
    labels: Mapping[tuple[str, ...], int]  #: by question and source
    review: Mapping[tuple[str, ...], int]  #: by state
    n_hard: int  #: open questions that several moderators skipped
    oldest_due_s: float  #: age of the oldest job that is due, 0 if none is
    n_missed_hooks: int  #: changes that reconciliation found and no hook had brought


def counts(session: Session, *, now: datetime | None = None) -> Counts:
    """Counted by SQL, so right with any number of processes."""
    now = now or utc_now()
    due = select(func.min(JobRow.run_after)).where(JobRow.state == "todo", JobRow.run_after <= now)
    oldest = session.execute(due).scalar_one()
    return Counts(
        inbox=_grouped(session, Inbox.state),
        jobs=_grouped(session, JobRow.state),
        labels=_grouped(session, LabelRow.question, LabelRow.source),
        review=_grouped(session, ReviewItem.state),
        n_hard=_n_hard(session),
        oldest_due_s=max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
        n_missed_hooks=int((get_state(session, DRIFT_KEY) or {}).get("n_missed_total", 0)),
    )


def _n_hard(session: Session) -> int:
    mine = (ReviewItem.batch == HARD_BATCH, ReviewItem.state.in_(OPEN))
    return session.execute(select(func.count()).select_from(ReviewItem).where(*mine)).scalar_one()


def _grouped(session: Session, *columns: object) -> dict[tuple[str, ...], int]:
    rows = session.execute(select(*columns, func.count()).group_by(*columns))  # type: ignore[call-overload]
    return {tuple(row[:-1]): int(row[-1]) for row in rows}


def checks(workspace: Workspace) -> list[Check]:
    """Everything `refurbish doctor` looks at here; asks the network for nothing but the database."""
    home = workspace.settings.home
    current = schema_is_current(workspace.db)
    untried = Check("database writable", "warning", "not tried, since the schema is not current")
    found = [
        database_answers(workspace.db),
        current,
        untried if current.is_failed else database_takes_writes(workspace.db),
        database_is_safe(workspace.db),
        clocks_agree(workspace.db),
        folder_is_writable(home),
        folder_is_private(home),
        disk_has_room(home),
    ]
    if not current.is_failed:
        found += [jobs_move_on(workspace.db), somebody_may_sign_in(workspace.db)]
    if workspace.db.is_sqlite:
        found.append(sqlite_is_local(Path(workspace.db.engine.url.database or "")))
    return found


def database_answers(db: Database) -> Check:
    """A query comes back."""

    def ask() -> str:
        with db.read() as session:
            version = session.execute(text("SELECT sqlite_version()" if db.is_sqlite else "SHOW server_version")).scalar_one()
        return f"{'SQLite' if db.is_sqlite else 'PostgreSQL'} {version} at {shown_url(db.url)}"

    return _checked("database", ask)


def schema_is_current(db: Database) -> Check:
    """The tables are those of this version."""

    def ask() -> str:
        schema.require_current(db)
        return f"revision {schema.head()}"

    return _checked("schema", ask)


def database_takes_writes(db: Database) -> Check:
    """A write transaction can begin; nothing is changed."""

    def ask() -> str:
        with db.write() as session:
            session.execute(update(Inbox).where(Inbox.id == -1).values(state="received"))
            session.rollback()
        return "a write transaction can begin"

    return _checked("database writable", ask)


def database_is_safe(db: Database) -> Check:
    """Foreign keys are enforced and commits survive a power cut."""

    def ask() -> str:
        with db.read() as session:
            if not db.is_sqlite:
                found = {name: session.execute(text(f"SHOW {name}")).scalar_one() for name in ("fsync", "synchronous_commit")}
                is_unsafe = "off" in found.values()
            else:
                names = ("journal_mode", "synchronous", "foreign_keys")
                found = {name: session.execute(text(f"PRAGMA {name}")).scalar_one() for name in names}
                is_unsafe = found != {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        words = ", ".join(f"{name} {value}" for name, value in found.items())
        if is_unsafe:
            raise RefurbishError(f"{words}: an answered delivery may be lost in a power cut; switch them on")
        return words

    return _checked("durability", ask)


def clocks_agree(db: Database) -> Check:
    """The database's clock and ours differ by little; leases and sessions count on it."""

    def ask() -> str:
        with db.read() as session:
            skew_s = abs((db.now(session) - utc_now()).total_seconds())
        if skew_s > CLOCK_SKEW_S:
            raise RefurbishError(f"our clock and the database's differ by {skew_s:.1f} s; run an NTP client on both machines")
        return f"within {CLOCK_SKEW_S:g} s of the database's"

    return _checked("clock", ask)


def folder_is_writable(folder: Path) -> Check:
    """A file can be written into the data folder."""

    def ask() -> str:
        try:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-") as file:
                file.write(b"x" * 4096)
                file.flush()
        except OSError as error:
            words = f"{folder} cannot be written: {error.strerror}; give it to the user that runs this, or choose another --home"
            raise RefurbishError(words) from error
        return f"{folder} can be written"

    return _checked("disk writable", ask)


def folder_is_private(folder: Path) -> Check:
    """Others on this machine cannot change our files."""
    mode = folder.stat().st_mode & 0o777
    if mode & 0o002:
        return Check("permissions", "failed", f"{folder} can be written by anyone (mode {mode:o}); run: chmod o-w {folder}")
    return Check("permissions", "ok", f"{folder} has mode {mode:o}, owner {folder.stat().st_uid}, we are {os.geteuid()}")


def disk_has_room(folder: Path) -> Check:
    """At least 1 GiB is free."""
    free_bytes = shutil.disk_usage(folder).free
    free = f"{free_bytes / (1 << 30):.1f} GiB free at {folder}"
    if free_bytes < DISK_FREE_BYTES:
        return Check("disk space", "failed", f"{free}, at least 1 GiB is wanted; make room, or move `home` to a larger disk")
    return Check("disk space", "ok", f"{free}, at least 1 GiB is wanted")


def jobs_move_on(db: Database) -> Check:
    """A worker takes the jobs that are due, and none is given up."""
    with db.read() as session:
        found = counts(session, now=db.now(session))
    n_dead = found.jobs.get(("dead",), 0)
    if n_dead:
        words = f"{n_dead:,} jobs were given up; see why with: refurbish jobs list --state dead, then: refurbish jobs revive ID"
        return Check("jobs", "warning", words)
    if found.oldest_due_s > JOB_WAITS_S:
        words = (
            f"a job has waited for {found.oldest_due_s / 60:,.0f} minutes; is a worker running? Start one with: refurbish worker"
        )
        return Check("jobs", "warning", words)
    return Check("jobs", "ok", f"{found.jobs.get(('todo',), 0):,} wait, none for long")


def somebody_may_sign_in(db: Database) -> Check:
    """There is a person with a password who was not disabled."""
    can = select(User.id).where(User.password_hash.is_not(None), User.disabled_at.is_(None)).limit(1)
    with db.read() as session:
        is_there = session.execute(can).first() is not None
    if is_there:
        return Check("people", "ok", "somebody may sign in")
    return Check("people", "warning", "nobody may sign in; run: refurbish user add NAME --role admin")


def sqlite_is_local(file: Path, table: Path | None = None) -> Check:
    """SQLite is not on a network file system, where its locks do not hold. `table`: of mounts."""
    kind = mounts.kind_of(file, table)
    if kind is None:
        return Check("file system", "warning", "cannot be told on this system; keep the SQLite file on a local disk")
    if kind in mounts.NETWORK:
        return Check("file system", "failed", mounts.ADVICE.format(file=file, kind=kind))
    return Check("file system", "ok", f"{file} is on {kind}")


def settings_checks(settings: Settings) -> list[Check]:
    """What must be set before deliveries can come in."""
    is_set = bool(settings.webhook_secret.get_secret_value())
    without = "failed" if settings.env == "production" else "warning"
    secret = ("ok", "set") if is_set else (without, "not set: every delivery is refused; set REFURBISH_WEBHOOK_SECRET")
    if not settings.label_studio_url:
        studio = ("warning", "not configured; set REFURBISH_LABEL_STUDIO_URL and _TOKEN, then run: refurbish labelstudio setup")
    elif not settings.label_studio_token.get_secret_value():
        studio = (
            "failed",
            "label_studio_url is set but label_studio_token is not; make one in Label Studio under Account & Settings",
        )
    else:
        studio = ("ok", "configured; try it with: refurbish labelstudio doctor")
    return [Check("webhook secret", *secret), Check("label studio", *studio)]


def installed(name: str) -> str | None:
    """The version of an installed distribution, without importing it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _checked(name: str, ask: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", ask())
    except (RefurbishError, SQLAlchemyError, OSError) as error:
        return Check(name, "failed", f"{error}".splitlines()[0])
