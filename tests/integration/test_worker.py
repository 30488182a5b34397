"""The worker: fenced effects, failures, deaths."""

import sys
import threading
import uuid
from collections.abc import Callable
from types import ModuleType

import pytest
from sqlalchemy import func, select

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
    """An error after the effect takes the effect back, and the job is tried again."""

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
    """Four workers over forty jobs: forty effects, none twice."""
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
    """The job that always fails is dead after its attempts; the one behind it runs."""

    def fail_on_bad(run: JobRun) -> None:
        if run.job.dedupe_key == "bad":
            raise InputError("bad payload")

    handle(fail_on_bad)
    _enqueue(workspace, "bad", max_attempts=1)
    _enqueue(workspace, "good")
    assert Worker(workspace, ["probe"]).run(until_idle=True) == 2
    assert _states(workspace) == {"dead": 1, "done": 1}
