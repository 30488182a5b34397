"""The four shapes of a dataset on disk: Parquet shards, JSON Lines, spreadsheet-safe CSV, and a Hugging Face folder."""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from curation.errors import InputError, shorten
from curation.release.rows import COLUMNS, Column, Kind, Row, columns_of
from curation.types import Question

if TYPE_CHECKING:
    import pandas as pd

ROWS_PER_SHARD = 100_000
NAME_SEPARATOR = "|"
FORMULA_STARTS = frozenset("=+-@|%")
"""Characters with which a spreadsheet starts a formula or a command, after NFKC (full-width ＝ is =)."""

GUARD = "'"
"""Put before what a spreadsheet could run where a cell may begin, and before what starts with itself there."""

CELL_STARTS = re.compile(r"(?<=[;\t\r\n])")
"""Behind these another program than ours may begin a cell or a row."""

RISKY = re.compile(rf"[{''.join(sorted(map(re.escape, FORMULA_STARTS)))}{GUARD}\t\r\n]|[^\x00-\x7f]")
"""A text without any of these needs no guard."""

CSV_BLOCK_BYTES = 64 << 20
"""A cell must fit into one block of the reader."""


class Sink(Protocol):
    """One open data file."""

    def write(self, rows: Sequence[Row]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class DataFile:
    """A finished data file, relative to the export's folder."""

    path: str
    n_rows: int


class Shards:
    """Files ``data/<stem>-00000-of-00003<suffix>`` of at most ROWS_PER_SHARD rows, filled in order."""

    def __init__(self, folder: Path, stem: str, suffix: str, n_rows: int, opener: Callable[[Path], Sink]) -> None:
        self.folder, self.stem, self.suffix, self.opener = folder, stem, suffix, opener
        self.n_shards = max(1, math.ceil(n_rows / ROWS_PER_SHARD))
        self.files: list[DataFile] = []
        self._sink: Sink | None = None
        self._n_in_shard = 0

    def write(self, rows: Sequence[Row]) -> None:
        while rows:
            sink = self._sink or self._open()
            taken, rows = rows[: ROWS_PER_SHARD - self._n_in_shard], rows[ROWS_PER_SHARD - self._n_in_shard :]
            sink.write(taken)
            self._n_in_shard += len(taken)
            if self._n_in_shard == ROWS_PER_SHARD:
                self._close_shard()

    def close(self) -> list[DataFile]:
        """Close the last shard; an empty one is written where there were no rows at all."""
        if self._sink is None and not self.files:
            self._open()
        self._close_shard()
        return self.files

    def abandon(self) -> None:
        """Close the open file of an export that failed; after `close` it does nothing."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def _open(self) -> Sink:
        self._sink, self._n_in_shard = self.opener(self.folder / self._name()), 0
        return self._sink

    def _close_shard(self) -> None:
        if self._sink is not None:
            self._sink.close()
            self.files.append(DataFile(self._name(), self._n_in_shard))
            self._sink = None

    def _name(self) -> str:
        return f"data/{self.stem}-{len(self.files):05d}-of-{self.n_shards:05d}{self.suffix}"


class JsonLines:
    """One JSON object a line; attributes and votes are objects, missing values are null."""

    def __init__(self, path: Path, columns: Mapping[str, Column] = COLUMNS) -> None:
        self._columns = columns
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            chosen = {name: row[name] for name in self._columns}
            plain = {**chosen, "attributes": None if row["attributes"] is None else json.loads(row["attributes"])}
            self._file.write(json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._file.close()


class Csv:
    """RFC 4180: every text cell quoted and guarded, numbers bare, a missing value empty and unquoted."""

    def __init__(self, path: Path, columns: Mapping[str, Column] = COLUMNS) -> None:
        self._columns = columns
        self._file = path.open("w", encoding="utf-8", newline="")
        self._file.write(",".join(columns) + "\r\n")

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._file.write(",".join(_cell(column.kind, row[name]) for name, column in self._columns.items()) + "\r\n")

    def close(self) -> None:
        self._file.close()


def _cell(kind: Kind, value: Any) -> str:
    if value is None:
        return ""
    match kind:
        case Kind.NUMBER | Kind.INTEGER:
            return repr(value)
        case Kind.NAMES:
            text = NAME_SEPARATOR.join(value)
        case Kind.VOTES:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        case _:
            text = value
    return '"' + defuse(text).replace('"', '""') + '"'


def defuse(text: str) -> str:
    """The text as a cell that no spreadsheet runs; `restore` undoes it exactly.

    Guarded is each place where a program may begin a cell or a row: the start of the text, and, since not everybody's program
    takes the comma for the separator, what follows a semicolon, a tab or the end of a line.
    """
    if not RISKY.search(text):
        return text
    first, *others = CELL_STARTS.split(text)
    is_led = first[:1] in ("\t", "\r", "\n")
    return _guarded(first, is_led) + "".join(_guarded(part, False) for part in others)


def restore(cell: str) -> str:
    """The text that `defuse` was given."""
    return "".join(part.removeprefix(GUARD) for part in CELL_STARTS.split(cell)) if GUARD in cell else cell


def _guarded(part: str, is_risky: bool) -> str:
    return GUARD + part if is_risky or part.startswith(GUARD) or _could_run(part) else part


def _could_run(part: str) -> bool:
    first = next((letter for letter in part if not _is_blank(letter)), "")
    return bool(first) and unicodedata.normalize("NFKC", first)[0] in FORMULA_STARTS


def _is_blank(letter: str) -> bool:
    return letter == '"' or letter.isspace() or unicodedata.category(letter) in ("Cc", "Cf")


def read_csv(path: Path) -> "pd.DataFrame":
    """A CSV export (its folder, or one file of it) with every guarded cell as it was.

    Text, missing and empty cells, lists of photos and votes come back as they were exported;
    `attributes` is JSON text, as in the Parquet export. Raises InputError if it is not one.
    """
    import pandas as pd
    import pyarrow as pa

    files = sorted(path.glob("data/*.csv")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"folder {shorten(str(path))} holds no data/*.csv; name a CSV export")
    table = pa.concat_tables([_read_table(file) for file in files])
    frame = pd.DataFrame(
        {name: _restored(column.kind, table[name]) for name, column in COLUMNS.items() if name in table.column_names}
    )
    return frame


def _read_table(file: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    numbers = {Kind.NUMBER: pa.float64(), Kind.INTEGER: pa.int64()}
    types = {name: numbers.get(column.kind, pa.string()) for name, column in COLUMNS.items()}
    try:
        found = csv.read_csv(
            file,
            read_options=csv.ReadOptions(block_size=CSV_BLOCK_BYTES),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{shorten(str(file))} cannot be read as a CSV export: {shorten(str(error), 200)}") from error
    if found.column_names not in [list(columns_of(chosen)) for chosen in (tuple(Question), *((one,) for one in Question))]:
        raise InputError(f"{shorten(str(file))} is not a CSV export: its columns are {shorten(found.column_names, 200)}")
    return found


def _restored(kind: Kind, column: Any) -> Any:
    import pandas as pd

    if kind is Kind.NUMBER:
        return column.to_pandas()
    if kind is Kind.INTEGER:
        return pd.array(column.to_pylist(), dtype="Int64")
    texts = [None if cell is None else restore(cell) for cell in column.to_pylist()]
    if kind is Kind.NAMES:
        return pd.Series([text.split(NAME_SEPARATOR) if text else [] for text in texts], dtype="object")
    if kind is Kind.VOTES:
        return pd.Series([json.loads(text) if text else [] for text in texts], dtype="object")
    return pd.Series(texts, dtype="object")
