"""Crash points: known by name, each in one place, off unless asked for."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from curation import crash
from curation.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def test_every_point_is_somewhere_and_nothing_else_is() -> None:
    """What the code reaches is what the table names."""
    files = [file for room in ("curation", "webhooks", "trainer") for file in (ROOT / room).rglob("*.py")]
    found = Counter(name for file in files for name in re.findall(r'crash\.reached\("([^"]+)"\)', file.read_text()))
    assert set(found) == set(crash.POINTS)
    assert all(words.endswith(".") for words in crash.POINTS.values())


@pytest.mark.parametrize("wanted", ["nowhere", "ingest.before_commit:0", "ingest.before_commit:x", ":1"])
def test_a_point_that_is_not_known_is_an_error(wanted: str) -> None:
    """At the start, not when a test waits for a death that never comes."""
    with pytest.raises(ConfigError, match=r"REFURBISH_CRASH_AT (names no known point|counts from 1)"):
        crash.arm({crash.VARIABLE: wanted})


def test_switched_off_nothing_happens() -> None:
    """Also where another point is armed, and before its turn has come."""
    try:
        for wanted in ("", "file.before_rename", "ingest.after_part:2"):
            crash.arm({crash.VARIABLE: wanted})
            crash.reached("ingest.after_part")
    finally:
        crash.arm({})


def test_a_process_dies_at_the_time_that_was_named() -> None:
    """By SIGKILL, the third time."""
    code = (
        "from curation import crash\n"
        "crash.arm({crash.VARIABLE: 'file.before_rename:3'})\n"
        "for n in range(5):\n    print(n, flush=True)\n    crash.reached('file.before_rename')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-9, "0\n1\n2\n")
