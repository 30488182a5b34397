"""gunicorn, started from Python: one process of threads by default, graceful on SIGTERM."""

from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from curation import telemetry
from curation.settings import Settings
from curation.store.workspace import Workspace
from webhooks import patience, service
from webhooks.app import create_app
from webhooks.pages import overview

KEEPALIVE_S = 5
GRACEFUL_S = 25
"""Requests under way get this long after SIGTERM; supervisors usually kill after 30 s."""

log = telemetry.logger("serve")


class Server(BaseApplication):  # type: ignore[misc]
    """The service under gunicorn. Database and writer are opened in each worker, after the fork."""

    def __init__(self, settings: Settings, *, n_workers: int, n_threads: int) -> None:
        self.settings = settings
        self.n_workers, self.n_threads = n_workers, n_threads
        self._app: Flask | None = None
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn."""
        wanted: dict[str, Any] = {
            "bind": f"{self.settings.host}:{self.settings.port}",
            "workers": self.n_workers,
            "worker_class": patience.PatientWorker,
            "threads": self.n_threads,
            "keepalive": KEEPALIVE_S,
            "graceful_timeout": GRACEFUL_S,
            "control_socket_disable": True,
            "loglevel": "warning",
            "proc_name": "refurbish",
            "when_ready": self._say_ready,
            "worker_exit": self._close,
        }
        for name, value in wanted.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """The application of one worker; called by gunicorn after the fork."""
        self._app = create_app(Workspace.open(self.settings, check=False))
        self._app.wsgi_app = patience.wrapped(self._app.wsgi_app)  # type: ignore[method-assign]
        overview.count_ahead(service.of(self._app))
        return self._app

    def _say_ready(self, _arbiter: Any) -> None:
        log.info("listening", url=self.settings.service_url, workers=self.n_workers, threads=self.n_threads)

    def _close(self, _arbiter: Any, _worker: Any) -> None:
        if self._app is not None:
            here = service.of(self._app)
            here.close()
            here.workspace.close()
