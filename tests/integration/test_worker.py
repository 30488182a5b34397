"""The worker: fenced effects, failures, deaths."""

import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import ModuleType

import pytest
from psycopg.errors import DeadlockDetected
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import OperationalError

from curation import worker as worker_module
from curation.errors import InputError
from curation.store import jobs
from curation.store.jobrun import JobRun
from curation.store.tables import State
from curation.store.workspace import Workspace, get_state, set_state
from curation.worker import Worker
from tests.conftest import NOW


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[JobRun], None]], None]:
    """Register a function as the handler of jobs of kind ``probe``."""

    def register(function: Callable[[JobRun], None]) -> None:
        module = ModuleType("probe_handlers")
        module.handle = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "probe_handlers", module)
        monkeypatch.setitem(worker_module.HANDLERS, "probe", "probe_handlers:handle")

    return register


def _enqueue(workspace: Workspace, key: str = "k", max_attempts: int = 5) -> None:
    with workspace.db.write() as session:
        jobs.enqueue(session, "probe", {}, key=key, now=NOW, max_attempts=max_attempts)


def _states(workspace: Workspace) -> dict[str, int]:
    with workspace.db.read() as session:
        return jobs.count_by_state(session)


def _leave_a_mark(run: JobRun) -> None:
    """An effect that shows how often it happened."""
    with run.finishing() as session:
        set_state(session, f"mark:{run.job.id}:{uuid.uuid4()}", {}, now=NOW)


def test_effect_and_done_are_one_transaction(workspace: Workspace, handle: Callable[..., None]) -> None:
    """An error after the effect takes the effect back, and the job is tried again (fault 23)."""

    def explode(run: JobRun) -> None:
        with run.finishing() as session:
            set_state(session, "n", {"n": 1}, now=NOW)
            raise InputError("no")

    handle(explode)
    _enqueue(workspace)
    assert Worker(workspace, ["probe"]).run(until_idle=True) == 1
    with workspace.db.read() as session:
        assert get_state(session, "n") is None
    assert _states(workspace) == {"todo": 1}


