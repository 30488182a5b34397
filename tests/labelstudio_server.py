"""A real Label Studio on loopback for tests and the demo.

The first start migrates a fresh database (about 90 s) and keeps it as a template under
``.demo/labelstudio-template``; each later start copies that template and is up in under 10 s.
The server runs with a clean environment: no analytics, no Sentry, no inherited `HOST` or `PORT`.
"""

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.labelstudio_people import Moderator

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / ".venv-labelstudio" / "bin" / "label-studio"
TEMPLATE = ROOT / ".demo" / "labelstudio-template"
ADMIN_EMAIL = "admin@example.com"
BOOT_TIMEOUT_S = 400.0
BANNED_SUBNETS = "169.254.0.0/16,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7,fe80::/10"
"""What Label Studio's SSRF guard still refuses; only loopback is opened, for our webhook."""


@dataclass(frozen=True)
class Admin:
    """The account made at the first boot of a data folder. The token is the legacy kind: it does not expire."""

    email: str
    password: str
    token: str


def is_installed() -> bool:
    """Whether `make labelstudio` was run."""
    return PROGRAM.is_file()


class LabelStudioServer:
    """One running server over one data folder. `start()` returns once it answers as ours."""

    def __init__(self, data_dir: Path, *, port: int | None = None) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def admin(self) -> Admin:
        """The administrator, as remembered beside the data."""
        return Admin(**json.loads((self.data_dir / "admin.json").read_text()))

    def start(self) -> "LabelStudioServer":
        """Start over the data folder, made from the template if it is not there yet."""
        if not self.data_dir.exists():
            _copy_template(self.data_dir)
        command = [str(PROGRAM), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=_environment(self.data_dir, self.admin), stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server and its children; safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        for number, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            try:
                process.wait(patience_s)
                break
            except subprocess.TimeoutExpired:
                continue
        process.wait()

    @property
    def pid(self) -> int | None:
        """The process id (also its process group), or None when stopped."""
        return None if self._process is None else self._process.pid

    def moderator(self, email: str) -> Moderator:
        """A member of the organization, signed up through the invite link, with a session of their own."""
        with httpx.Client(base_url=self.url, headers={"Authorization": f"Token {self.admin.token}"}, timeout=60) as api:
            invite = api.get("/api/invite").raise_for_status().json()["invite_url"]
        return Moderator.sign_up(self.url, invite, email=email, password=secrets.token_urlsafe(12))

    def _wait(self) -> None:
        headers = {"Authorization": f"Token {self.admin.token}"}
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        with httpx.Client(base_url=self.url, headers=headers, timeout=10) as api:
            while time.monotonic() < deadline:
                if self._process is None or self._process.poll() is not None:
                    raise RuntimeError(f"Label Studio ended while starting; its log ends with:\n{self._log_tail()}")
                try:
                    if api.get("/health").is_success and api.get("/api/current-user/whoami").is_success:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.2)
        raise RuntimeError(f"Label Studio did not answer on {self.url}; its log ends with:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else "(no log)"


@contextmanager
def running(data_dir: Path, *, port: int | None = None) -> Iterator[LabelStudioServer]:
    """A server for the length of a `with` block."""
    server = LabelStudioServer(data_dir, port=port).start()
    try:
        yield server
    finally:
        server.stop()


def prepare_template() -> Path:
    """Make the migrated data folder once; one process builds it, others wait."""
    TEMPLATE.parent.mkdir(exist_ok=True)
    with (TEMPLATE.parent / "labelstudio-template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not TEMPLATE.exists():
            fresh = TEMPLATE.with_name(f"{TEMPLATE.name}-{os.getpid()}")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            admin = {"email": ADMIN_EMAIL, "password": secrets.token_urlsafe(12), "token": secrets.token_hex(20)}
            (fresh / "admin.json").write_text(json.dumps(admin))
            LabelStudioServer(fresh).start().stop()
            fresh.rename(TEMPLATE)
    return TEMPLATE


def free_port() -> int:
    """A port nobody listens on right now; Label Studio moves to another one silently if it is taken."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _copy_template(data_dir: Path) -> None:
    if not is_installed():
        raise RuntimeError(f"{PROGRAM} is missing; run `make labelstudio`")
    shutil.copytree(prepare_template(), data_dir)


def _environment(data_dir: Path, admin: Admin) -> dict[str, str]:
    """All of the server's environment: Label Studio would pick up any bare HOST, PORT or PASSWORD of ours."""
    return {
        "PATH": f"{PROGRAM.parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(data_dir),
        "LANG": "C.UTF-8",
        "LABEL_STUDIO_USERNAME": admin.email,
        "LABEL_STUDIO_PASSWORD": admin.password,
        "LABEL_STUDIO_USER_TOKEN": admin.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_BASE_DATA_DIR": str(data_dir),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "USE_DEFAULT_BANNED_SUBNETS": "false",
        "USER_ADDITIONAL_BANNED_SUBNETS": BANNED_SUBNETS,
    }


if __name__ == "__main__":
    print(prepare_template())
