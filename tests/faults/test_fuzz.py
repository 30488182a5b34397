"""A short run of each fuzzer: the long ones are `make fuzz`."""

import platform
import re
import subprocess
import sys

import pytest

HAS_ATHERIS = sys.platform == "linux" and platform.machine() == "x86_64"
"""Where it is installed: there is no wheel for other machines."""


@pytest.mark.slow
@pytest.mark.skipif(not HAS_ATHERIS, reason="atheris has wheels for Linux on x86-64 only")
@pytest.mark.parametrize(("what", "n_least"), [("payloads", 2_000), ("photos", 500)])
def test_coverage_guided_changes_break_nothing(what: str, n_least: int) -> None:
    """Thousands of changed bodies become events or are refused, photos pictures or are refused (faults 14, 15, 51)."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", what, "--seconds", "12", "--seed", "1"],
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = re.search(r"Done (\d+) runs", done.stderr)
    assert found and int(found[1]) >= n_least
