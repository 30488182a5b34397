"""What the two databases do under the same session: retry, translate, refuse."""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from curation.errors import DatabaseError
from curation.store.db import Database
from curation.store.tables import State
from curation.store.workspace import Workspace, set_state


def _opposite(workspace: Workspace, meet: threading.Barrier, first: str, then: str) -> Callable[[Session], None]:
    """Lock two rows; both threads hold their first one when they ask for the other."""

    def work(session: Session) -> None:
        session.execute(update(State).where(State.key == first).values(value={"by": first}))
        with suppress(threading.BrokenBarrierError):
            meet.wait(1)
        session.execute(update(State).where(State.key == then).values(value={"by": first}))

    return work


def test_a_deadlock_is_run_again(workspace: Workspace, now: datetime) -> None:
    """PostgreSQL ends one of the two transactions; `retrying` runs it again, and both are done (fault 32)."""
    with workspace.db.write() as session:
        for key in "ab":
            set_state(session, key, {}, now=now)
    meet = threading.Barrier(2)
    works = [_opposite(workspace, meet, *pair) for pair in ("ab", "ba")]
    threads = [threading.Thread(target=workspace.db.retrying, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with workspace.db.read() as session:
        values = session.execute(select(State.value).order_by(State.key)).scalars().all()
    assert values[0] == values[1] and values[0]["by"] in "ab", "one of them was last, on both rows"


def test_waiting_for_a_lock_is_bounded(workspace: Workspace) -> None:
    """With `busy_timeout_s` a locked table is a DatabaseError within that time, on either database."""
    hasty = Database(workspace.db.url, busy_timeout_s=0.2)
    with workspace.db.write() as session:
        lock = "SELECT 1" if workspace.db.is_sqlite else "LOCK TABLE state IN ACCESS EXCLUSIVE MODE"
        session.execute(text(lock))  # on SQLite any statement of a write session holds the lock
        with pytest.raises(DatabaseError, match="did not answer"), hasty.write() as other:
            other.execute(update(State).values(key="x"))
    hasty.dispose()