def test_many_workers_give_each_job_one_effect(workspace: Workspace, handle: Callable[..., None]) -> None:
    """Four workers over forty jobs: forty effects, none twice (fault 25)."""
    handle(_leave_a_mark)
    for i in range(40):
        _enqueue(workspace, key=f"k{i}")
    threads = [threading.Thread(target=Worker(workspace, ["probe"]).run, kwargs={"until_idle": True}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Worker(workspace, ["probe"]).run(until_idle=True)
    with workspace.db.read() as session:
        assert session.execute(select(func.count()).select_from(State).where(State.key.like("mark:%"))).scalar_one() == 40
    assert _states(workspace) == {"done": 40}


def test_a_poison_job_dies_and_the_queue_moves_on(workspace: Workspace, handle: Callable[..., None]) -> None:
    """The job that always fails is dead after its attempts; the one behind it runs (fault 26)."""

    def fail_on_bad(run: JobRun) -> None:
        if run.job.dedupe_key == "bad":
            raise InputError("bad payload")

    handle(fail_on_bad)
    _enqueue(workspace, "bad", max_attempts=1)
    _enqueue(workspace, "good")
    assert Worker(workspace, ["probe"]).run(until_idle=True) == 2
    assert _states(workspace) == {"dead": 1, "done": 1}


def test_a_job_of_a_newer_version_is_left_and_told(
    workspace: Workspace, handle: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its kind is not known here: it waits for a worker that knows it, and the log names it (fault 31)."""
    handle(_leave_a_mark)
    with workspace.db.write() as session:
        jobs.enqueue(session, "transmogrify", {}, key="new", now=NOW)
    _enqueue(workspace)
    assert Worker(workspace).run(until_idle=True) == 1
    assert _states(workspace) == {"done": 1, "todo": 1}
    assert '"kinds": ["transmogrify"]' in capsys.readouterr().err


def test_a_payload_of_a_newer_version_backs_off(workspace: Workspace) -> None:
    """What an older handler misses in it is noted with the job, which comes again later; the worker goes on (fault 31)."""
    with workspace.db.write() as session:
        jobs.enqueue(session, "ingest", {"inbox": {"v2": 1}}, key="new", now=NOW)
    assert Worker(workspace, ["ingest"]).run(until_idle=True) == 1
    with workspace.db.read() as session:
        (job,) = jobs.newest(session)
    assert (job.state, job.attempt) == ("todo", 1) and job.error is not None and "KeyError: 'inbox_id'" in job.error


def test_a_handler_that_is_not_installed_leaves_its_jobs(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No attempt is used up, this worker asks for no more of them, and says what to do (fault 31)."""
    monkeypatch.setitem(worker_module.HANDLERS, "probe", "not_installed_here:handle")
    _enqueue(workspace)
    assert Worker(workspace, ["probe"]).run(until_idle=True) == 1
    with workspace.db.read() as session:
        (job,) = jobs.newest(session)
    assert (job.state, job.attempt) == ("todo", 0)
    assert "start with --without probe" in capsys.readouterr().err


def test_a_deadlock_in_a_handler_is_run_again(workspace: Workspace, handle: Callable[..., None]) -> None:
    """PostgreSQL ends one of two; it is tried again at once, both are done at the first attempt (faults 29, 32)."""
    meet = threading.Barrier(2)

    def lock_crosswise(run: JobRun) -> None:
        with run.finishing() as session:
            for key in run.job.dedupe_key:
                session.execute(update(State).where(State.key == key).values(value={"by": run.job.dedupe_key}))
                with suppress(threading.BrokenBarrierError):
                    meet.wait(0.5)

    handle(lock_crosswise)
    with workspace.db.write() as session:
        for key in "ab":
            set_state(session, key, {}, now=NOW)
    for key in ("ab", "ba"):
        _enqueue(workspace, key)
    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(lambda _: Worker(workspace, ["probe"]).step(), range(2))) == 2
    with workspace.db.read() as session:
        assert [(job.state, job.attempt) for job in jobs.newest(session)] == [("done", 1)] * 2


def test_a_deadlock_without_end_is_told(workspace: Workspace, handle: Callable[..., None]) -> None:
    """After three more tries the job fails with what the database said, and backs off (fault 32)."""
    n_tries = []

    def always(run: JobRun) -> None:
        with run.finishing() as session:
            n_tries.append(1)
            session.execute(text("SELECT 1"))
            raise OperationalError("UPDATE state", {}, DeadlockDetected("deadlock detected"))

    handle(always)
    _enqueue(workspace)
    assert Worker(workspace, ["probe"]).step()
    with workspace.db.read() as session:
        (job,) = jobs.newest(session)
    assert len(n_tries) == 4 and (job.state, job.attempt) == ("todo", 1)
    assert job.error is not None and "deadlock detected" in job.error


def test_a_connection_lost_in_a_handler_is_made_anew(workspace: Workspace, handle: Callable[..., None]) -> None:
    """The server ends the session in mid-transaction: its writes are gone, the handler runs again, one effect (fault 29)."""
    if workspace.db.is_sqlite:
        pytest.skip("SQLite has no connection that could be lost")
    n_tries = []

    def cut_off(run: JobRun) -> None:
        with run.finishing() as session:
            set_state(session, f"mark:{uuid.uuid4()}", {}, now=NOW)
            n_tries.append(1)
            if len(n_tries) == 1:
                session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    handle(cut_off)
    _enqueue(workspace)
    assert Worker(workspace, ["probe"]).step()
    with workspace.db.read() as session:
        assert session.execute(select(func.count()).where(State.key.like("mark:%"))).scalar_one() == 1
    assert len(n_tries) == 2 and _states(workspace) == {"done": 1}


def test_a_stop_ends_a_long_job_between_two_parts(workspace: Workspace, handle: Callable[..., None]) -> None:
    """What it has committed stays; the job is free at once, without counting the attempt, and is begun by the next (fault 28)."""
    workers = [Worker(workspace, ["probe"]) for _ in range(2)]

    def in_parts(run: JobRun) -> None:
        for part in range(3):
            with run.writing() as session:
                set_state(session, f"mark:{part}", {}, now=NOW)
            if part == 1:
                workers[0].stop()

    handle(in_parts)
    _enqueue(workspace)
    assert workers[0].run() == 1
    with workspace.db.read() as session:
        (job,) = jobs.newest(session)
        assert get_state(session, "mark:1") is not None and get_state(session, "mark:2") is None
    assert (job.state, job.attempt) == ("todo", 0)
    assert workers[1].run(until_idle=True) == 1 and _states(workspace) == {"done": 1}


def test_a_stop_between_claim_and_handler_is_heard(
    workspace: Workspace, handle: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job that was claimed just then is given back too, not run for hours (fault 28)."""
    running = Worker(workspace, ["probe"])
    monkeypatch.setattr(worker_module.crash, "reached", lambda point: running.stop() if point == "worker.after_claim" else None)
    handle(lambda run: run.go_on())
    _enqueue(workspace)
    assert running.run() == 1 and _states(workspace) == {"todo": 1}
