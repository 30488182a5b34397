"""What every route works on: the workspace, the inbox writer, and the numbers kept in this process."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from flask import Flask, current_app

from curation.store.db import Database
from curation.store.workspace import Workspace
from webhooks.kept import Keeper
from webhooks.limits import Limits
from webhooks.metrics import Metrics
from webhooks.writer import BatchWriter

EXTENSION = "refurbish"
STATUS_AGE_S = 1.0


class Recent:
    """A value that is asked for at most once in `age_s`, whoever and however many want it."""

    def __init__(self, age_s: float) -> None:
        self.age_s = age_s
        self._lock = threading.Lock()
        self._at_s = -math.inf
        self._value: dict[str, Any] = {}

    def get(self, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The value, asked anew if it is too old; an error is not kept."""
        with self._lock:
            if time.monotonic() - self._at_s >= self.age_s:
                self._value, self._at_s = ask(), time.monotonic()
            return self._value


@dataclass(frozen=True)
class Service:
    """One per process. The writer has its own connections, so that pages never make a delivery wait."""

    workspace: Workspace
    writer: BatchWriter
    metrics: Metrics
    status: Recent
    limits: Limits
    keeper: Keeper

    @classmethod
    def open(cls, workspace: Workspace) -> "Service":
        """Start the writer. Call it in the process that serves, never before a fork."""
        writer_db = Database(workspace.settings.url, busy_timeout_s=workspace.settings.webhook_wait_s)
        limits = Limits(workspace.settings)
        return cls(workspace, BatchWriter(writer_db), Metrics(workspace), Recent(STATUS_AGE_S), limits, Keeper())

    def close(self) -> None:
        """Store what is waiting and let go of the database; the workspace stays open."""
        self.writer.close()
        self.writer.db.dispose()


def of(app: Flask) -> Service:
    """The service behind this app."""
    return cast(Service, app.extensions[EXTENSION])


def current() -> Service:
    """The service behind the current request."""
    return of(current_app)
