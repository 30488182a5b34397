"""One writer of tasks at a time: Label Studio dedupes nothing, so two imports at once would double every task."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from curation.errors import LabelStudioError
from curation.labelstudio.client import IMPORT_TIMEOUT_S, Unanswered
from curation.store.workspace import Workspace, get_state, lock_state, set_state

STATE = "labelstudio.writer"
LENGTH = timedelta(seconds=IMPORT_TIMEOUT_S + 60)
"""Longer than any request of ours."""

SETTLE = timedelta(seconds=60)
"""An import whose sender is gone goes on in the server; a chunk takes it about a second, this long at most."""


class Busy(LabelStudioError):
    """Somebody else is writing tasks to Label Studio, or an import's fate is not known yet."""


class Lease:
    """The right to write tasks. Each request that makes some is sent inside `writing()`."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.is_uncertain = False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Renews the lease around one request, and remembers it if no answer comes."""
        self._hold(LENGTH, is_writing=True)
        try:
            yield
        except Unanswered:
            self.is_uncertain = True
            raise
        self._hold(LENGTH)

    def take(self) -> None:
        """Raises Busy if somebody else has it."""
        with self.workspace.db.write() as session:
            lock_state(session, STATE)
            now = self.workspace.db.now(session)
            held = get_state(session, STATE) or {}
            if held and _is_held(held, now):
                raise Busy(
                    f"process {held['pid']} on {held['host']} is writing tasks, until {held['until']} at most; try again then"
                )
            set_state(session, STATE, _holder(now, LENGTH), now=now)

    def end(self) -> None:
        """Give it back, or keep it for a while if the last request may still be carried out."""
        if self.is_uncertain:
            self._hold(SETTLE)
            return
        with self.workspace.db.write() as session:
            set_state(session, STATE, {}, now=self.workspace.db.now(session))

    def _hold(self, length: timedelta, *, is_writing: bool = False) -> None:
        with self.workspace.db.write() as session:
            now = self.workspace.db.now(session)
            state = _holder(now, length) | ({"writing_since": now.isoformat()} if is_writing else {})
            set_state(session, STATE, state, now=now)


@contextmanager
def exclusive(workspace: Workspace) -> Iterator[Lease]:
    """The lease for the length of a block. Raises Busy."""
    lease = Lease(workspace)
    lease.take()
    try:
        yield lease
    finally:
        lease.end()


def _holder(now: datetime, length: timedelta) -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "until": (now + length).isoformat()}


def _is_held(held: dict[str, Any], now: datetime) -> bool:
    if datetime.fromisoformat(held["until"]) <= now:
        return False
    if held["host"] != socket.gethostname() or _is_alive(int(held["pid"])):
        return True
    since = held.get("writing_since")
    return since is not None and now - datetime.fromisoformat(since) < SETTLE


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
