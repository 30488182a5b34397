"""Clocks: ours or the database's jumps, the host lives in another time zone, a second too many, the year 2038."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, text

from curation.catalog import ingest
from curation.errors import InputError, PayloadError, StaleLease
from curation.labelstudio import payloads
from curation.release import snapshot, trends
from curation.store import jobs
from curation.store.db import Database
from curation.store.tables import State
from curation.store.workspace import Workspace, set_state, utc_now
from tests import builders
from tests.conftest import NOW
from tests.faults.test_erasure import said

HOUR = timedelta(hours=1)
LEASE_S = 60.0


def claimed(workspace: Workspace, now: datetime) -> jobs.Job | None:
    with workspace.db.write() as session:
        return jobs.claim(session, worker="w", now=now, lease_s=LEASE_S)


def asked(workspace: Workspace, key: str = "k") -> None:
    with workspace.db.write() as session:
        jobs.enqueue(session, "push", {}, key=key, now=NOW)


# Jumps


def test_a_clock_that_goes_back_holds_up_no_job(workspace: Workspace) -> None:
    """What was asked for an hour ahead of the corrected clock is due once that was noticed (fault 19)."""
    asked(workspace)
    with workspace.db.write() as session:
        assert jobs.follow_clock(session, now=NOW - HOUR, lease_s=LEASE_S) == 1
    assert claimed(workspace, NOW - HOUR) is not None


def test_a_delay_is_kept_on_a_steady_clock(workspace: Workspace) -> None:
    """A job that shall wait does, from the first moment on (fault 19)."""
    with workspace.db.write() as session:
        jobs.enqueue(session, "push", {}, key="k", now=NOW, delay_s=5)
    assert claimed(workspace, NOW) is None and claimed(workspace, NOW + timedelta(seconds=4)) is None
    assert claimed(workspace, NOW + timedelta(seconds=5)) is not None


def test_a_clock_that_goes_back_lets_leases_end(workspace: Workspace) -> None:
    """A worker died before the jump: its job is free one lease after the next look, not an hour later (fault 19)."""
    asked(workspace)
    lost, back = claimed(workspace, NOW), NOW - HOUR
    assert lost is not None
    with workspace.db.write() as session:
        assert jobs.follow_clock(session, now=back, lease_s=LEASE_S) == 1
        assert jobs.follow_clock(session, now=back, lease_s=LEASE_S) == 0
    assert claimed(workspace, back + timedelta(seconds=LEASE_S)) is None
    again = claimed(workspace, back + timedelta(seconds=LEASE_S + 1))
    assert again is not None and again.attempt == 2
    with workspace.db.write() as session, pytest.raises(StaleLease):
        jobs.finish(session, lost, now=back)


def test_a_worker_that_lives_keeps_its_job_over_the_jump(workspace: Workspace) -> None:
    """Its next heartbeat renews the shortened lease, and its effect counts once (fault 19)."""
    asked(workspace)
    job, back = claimed(workspace, NOW), NOW - HOUR
    assert job is not None
    with workspace.db.write() as session:
        jobs.follow_clock(session, now=back, lease_s=LEASE_S)
        jobs.heartbeat(session, job, now=back + timedelta(seconds=20), lease_s=LEASE_S)
    assert claimed(workspace, back + timedelta(seconds=70)) is None
    with workspace.db.write() as session:
        jobs.finish(session, job, now=back + timedelta(seconds=75))


def test_a_clock_that_goes_forward_gives_a_job_to_one(workspace: Workspace) -> None:
    """All leases end at once: the second worker takes the job, and the first one's writes are refused (fault 19)."""
    asked(workspace)
    first, second = claimed(workspace, NOW), claimed(workspace, NOW + HOUR)
    assert first is not None and second is not None and second.attempt == 2
    with workspace.db.write() as session, pytest.raises(StaleLease):
        jobs.finish(session, first, now=NOW + HOUR)
    with workspace.db.write() as session:
        jobs.finish(session, second, now=NOW + HOUR)


# Time zones


