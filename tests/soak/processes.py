"""Our server and worker as processes of their own, killed without warning and started again."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from curation.settings import Settings
from tests.live.world import SECRET

LEASE_S = 6
RECONCILE_EVERY_S = 10
WORK = "ingest,consensus,reconcile,push,refresh"
COMMANDS = {"server": ("serve",), "worker": ("worker", "--kinds", WORK)}
LIVES_S = (8.0, 45.0)
"""How long a process is left alone before the next kill."""

DEAD_S = (0.0, 4.0)
STOP_PATIENCE_S = 120.0


class Processes:
    """Both processes over one workspace. `kills` counts them by name."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
        self.kills: Counter[str] = Counter()
        self._environment = environment(settings)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Processes":
        for name in COMMANDS:
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.stop(name)

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "curation.cli", *COMMANDS[name]]
            self._running[name] = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, name: str) -> None:
        """`kill -9` of the process and its children."""
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.kills[name] += 1

    def stop(self, name: str) -> None:
        """As a supervisor does it; a process that does not end in time is an error."""
        process = self._running.pop(name)
        process.terminate()
        try:
            process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise

    def pid(self, name: str) -> int:
        return self._running[name].pid


class Killer(threading.Thread):
    """Kills one or both every few seconds, until told to stop; afterwards both are running."""

    def __init__(self, processes: Processes, rng: random.Random, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.processes, self.rng, self.stopping = processes, rng, stop

    def run(self) -> None:
        while not self.stopping.wait(self.rng.uniform(*LIVES_S)):
            names = self.rng.choice([["server"], ["worker"], ["worker"], ["server", "worker"]])
            for name in names:
                self.processes.kill(name)
            self.stopping.wait(self.rng.uniform(*DEAD_S))
            for name in names:
                self.processes.start(name)


def environment(settings: Settings, **more: object) -> Mapping[str, str]:
    """What a process of ours is started with."""
    chosen = {
        "home": settings.home,
        "database_url": settings.url,
        "port": settings.port,
        "public_url": settings.public_url,
        "webhook_secret": SECRET,
        "label_studio_url": settings.label_studio_url,
        "label_studio_token": settings.label_studio_token.get_secret_value(),
        "lease_s": LEASE_S,
        "reconcile_every_s": RECONCILE_EVERY_S,
        **more,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REFURBISH_")}
    return kept | {f"REFURBISH_{name.upper()}": str(value) for name, value in chosen.items()}
