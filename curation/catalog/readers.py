"""Catalog files read row by row, in bounded memory: CSV, JSON Lines, Parquet.

What cannot be read as a row comes out as a `Broken` with its raw text, so that nothing is lost;
only a file that is not of its format at all raises InputError.
"""

import csv
import io
import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from curation.catalog import parquet
from curation.errors import InputError, shorten
from curation.types import is_nested_beyond

FORMATS: Mapping[str, str] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}

MAX_RECORD_CHARS = 4 << 20
"""Longest cell, and longest line: well above any text that is accepted, well below what hurts."""

MAX_LEVELS = 100
"""Lists and objects of a JSON line in one another."""

MAX_RECORD_LINES = 1_000
RETRY_LINES = 50
"""How far a record may reach, and how far while we look for the end of a damaged stretch."""

MAGIC: Mapping[bytes, str] = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook; unpack it, or save the sheet as CSV",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it first",
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"%PDF": "a PDF document",
}

SAMPLE_ROWS = 100


@dataclass(frozen=True, slots=True)
class Row:
    """One row as the file gives it. `n` counts from 1 without the header, `line` from 1 with it."""

    n: int
    line: int | None
    values: Mapping[str, Any]
    raw: str | None = None  #: the text of a JSON line


@dataclass(frozen=True, slots=True)
class Broken:
    """A stretch of the file that is not a row."""

    n: int
    line: int | None
    code: str
    reason: str
    raw: str


class Table:
    """An open catalog file: its columns, its rows once, and about how many there are."""

    def __init__(self, path: Path, fmt: str | None = None) -> None:
        self.path = path
        self.fmt = fmt or FORMATS.get(path.suffix.lower(), "")
        self._read = 0
        self._file = _open(path, self.fmt)
        try:
            self.columns, self._rows = self._start()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def rows(self) -> Iterator[Row | Broken]:
        """Every row or broken stretch, in the file's order; only once."""
        for row in self._rows:
            self._read += 1
            yield row

    def samples(self) -> list[Mapping[str, Any]]:
        """The values of the first rows; they still come out of `rows`."""
        first: list[Row | Broken] = []
        for row in self._rows:
            first.append(row)
            if len(first) == SAMPLE_ROWS:
                break
        self._rows = _chain(first, self._rows)
        return [row.values for row in first if isinstance(row, Row)]

    def n_rows(self) -> int:
        """How many rows there are in all: exact for Parquet, else judged by the bytes read so far."""
        if isinstance(self._total, int):
            return self._total
        size, position = self.path.stat().st_size, self._file.tell()
        return max(self._read, round(self._read * size / position)) if position else self._read

    def _start(self) -> tuple[tuple[str, ...], Iterator[Row | Broken]]:
        self._total: int | None = None
        if self.fmt == "parquet":
            table = parquet.open_table(self._file, self.path)
            self._total = table.n_rows
            return table.columns, (_parquet_row(n, values) for n, values in enumerate(table.rows(), 1))
        if self.fmt == "jsonl":
            return (), _json_rows(self._file)
        self._text = io.TextIOWrapper(
            self._file, "utf-8-sig", errors="surrogateescape", newline=""
        )  # closes the file when it goes
        lines = Lines(self._text)
        columns, delimiter = _header(lines, self.path)
        return columns, _csv_rows(lines, columns, delimiter)


def _open(path: Path, fmt: str) -> BinaryIO:
    if not fmt:
        raise InputError(f"file {path} has an ending that is not known; say --format csv, jsonl or parquet")
    try:
        if path.exists() and not path.is_file():  # first: opening a pipe that nobody writes to would wait for ever
            raise OSError("it is not a regular file")
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"file {path} cannot be read: {error.strerror or error}") from error
    start = file.read(4)
    file.seek(0)
    kind = next((words for magic, words in MAGIC.items() if start.startswith(magic)), None)
    if fmt != "parquet" and start == b"PAR1":
        kind = "a Parquet file; say --format parquet"
    if kind or not start:
        file.close()
        raise InputError(f"file {path} is {kind or 'empty'}")
    return file


def _chain(first: list[Row | Broken], rest: Iterator[Row | Broken]) -> Iterator[Row | Broken]:
    yield from first
    yield from rest


def _parquet_row(n: int, values: Mapping[str, Any] | str) -> Row | Broken:
    return Broken(n, None, "broken_parquet", values, "") if isinstance(values, str) else Row(n, None, values)


