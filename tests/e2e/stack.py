"""The whole product as a user would run it: Label Studio, service and workers as processes of their own."""

import json
import secrets
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from tests import launch
from tests.labelstudio_server import ADMIN_EMAIL, LabelStudioServer, free_port

LIGHT_KINDS = "ingest,consensus,reconcile,push,refresh,insight,export"
STOP_PATIENCE_S = 15.0


class Stack:
    """One folder with everything in it; `stop()` ends every process that was started."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.labelstudio = LabelStudioServer(folder / "labelstudio")
        self.settings = {"home": folder / "home", "port": self.port, "webhook_secret": secrets.token_hex(24), **settings}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def service_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What every process of ours is started with."""
        return launch.environment(**self.settings)

    def start_labelstudio(self) -> None:
        """Start it and tell our settings where it is."""
        self.labelstudio.start()
        self.settings |= {"label_studio_url": self.labelstudio.url, "label_studio_token": self.labelstudio.admin.token}

    def run(self, *arguments: object) -> dict[str, Any]:
        """Run one `refurbish` command with `--json`; what it printed. RuntimeError shows its error."""
        command = launch.command(*arguments, "--json")
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"refurbish {' '.join(command[3:])} failed ({done.returncode}): {done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found

    def start_service(self) -> None:
        """Start `refurbish serve` and wait until it is ready."""
        self._start("serve", "serve")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.service_url}/readyz", timeout=5).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"the service did not get ready; see {self.folder / 'serve.log'}")

    def start_worker(self, name: str, kinds: str) -> None:
        """Start one `refurbish worker` for these kinds of job."""
        self._start(name, "worker", "--kinds", kinds)

    def stop_process(self, name: str, number: int = signal.SIGTERM) -> None:
        """Stop one process; it is given time to finish what it has."""
        process = self._processes.pop(name)
        process.send_signal(number)
        try:
            process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """Stop all that was started, Label Studio last."""
        for name in list(self._processes):
            self.stop_process(name)
        self.labelstudio.stop()

    def _start(self, name: str, *arguments: str) -> None:
        self._processes[name] = launch.start(self.folder / f"{name}.log", *arguments, **self.settings)

    def pids(self) -> dict[str, int]:
        """Process id of everything that is running."""
        found = {name: process.pid for name, process in self._processes.items()}
        return found | ({"labelstudio": self.labelstudio.pid} if self.labelstudio.pid else {})

    def where_to_click(self) -> dict[str, str]:
        """Addresses of the running stack, and who may sign in there."""
        made = self.run("user", "add", "demo", "--role", "admin")
        return {
            "our pages": f"{self.service_url} as {made['name']} / {made['password']}",
            "label_studio": self.labelstudio.url,
            "login": f"{ADMIN_EMAIL} / {self.labelstudio.admin.password}",
        }
