"""Our server and worker as processes of their own, killed without warning and started again."""

import os
import random
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path

from curation.settings import Settings
from tests import launch

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
        self._settings = launch.told(settings) | {"lease_s": LEASE_S, "reconcile_every_s": RECONCILE_EVERY_S}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Processes":
        for name in COMMANDS:
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.stop(name)

    def start(self, name: str) -> None:
        self._running[name] = launch.start(self.folder / f"{name}.log", *COMMANDS[name], **self._settings)

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
