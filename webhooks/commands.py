"""`refurbish serve`."""

import json
from pathlib import Path

import click

from curation import console, telemetry
from curation.errors import ConfigError
from curation.store import health
from curation.store.workspace import Workspace


@console.command("serve", example="refurbish serve --host 0.0.0.0 --port 8765")
@click.option("--host", help="Address to listen on (default: 127.0.0.1).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on (default: 8765).")
@click.option("--workers", default=1, type=click.IntRange(1, 64), show_default=True, help="Processes; more only on PostgreSQL.")
@click.option("--threads", default=32, type=click.IntRange(2, 512), show_default=True, help="Threads of each process.")
@console.pass_session
def serve(session: console.Session, host: str | None, port: int | None, workers: int, threads: int, as_json: bool) -> None:
    """Run the web service until SIGTERM: webhook receiver, photos, health, status page."""
    from webhooks import auth
    from webhooks.server import Server

    settings = session.settings(host=host, port=port)
    auth.require_secret(settings)
    workspace = Workspace.open(settings)  # a wrong schema is said here, not by each worker
    try:
        is_sqlite = workspace.db.is_sqlite
        local = health.sqlite_is_local(Path(workspace.db.engine.url.database or "")) if is_sqlite else None
    finally:
        workspace.close()
    if local is not None and local.is_failed:
        raise ConfigError(local.words)
    telemetry.configure()
    console.emit({"url": settings.service_url, "workers": workers, "threads": threads}, as_json=as_json)
    Server(settings, n_workers=workers, n_threads=threads).run()


@console.command("openapi", example="refurbish openapi > openapi.json")
@console.pass_session
def openapi(session: console.Session, as_json: bool) -> None:
    """Print the OpenAPI 3.1 document of the API, as the service gives it at /api/v1/openapi.json."""
    from webhooks.api import routes

    document = routes.described(session.settings().service_url)
    console.emit(document, as_json=as_json, human=json.dumps(document, indent=2, ensure_ascii=False))
