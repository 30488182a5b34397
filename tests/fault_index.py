"""Which tests keep which fault of docs/trust.md away: `python -m tests.fault_index` prints it, `--write` tells the document.

A test says which faults it keeps away at the end of its docstring's sentence: `(fault 6)`, `(faults 13, 22)`."""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "trust.md"
NAMED = re.compile(r"\(faults? (\d+(?:, \d+)*)\)")
ROW = re.compile(r"^\| (\d+) \| ([^|\n]+) \| ([^|\n]+) \|.*$", flags=re.M)


def told_by(file: Path) -> Iterator[str]:
    """The docstring of every test of a file, and of every state machine."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield ast.get_docstring(node) or ""


def found() -> dict[int, dict[Path, int]]:
    """How many tests of which file name a fault: {fault: {file: tests}}."""
    index: dict[int, dict[Path, int]] = defaultdict(lambda: defaultdict(int))
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for told in told_by(file):
            for numbers in NAMED.findall(told):
                for number in numbers.split(", "):
                    index[int(number)][file.relative_to(ROOT)] += 1
    return index


def cell(files: dict[Path, int]) -> str:
    """The last cell of a row: links to the files of the tests, and how many there are."""
    return ", ".join(f"[{_short(file)}](../{file.as_posix()})" + (f" {n}" if n > 1 else "") for file, n in files.items())


def _short(file: Path) -> str:
    return file.stem.removeprefix("test_").replace("_", " ")


def written(text: str) -> str:
    """The document with the last cell of each row as the tests have it now."""
    index = found()
    return ROW.sub(lambda row: f"| {row[1]} | {row[2]} | {row[3]} | {cell(index[int(row[1])])} |", text)


if __name__ == "__main__":
    told = written(DOCUMENT.read_text(encoding="utf-8"))
    if "--write" in sys.argv:
        DOCUMENT.write_text(told, encoding="utf-8")
    for number, files in sorted(found().items()):
        print(number, ", ".join(f"{file} {n}" for file, n in files.items()))
