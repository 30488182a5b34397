"""SQLite has one writer: a worker that writes back to back must not keep the receiver out."""

import threading
import time

import pytest
from sqlalchemy import text

from curation.store.db import Database
from curation.store.workspace import Workspace

N_WRITES, HELD_S, GAP_S = 50, 0.04, 0.004


@pytest.mark.slow
def test_somebody_who_waits_gets_in_between_two_writes_of_a_busy_worker(sqlite_workspace: Workspace) -> None:
    """SQLite's own waiting looks every 0.1 s and hits few of the short gaps; ours gets into every other one (fault 22)."""
    done, n_got_in = threading.Event(), 0

    def work() -> None:
        busy = Database(sqlite_workspace.db.url)
        for _ in range(N_WRITES):
            with busy.write() as session:
                session.execute(text("DELETE FROM state"))
                time.sleep(HELD_S)
            time.sleep(GAP_S)
        busy.dispose()
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        with sqlite_workspace.db.write() as session:
            session.execute(text("DELETE FROM state"))
            n_got_in += 1
        time.sleep(HELD_S / 2)
    thread.join()
    assert n_got_in > N_WRITES / 2