def _json_rows(file: BinaryIO) -> Iterator[Row | Broken]:
    n = 0
    if file.read(3) != b"\xef\xbb\xbf":
        file.seek(0)
    for line, data in enumerate(iter(lambda: file.readline(MAX_RECORD_CHARS), b""), 1):
        if line == 1 and data.lstrip().startswith(b"["):
            raise InputError("the file is one JSON array; write one object a line instead (JSON Lines)")
        if data.strip():
            n += 1
            yield _json_row(n, line, data)


def _json_row(n: int, line: int, data: bytes) -> Row | Broken:
    raw = data.decode("utf-8", "backslashreplace").rstrip("\r\n")
    try:
        values = json.loads(data.decode("utf-8"))
        is_deep = is_nested_beyond(values, MAX_LEVELS)
    except UnicodeDecodeError as error:
        return Broken(n, line, "not_utf8", f"line {line} is not UTF-8 at byte {error.start}; save the file as UTF-8", raw)
    except RecursionError:
        values, is_deep = None, True
    except ValueError as error:
        return Broken(n, line, "broken_json", f"line {line} is not JSON: {shorten(str(error))}", raw)
    if is_deep:
        return Broken(n, line, "broken_json", f"line {line} is nested too deeply", raw)
    if not isinstance(values, dict):
        return Broken(n, line, "broken_json", f"line {line} is not a JSON object but {shorten(values)}", raw)
    return Row(n, line, values, raw)


class Lines:
    """Lines of text with a memory: those taken for the current record can be put back."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._back: deque[str] = deque()
        self.taken: list[str] = []
        self.line = 1  #: number of the first line of the current record
        self._damaged_to = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else self._text.readline(MAX_RECORD_CHARS)
        if not line:
            raise StopIteration
        self.taken.append(line)
        if len(self.taken) > (RETRY_LINES if self.line <= self._damaged_to else MAX_RECORD_LINES):
            raise csv.Error(f"a quoted cell goes on for more than {len(self.taken) - 1} lines")
        return line

    def begin(self) -> None:
        """Forget the record before; the next line starts a new one."""
        self.line += sum(line.endswith(("\n", "\r")) for line in self.taken)
        self.taken = []

    def keep_first(self) -> str:
        """Put all lines of the record but its first back, and return the first."""
        self._damaged_to = max(self._damaged_to, self.line + len(self.taken) - 1)
        self._back.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]
        return self.taken[0]


def _header(lines: Lines, path: Path) -> tuple[tuple[str, ...], str]:
    """Column names, and the delimiter that occurs most often between them."""
    first = next(lines, "")
    delimiter = max(",;\t|", key=first.count)
    try:
        columns = tuple(name.strip() for name in next(csv.reader([first], delimiter=delimiter, strict=True)))
    except (csv.Error, StopIteration) as error:
        raise InputError(f"file {path}: the first line is not a CSV header: {shorten(first)}") from error
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice or not any(columns) or len(columns) > 10_000:
        what = f"column {shorten(twice[0])} comes twice in" if twice else "there are no column names in"
        raise InputError(f"file {path}: {what} the first line {shorten(first)}; give each column a name of its own")
    try:
        first.encode()
    except UnicodeEncodeError:
        raise InputError(f"file {path}: the first line is not UTF-8: {shorten(first)}; save the file as UTF-8") from None
    return columns, delimiter


def _csv_rows(lines: Lines, columns: tuple[str, ...], delimiter: str) -> Iterator[Row | Broken]:
    """Rows, resuming on the next line after one that is broken.

    A quote left open swallows the lines after it; only the line that opened it is given up.
    """
    csv.field_size_limit(MAX_RECORD_CHARS)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    n = 0
    while True:
        lines.begin()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            n += 1
            raw = lines.keep_first()
            yield Broken(n, lines.line, "broken_csv", f"line {lines.line} is not CSV: {error}; check its quotes", raw)
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            continue
        if cells is None:
            return
        if not cells:  # an empty line
            continue
        n += 1
        if len(cells) == len(columns):
            yield Row(n, lines.line, dict(zip(columns, cells, strict=True)))
        else:
            reason = f"line {lines.line} has {len(cells)} cells, the header has {len(columns)}; check its quotes and commas"
            yield Broken(n, lines.line, "broken_csv", reason, "".join(lines.taken))
