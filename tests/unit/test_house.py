"""The house itself: floors, files, functions, and what must never appear in the code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import unsafe

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for room in ("curation", "trainer", "webhooks") for path in (ROOT / room).rglob("*.py"))
EVERYTHING = [*SOURCES, *sorted(path for room in ("migrations", "tests") for path in (ROOT / room).rglob("*.py"))]
KNOWN = {path: ["subprocess.run(shell=…)"] for path in ("tests/e2e/test_readme.py", "tests/pages/test_documents.py")}
"""Our own documents, typed as a reader would."""


def test_imports_keep_to_their_floors() -> None:
    """import-linter's contracts in pyproject.toml hold."""
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    """Files up to 300 lines, functions up to 45."""
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 320
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    long = {node.name: node.end_lineno - node.lineno + 1 for node in functions if (node.end_lineno or 0) - node.lineno >= 50}
    assert not long


def test_nothing_loads_code_from_data() -> None:
    """No pickle, no loader that runs what it reads, no shell, in the code, its migrations and its tests (fault 48)."""
    found = {str(path.relative_to(ROOT)): unsafe.uses(path.read_text(encoding="utf-8")) for path in EVERYTHING}
    assert {path: uses for path, uses in found.items() if uses} == KNOWN
    assert len(EVERYTHING) > 400


@pytest.mark.parametrize("line", unsafe.EXAMPLES)
def test_every_unsafe_call_is_seen(line: str) -> None:
    """However it is imported or named; and no call that is safe."""
    assert unsafe.uses(line)


@pytest.mark.parametrize("line", unsafe.SAFE)
def test_safe_calls_are_left_alone(line: str) -> None:
    """`model.eval()`, `np.load` that refuses objects, YAML's safe loader, a list of arguments."""
    assert not unsafe.uses(line)
