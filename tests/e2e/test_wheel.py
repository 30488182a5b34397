"""The wheel, installed where nothing else of the checkout is."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)  # it installs everything
def test_an_installed_wheel_migrates_a_database(tmp_path: Path) -> None:
    """Build, install into a clean environment, upgrade: the migrations came along."""
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("refurbish-*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    _run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    refurbish = python.with_name("refurbish")
    _run(refurbish, "--home", tmp_path / "home", "db", "upgrade", cwd=tmp_path)
    shown = _run(refurbish, "--home", tmp_path / "home", "status", "--json", cwd=tmp_path)
    assert '"listings"' in shown
    located = _run(python, "-c", "from curation.store.schema import migrations_dir as m; print(m())", cwd=tmp_path)
    assert "site-packages/curation/_migrations" in located


def _run(*command: object, cwd: Path = ROOT) -> str:
    """Run it, fail loudly, return what it printed."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
