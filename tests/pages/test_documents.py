"""The commands of the documents, typed over a loop that has run for weeks."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pages_world
from tests.unit.test_docs import PAGES, commands

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # it trains, more than once

ELSEWHERE = {
    "serve": "runs until it is told to stop: tests/serving.py",
    "worker": "the same: tests/integration/test_worker.py",
    "labelstudio": "needs a Label Studio: tests/live",
    "retrain": "trains for minutes, some with weights of others: tests/e2e/test_readme.py",
    "search": "searches for minutes: tests/e2e/test_readme.py",
    "category": "trains: tests/e2e/test_readme.py",
    "backup": "writes outside: tests/faults/test_backup.py",
    "restore": "tests/faults/test_backup.py",
    "erase": "tests/faults/test_erasure.py",
    "sample": "tests/e2e/test_readme.py",
    "ingest": "reads files that are nowhere: tests/integration/test_ingest.py",
}
"""First word of what is not run here, and where it is."""

NAMED = {"NAME": "ada", "REF": "L000001", "1042": "L000001", "test.parquet --split test": "test.parquet"}
ONLY_NAMED = ("refurbish embed", "refurbish export")
"""They stand for the command; alone they say that a file must be named."""

NEEDS_ONE = ("jobs revive", "token revoke", "repair --undo", "promote", "rollback", "history REF")
"""These want the number of something that must be there first."""


def typed() -> Iterator[str]:
    """Each command once, with names for what the documents leave open."""
    seen = set()
    for page in PAGES:
        for line in commands(page):
            rest = line.removeprefix("refurbish ")
            if rest.split()[0] in ELSEWHERE or rest.startswith(NEEDS_ONE) or page.name == "README.md":
                continue
            for old, new in NAMED.items():
                line = line.replace(old, new)
            if line not in seen and line not in ONLY_NAMED:
                seen.add(line)
                yield line


def test_the_documents_commands_work(tmp_path: Path) -> None:
    """In the order of the pages, each with exit code 0."""
    pages_world.build(tmp_path / "home", n=300)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REFURBISH_")}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}", "REFURBISH_HOME": str(tmp_path / "home")}
    lines, wrong = list(typed()), {}
    assert len(lines) > 25, lines
    for number, line in enumerate(lines):
        line = line.replace("FOLDER", f"folder-{number}")
        done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            wrong[line] = done.stderr[-500:]
    assert wrong == {}
