"""What every route works on: the workspace, the inbox writer, and the numbers kept in this process."""

from dataclasses import dataclass
from typing import cast

from flask import Flask, current_app

from curation.store.db import Database
from curation.store.workspace import Workspace
from webhooks.kept import Keeper
from webhooks.limits import Limits
from webhooks.metrics import Metrics
from webhooks.model import Model
from webhooks.writer import BatchWriter

EXTENSION = "refurbish"


@dataclass(frozen=True)
class Service:
    """One per process. The writer has its own connections, so that pages never make a delivery wait."""

    workspace: Workspace
    writer: BatchWriter
    metrics: Metrics
    limits: Limits
    keeper: Keeper
    model: Model

    @classmethod
    def open(cls, workspace: Workspace) -> "Service":
        """Start the writer. Call it in the process that serves, never before a fork."""
        writer_db = Database(workspace.settings.url, busy_timeout_s=workspace.settings.webhook_wait_s)
        metrics, model = Metrics(workspace), Model(workspace)
        metrics.watch(model)
        return cls(workspace, BatchWriter(writer_db), metrics, Limits(workspace.settings), Keeper(), model)

    def close(self) -> None:
        """Store what is waiting and let go of the database; the workspace stays open."""
        self.writer.close()  # first: a long count must not keep deliveries waiting
        self.keeper.close()
        self.writer.db.dispose()


def of(app: Flask) -> Service:
    """The service behind this app."""
    return cast(Service, app.extensions[EXTENSION])


def current() -> Service:
    """The service behind the current request."""
    return of(current_app)
