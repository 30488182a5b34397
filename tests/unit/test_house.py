"""The house itself: floors, files, functions, and what must never appear in the code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for room in ("curation", "trainer", "webhooks") for path in (ROOT / room).rglob("*.py"))
BANNED = re.compile(r"\bimport pickle\b|torch\.load\(|joblib\.load\(|yaml\.load\(|(?<![.\w])eval\(|shell=True")


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


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_loads_code_from_data(path: Path) -> None:
    """No pickle, no unsafe loaders, no shell."""
    assert not BANNED.search(path.read_text(encoding="utf-8"))