@pytest.fixture(params=["America/St_Johns", "Pacific/Chatham"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    """The host lives here: half and three quarters of an hour off, with summer time in either half of the year."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield ZoneInfo(request.param)
    monkeypatch.undo()
    time.tzset()


def test_both_hours_of_the_night_that_has_one_more_are_told_apart(workspace: Workspace, zone: ZoneInfo) -> None:
    """Local times with either fold, and any offset, are stored as the moments that they are (fault 75)."""
    days = [datetime(2026, 1, 1, tzinfo=zone) + timedelta(days=n) for n in range(365)]
    moments = [
        datetime(day.year, day.month, day.day, h, 30, fold=f, tzinfo=zone) for day in days for h in range(4) for f in (0, 1)
    ]
    folded = [at for at in moments if at.utcoffset() != at.replace(fold=1 - at.fold).utcoffset()][:2]
    kept = [*folded, datetime(2026, 3, 8, 2, 30, tzinfo=timezone(timedelta(hours=5, minutes=45)))]
    assert len(folded) == 2 and folded[0].astimezone(UTC) != folded[1].astimezone(UTC)
    with workspace.db.write() as session:
        for number, at in enumerate(kept):
            set_state(session, str(number), {}, now=at)
    with workspace.db.read() as session:
        found = session.execute(select(State.at).order_by(State.key)).scalars().all()
    assert found == [at.astimezone(UTC) for at in kept] and {at.tzinfo for at in found} == {UTC}


def test_the_hosts_zone_changes_nothing_of_a_catalog(workspace: Workspace, zone: ZoneInfo, tmp_path: Path) -> None:
    """Times without an offset are UTC: listing, snapshot and figures by day are those of any other host (fault 75)."""
    file = tmp_path / "a.csv"
    file.write_text(
        "id,title,category,listed_at\nr1,Rake,Home / Garden,2026-03-08T23:30:00\nr2,Hoe,Home / Garden,2026-11-01 01:30\n"
    )
    ingest.run(workspace, file, ingest.Options(), now=NOW)
    assert [one.listed_at for one in builders.all_listings(workspace)] == [
        datetime(2026, 3, 8, 23, 30, tzinfo=UTC),
        datetime(2026, 11, 1, 1, 30, tzinfo=UTC),
    ]
    assert snapshot.create(workspace, now=NOW).sha256.startswith("3137affca1c4eb4f"), zone


def test_a_server_in_another_zone_counts_the_same_days(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither PostgreSQL's time zone nor the host's moves a moment into another day (fault 75)."""
    with workspace.db.write() as session:
        set_state(session, "late", {}, now=datetime(2026, 3, 1, 23, 30, tzinfo=UTC))
    monkeypatch.setenv("PGTZ", "Asia/Kathmandu")
    elsewhere = Database(workspace.db.url)
    with elsewhere.read() as session:
        if not elsewhere.is_sqlite:
            assert session.execute(text("SHOW timezone")).scalar_one() == "Asia/Kathmandu"
        found = session.execute(select(trends._day(session, State.at), State.at)).one()
        assert abs(elsewhere.now(session) - utc_now()) < HOUR
    elsewhere.dispose()
    assert tuple(found) == ("2026-03-01", datetime(2026, 3, 1, 23, 30, tzinfo=UTC))


# Odd moments


ODD = ("2016-12-31T23:59:60Z", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00", "9999999999", "2026-01-01T24:01Z")


@pytest.mark.parametrize("at", ODD)
def test_a_time_that_is_none_is_quarantined(at: str) -> None:
    """A leap second, a day that is not, no zone: never guessed (fault 75)."""
    body = said("r1", "7", "x").replace(NOW.isoformat().encode(), at.encode())
    with pytest.raises(PayloadError, match="must be a time with its zone"):
        payloads.parse(body, "labelstudio:1", (), ())


@pytest.mark.parametrize("year", [1970, 2038, 2106, 9998])
def test_times_beyond_32_bits_are_kept(workspace: Workspace, year: int) -> None:
    """Of either sign (fault 75)."""
    at = datetime(year, 1, 19, 3, 14, 8, 123456, tzinfo=UTC)
    with workspace.db.write() as session:
        set_state(session, "at", {}, now=at)
    with workspace.db.read() as session:
        assert session.execute(select(State.at)).scalar_one() == at


def test_a_time_without_zone_is_never_stored(sqlite_workspace: Workspace) -> None:
    """Not even by mistake (fault 75)."""
    with pytest.raises(InputError, match="has no time zone"), sqlite_workspace.db.write() as session:
        set_state(session, "at", {}, now=datetime(2026, 1, 1))  # noqa: DTZ001
