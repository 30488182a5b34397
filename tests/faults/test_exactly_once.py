"""Deliveries to a real receiver and real workers that are killed, stalled and raced: the ledger of one clean pass comes out."""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, update

from curation.store.tables import JobRow
from curation.store.workspace import Workspace
from tests import crew, deliveries, ledger
from tests.conftest import make_workspace
from tests.crew import Crew
from tests.serving import postgres_server, served

N_LISTINGS = 24
WORKER_POINTS = (
    "worker.after_claim",
    "ingest.before_commit",
    "ingest.after_part",
    "ingest.after_commit",
    "worker.after_finish",
)

Expect = Callable[[Sequence[bytes], bool], None]


@pytest.fixture
def here(workspace: Workspace) -> Workspace:
    """A review of a small catalog has begun."""
    deliveries.catalog(workspace, N_LISTINGS)
    return workspace


@pytest.fixture
def once(here: Workspace, sqlite_template: Path, tmp_path: Path) -> Expect:
    """Asserts that nothing is lost, nothing is there twice, and each history is a chain that ends at its label."""

    def check(bodies: Sequence[bytes], ordered: bool) -> None:
        expected = ledger.clean_pass(tmp_path, bodies, N_LISTINGS, ordered=ordered, template=sqlite_template)
        assert ledger.compare(expected, ledger.rows(here.db, ordered=ordered)) == ledger.Difference((), ())
        assert ledger.broken_histories(here.db) == []
        with here.db.read() as session:
            assert set(session.execute(select(JobRow.state).where(JobRow.kind == "ingest")).scalars()) == {"done"}

    return check


def of(workspace: Workspace) -> Crew:
    return Crew(workspace.settings.home, workspace.settings.url)


def test_killed_before_the_commit(here: Workspace, once: Expect) -> None:
    """A worker dies with a whole effect written and not committed; the next one gives what a clean pass gives (fault 23)."""
    bodies = deliveries.review(4, n_bulk=1)
    ledger.receive(here, bodies)
    of(here).die_at("ingest.before_commit:3")
    of(here).finish()
    once(bodies, True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_everywhere(here: Workspace, once: Expect, tmp_path: Path) -> None:
    """Receiver and worker die at each of their points, the sender repeats itself: all is as in a clean pass (faults 21, 23)."""
    sent = deliveries.with_duplicates(deliveries.review(N_LISTINGS), 0.3)
    half = len(sent) // 2
    for point, part in (("receiver.before_commit:9", sent[:half]), ("receiver.after_commit:9", sent[half:])):
        with served(tmp_path / "serve", here.settings.url, crash_at=point) as service:
            assert crew.send(service, part) > 0, "the receiver never died"
    for point in WORKER_POINTS:
        of(here).die_at(point if point == "ingest.after_part" else f"{point}:4")
        crew.wait_for_leases(here.db)
    of(here).finish()
    once(sent, True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_race_and_are_killed(here: Workspace, once: Expect, tmp_path: Path) -> None:
    """Deliveries out of order and doubled, four workers killed in mid-work one after the other (faults 9, 23, 25)."""
    sent = deliveries.reordered(deliveries.with_duplicates(deliveries.review(N_LISTINGS), 0.3))
    with served(tmp_path / "serve", here.settings.url) as service:
        for first in range(0, len(sent), len(sent) // 4 + 1):
            with of(here).working(2):
                assert crew.send(service, sent[first : first + len(sent) // 4 + 1]) == 0
    of(here).finish()
    once(sent, False)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_stood_still_is_refused(here: Workspace, once: Expect) -> None:
    """Stopped for longer than its lease, another one does its job; when it goes on its writes are refused (fault 24)."""
    bodies = deliveries.review(N_LISTINGS, n_bulk=6)
    ledger.receive(here, bodies)
    with of(here).working(1) as (stalled,):
        crew.stall_with_a_job(stalled, here.db)
        of(here).finish()
        stalled.go_on()
        crew.wait_until(lambda: "is no longer ours" in stalled.told, "the stalled worker was not refused")
    once(bodies, False)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_database_is_restarted_under_receiver_and_workers(tmp_path: Path) -> None:
    """PostgreSQL crashes and recovers three times under them: what was answered is applied, once (faults 20, 29)."""
    sent = deliveries.review(N_LISTINGS)
    third = len(sent) // 3 + 1
    with postgres_server() as server, closing(make_workspace(tmp_path / "home", server.url)) as here:
        deliveries.catalog(here, N_LISTINGS)
        with served(tmp_path / "serve", server.url) as service, of(here).working(2) as hands:
            for first in range(0, len(sent), third):
                crew.send(service, sent[first : first + third])
                crew.wait_until(lambda: all('"event": "job"' in hand.told for hand in hands), "a worker does not begin")
                server.restart()
            crew.wait_until(lambda: crew.n_pending(here.db) == 0, "the workers do not go on")
            assert [hand.process.poll() for hand in hands] == [None, None], [hand.told[-2000:] for hand in hands]
        expected = ledger.clean_pass(tmp_path, sent, N_LISTINGS, ordered=False)
        assert ledger.compare(expected, ledger.rows(here.db, ordered=False)) == ledger.Difference((), ())


@pytest.mark.slow
def test_a_worker_told_to_stop_gives_its_job_back(here: Workspace, once: Expect) -> None:
    """SIGTERM in the middle of a bulk action: exit code 0, no lease is held, no attempt counts; another ends it (fault 28)."""
    review = deliveries.Review(N_LISTINGS, np.random.default_rng(1))
    review.answer_many([i % N_LISTINGS for i in range(120)], 1)
    ledger.receive(here, review.bodies)
    hand = of(here).start()
    crew.wait_until(lambda: crew.n_said(here.db) > 0, "the worker does not begin")
    assert hand.stop() == 0
    with here.db.read() as session:
        found = session.execute(select(JobRow.state, JobRow.attempt, JobRow.lease_until).where(JobRow.kind == "ingest")).one()
    assert tuple(found) == ("todo", 0, None) and crew.n_said(here.db) < 240
    of(here).finish()
    once(review.bodies, False)


@pytest.mark.slow
def test_a_job_that_kills_its_worker_runs_out_of_attempts(here: Workspace) -> None:
    """Attempts count from the claim: after the last the job is dead, says why, and the one behind it is done (fault 27)."""
    bodies = deliveries.review(2, n_bulk=0)[:2]
    ledger.receive(here, bodies)
    with here.db.write() as session:
        session.execute(update(JobRow).where(JobRow.kind == "ingest").values(max_attempts=1))
    of(here).die_at("worker.after_claim")
    crew.wait_for_leases(here.db)
    assert of(here).start("--until-idle").wait() == 0
    with here.db.read() as session:
        columns = select(JobRow.state, JobRow.attempt, JobRow.error).where(JobRow.kind == "ingest").order_by(JobRow.id)
        found = [tuple(row) for row in session.execute(columns)]
    assert found == [("dead", 1, "the worker died in the last attempt"), ("done", 1, None)]
