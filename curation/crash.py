"""Named points where a process can be made to die, so that tests can prove that nothing is lost or done twice there.

``REFURBISH_CRASH_AT=ingest.before_commit`` kills the process that gets there, ``…:3`` when it does for the third time. It is
SIGKILL: nothing is flushed, closed or rolled back by us. Switched off, a point costs the look at one variable.
"""

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from curation.errors import ConfigError, shorten

VARIABLE = "REFURBISH_CRASH_AT"

POINTS: Mapping[str, str] = {
    "receiver.before_commit": "Deliveries and their jobs are written and not committed; nobody was answered.",
    "receiver.after_commit": "They are committed; nobody was answered yet.",
    "worker.after_claim": "A job is ours, its handler has not begun.",
    "worker.before_finish": "A handler returned; its job is not marked done.",
    "worker.after_finish": "The job is done; the worker has not looked for the next one.",
    "ingest.after_part": "One of several parts of a bulk action is committed.",
    "ingest.before_commit": "A delivery's whole effect and its job's end are written and not committed.",
    "ingest.after_commit": "They are committed.",
    "reconcile.before_cursor": "A page of Label Studio's tasks is applied, the cursor has not moved, nothing is committed.",
    "reconcile.after_page": "A page and its cursor are committed; more pages follow.",
    "push.before_note": "Label Studio has made the tasks and said so; we have not noted them.",
    "snapshot.before_row": "The manifest lies in the file store; no row names it.",
    "export.before_rename": "All files of an export are written, under a temporary name.",
    "export.between_renames": "An earlier export has stepped aside; the new one is not in its place.",
    "release.before_commit": "A release is written and not committed.",
    "release.after_commit": "Another model is live; whoever asked was not told.",
    "file.before_rename": "A stored file is whole, under a temporary name.",
}
"""Every point, and what is true there."""


@dataclass(slots=True)
class _Armed:
    """The point that kills, after so many passes more."""

    point: str
    n_left: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    def passed(self) -> bool:
        with self.lock:
            self.n_left -= 1
            return self.n_left == 0


_armed: _Armed | None = None


def arm(environment: Mapping[str, str]) -> str | None:
    """Read the variable, once, at the start of a process; the armed point. Raises ConfigError on one that is not known."""
    global _armed  # noqa: PLW0603
    wanted = environment.get(VARIABLE, "")
    point, _, count = wanted.partition(":")
    if not wanted:
        _armed = None
    elif point not in POINTS:
        raise ConfigError(f"{VARIABLE} names no known point: {shorten(wanted)}; use one of {', '.join(POINTS)}, or unset it")
    elif count and not (count.isascii() and count.isdigit() and int(count) > 0):
        raise ConfigError(f"{VARIABLE} counts from 1, got {shorten(wanted)}; write {point}:1, or {point} alone")
    else:
        _armed = _Armed(point, int(count or 1))
    return None if _armed is None else _armed.point


def reached(point: str) -> None:
    """Die here if that was asked for."""
    if _armed is not None and _armed.point == point and _armed.passed():
        os.kill(os.getpid(), signal.SIGKILL)
