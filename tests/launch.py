"""Our own commands as processes of their own, told by their environment what to work on."""

import json
import os
import subprocess
import sys
from pathlib import Path

from curation.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


def environment(**settings: object) -> dict[str, str]:
    """What a process of ours is started with: these settings, and none that this process has."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REFURBISH_")}
    return kept | {"PYTHONPATH": str(ROOT)} | {f"REFURBISH_{name.upper()}": _as_text(value) for name, value in settings.items()}


def told(settings: Settings) -> dict[str, object]:
    """The settings by which another process works on the same workspace, with the same Label Studio."""
    return {
        "home": settings.home,
        "database_url": settings.url,
        "port": settings.port,
        "public_url": settings.public_url,
        "webhook_secret": settings.webhook_secret.get_secret_value(),
        "label_studio_url": settings.label_studio_url,
        "label_studio_token": settings.label_studio_token.get_secret_value(),
        "label_studio_project": settings.label_studio_project,
    }


def command(*words: object) -> list[str]:
    """`refurbish` with these words."""
    return [sys.executable, "-m", "curation.cli", *map(str, words)]


def start(log: Path, *words: object, **settings: object) -> subprocess.Popen[bytes]:
    """Start one, at the head of its own process group. What it prints is added to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command(*words),
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _as_text(value: object) -> str:
    return json.dumps(list(value)) if isinstance(value, tuple) else str(value)
