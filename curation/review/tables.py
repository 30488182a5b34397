"""Rows of a command's answer as a file: CSV without formulas, one JSON object a line, or what a command adds to these."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from curation.errors import InputError
from curation.release.formats import defuse
from curation.store.files import write_atomic

Rows = Sequence[dict[str, Any]]
Encoder = Callable[[Rows], bytes]


def write(rows: Rows, columns: Sequence[str], out: Path, others: Mapping[str, Encoder] | None = None) -> None:
    """In the format that the suffix of `out` says; `others` adds suffixes. Raises InputError on an unknown one."""
    write_atomic(out, _encoders(columns, out, others)[out.suffix.lower()](rows))


def check_suffix(out: Path) -> None:
    """Raise InputError now if `write` would refuse `out` later."""
    _encoders((), out, None)


def _encoders(columns: Sequence[str], out: Path, others: Mapping[str, Encoder] | None) -> dict[str, Encoder]:
    known: dict[str, Encoder] = {".csv": lambda rows: _csv(rows, columns), ".jsonl": _jsonl, **(others or {})}
    if out.suffix.lower() not in known:
        *first, last = known
        raise InputError(f"--out {out} has no known suffix; use {', '.join(first)} or {last}")
    return known


def _csv(rows: Rows, columns: Sequence[str]) -> bytes:
    """No cell can start a formula; a missing value is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, quoting=csv.QUOTE_NONNUMERIC)  # a semicolon must not end a text anywhere
    writer.writeheader()
    writer.writerows({name: defuse(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows)
    return out.getvalue().encode()


def _jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()
