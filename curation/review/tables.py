"""Rows of a command's answer as a file: CSV without formulas, or one JSON object a line."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curation.errors import InputError
from curation.release.formats import defuse
from curation.store.files import write_atomic


def write(rows: Sequence[dict[str, Any]], columns: Sequence[str], out: Path) -> None:
    """In the format that the suffix of `out` says. Raises InputError on another suffix than .csv and .jsonl."""
    suffix = out.suffix.lower()
    if suffix not in (".csv", ".jsonl"):
        raise InputError(f"--out {out} has no known suffix; use .csv or .jsonl")
    write_atomic(out, _csv(rows, columns) if suffix == ".csv" else _jsonl(rows))


def _csv(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> bytes:
    """No cell can start a formula; a missing value is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    writer.writerows({name: defuse(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows)
    return out.getvalue().encode()


def _jsonl(rows: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()
