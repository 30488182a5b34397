"""Parquet files read in small batches, with bounds on what a file may unfold to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from curation.errors import InputError, shorten

BATCH_ROWS = 256
MAX_GROUP_BYTES = 2 << 30
"""Uncompressed bytes of one row group: what a reader may have to hold at once."""

MAX_RATIO = 2_000
MAX_LISTED = 10_000_000
"""Values in the lists of one column of a row group; a run of equal ones takes no room in the file, however long."""

MAX_BATCH_BYTES = 128 << 20
"""What a few rows may unfold to; texts that occur again and again are in the file once."""

MIN_RATIO_BYTES = 64 << 20
"""A column that unfolds to more than 64 MiB at more than 2,000 : 1 is a bomb, not a catalog."""


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """An open file: names of its columns, number of rows."""

    columns: tuple[str, ...]
    n_rows: int
    file: Any

    def rows(self) -> Iterator[Mapping[str, Any] | str]:
        """Each row's values; in place of all rows from a damaged page on, one message."""
        import pyarrow as pa

        n = 0
        try:
            for batch in self.file.iter_batches(batch_size=BATCH_ROWS):
                if (n_bytes := sum(map(_unfolded_bytes, batch.columns))) > MAX_BATCH_BYTES:
                    raise ValueError(f"{batch.num_rows} rows unfold to {n_bytes:,} bytes, {MAX_BATCH_BYTES:,} are allowed")
                for values in _pylist(batch):
                    n += 1
                    yield values
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            yield f"the file is damaged from row {n + 1} of {self.n_rows} on: {shorten(str(error))}; write it again"


def _unfolded_bytes(array: Any) -> int:
    """What the array takes once texts that are kept once are there as often as they occur."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        return int(pc.sum(pc.binary_length(array.dictionary).take(array.indices)).as_py() or 0)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return _unfolded_bytes(array.flatten())
    if pa.types.is_struct(array.type):
        return sum(map(_unfolded_bytes, array.flatten()))
    return int(array.nbytes)


def _pylist(batch: Any) -> list[dict[str, Any]]:
    """Rows as dicts; values that Python cannot hold (dates beyond year 9999) become None one by one."""
    try:
        found: list[dict[str, Any]] = batch.to_pylist()
    except (ValueError, OverflowError):
        columns = {name: [_value(cell) for cell in batch.column(i)] for i, name in enumerate(batch.schema.names)}
        found = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return found


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except (ValueError, OverflowError) as error:
        return f"unreadable: {error}"


def open_table(file: BinaryIO, path: Path) -> ParquetTable:
    """Open and check a file. Raises InputError where it is not Parquet, or a bomb."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.ParquetFile(file)
        names = tuple(found.schema_arrow.names)
        texts = [leaf.path for leaf in map(found.schema.column, range(len(found.schema))) if leaf.logical_type.type == "STRING"]
        file.seek(0)
        found = pq.ParquetFile(file, read_dictionary=texts)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"file {path} is not a readable Parquet file: {shorten(str(error))}") from error
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"file {path}: column {shorten(twice[0])} comes twice; give each column a name of its own")
    for i in range(found.metadata.num_row_groups):
        _check_size(found.metadata.row_group(i), path)
    return ParquetTable(names, found.metadata.num_rows, found)


def _check_size(group: Any, path: Path) -> None:
    if group.total_byte_size > MAX_GROUP_BYTES:
        raise InputError(
            f"file {path} has a row group of {group.total_byte_size:,} bytes uncompressed, {MAX_GROUP_BYTES:,} are allowed; "
            "write it with smaller row groups"
        )
    for i in range(group.num_columns):
        column = group.column(i)
        if column.num_values - group.num_rows > MAX_LISTED:
            listed = f"{column.num_values:,} values in {group.num_rows:,} rows"
            raise InputError(f"file {path}: column {shorten(column.path_in_schema)} has {listed}; a catalog has no such lists")
        n_bytes, n_packed = column.total_uncompressed_size, max(1, column.total_compressed_size)
        if n_bytes > MIN_RATIO_BYTES and n_bytes / n_packed > MAX_RATIO:
            raise InputError(
                f"file {path}: column {shorten(column.path_in_schema)} unfolds {n_packed:,} bytes to {n_bytes:,}; "
                "a catalog does not compress like that"
            )
