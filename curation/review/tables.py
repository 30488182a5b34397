"""Rows of a command's answer as a file: CSV without formulas, one JSON object a line, or what a command adds to these.

Rows are written as they come, so that a ranking of any length takes no more memory than a short one.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from curation.errors import InputError
from curation.release.formats import defuse
from curation.store.files import writing

Rows = Iterable[dict[str, Any]]
Encoder = Callable[[Rows, BinaryIO], None]


def write(rows: Rows, columns: Sequence[str], out: Path, others: Mapping[str, Encoder] | None = None) -> None:
    """In the format that the suffix of `out` says; `others` adds suffixes. Raises InputError on an unknown one."""
    encode = _encoders(columns, out, others)[out.suffix.lower()]
    with writing(out) as file:
        encode(rows, file)


def check_suffix(out: Path) -> None:
    """Raise InputError now if `write` would refuse `out` later."""
    _encoders((), out, None)


def _encoders(columns: Sequence[str], out: Path, others: Mapping[str, Encoder] | None) -> dict[str, Encoder]:
    known: dict[str, Encoder] = {".csv": lambda rows, file: _csv(rows, columns, file), ".jsonl": _jsonl, **(others or {})}
    if out.suffix.lower() not in known:
        *first, last = known
        raise InputError(f"--out {out} has no known suffix; use {', '.join(first)} or {last}")
    return known


def _csv(rows: Rows, columns: Sequence[str], file: BinaryIO) -> None:
    """No cell can start a formula; a missing value is empty."""
    out = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.DictWriter(out, columns, quoting=csv.QUOTE_NONNUMERIC)  # a semicolon must not end a text anywhere
    writer.writeheader()
    writer.writerows({name: defuse(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows)
    out.detach()


def _jsonl(rows: Rows, file: BinaryIO) -> None:
    file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n" for row in rows)
