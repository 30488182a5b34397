"""Parquet shards, plain and as the Hugging Face `datasets` library reads them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.release.rows import COLUMNS, VOTE_FIELDS, Column, Kind, Row
from curation.types import Question, split_violations

CLASS_COLUMNS = ("seller_category", "category")
"""Columns stored as class numbers in the Hugging Face shape."""

VIOLATIONS_COLUMN = "violations"
VOTE_NUMBERS = ("annotation",)


@dataclass(frozen=True, slots=True)
class Classes:
    """Names in the order of their numbers: category paths, and violation categories."""

    categories: tuple[str, ...]
    violations: tuple[str, ...]


def votes_type() -> Any:
    import pyarrow as pa

    return pa.list_(pa.struct([(name, pa.int64() if name in VOTE_NUMBERS else pa.string()) for name in VOTE_FIELDS]))


def _arrow_type(kind: Kind) -> Any:
    import pyarrow as pa

    match kind:
        case Kind.LABEL:
            return pa.dictionary(pa.int32(), pa.string())
        case Kind.NUMBER:
            return pa.float64()
        case Kind.INTEGER:
            return pa.int64()
        case Kind.NAMES:
            return pa.list_(pa.string())
        case Kind.VOTES:
            return votes_type()
        case _:
            return pa.string()


def plain_schema(metadata: Mapping[str, str], columns: Mapping[str, Column] = COLUMNS) -> Any:
    """The schema of a Parquet export; label columns are dictionaries."""
    import pyarrow as pa

    return pa.schema([(name, _arrow_type(column.kind)) for name, column in columns.items()], metadata=dict(metadata))


def hf_schema(metadata: Mapping[str, str], classes: Classes, columns: Mapping[str, Column] = COLUMNS) -> Any:
    """The schema of a Hugging Face export: categories are class numbers, their names in the metadata."""
    import pyarrow as pa

    strings = {name: pa.string() if column.kind is Kind.LABEL else _arrow_type(column.kind) for name, column in columns.items()}
    numbered = {name: pa.int64() for name in CLASS_COLUMNS if name in columns}
    listed = {VIOLATIONS_COLUMN: pa.list_(pa.int64())} if Question.VIOLATION in columns else {}
    types = {**strings, **numbered, **listed}
    info = json.dumps({"info": {"features": hf_features(classes, columns)}})
    return pa.schema(list(types.items()), metadata={**metadata, "huggingface": info})


def hf_features(classes: Classes, columns: Mapping[str, Column] = COLUMNS) -> dict[str, Any]:
    """What `datasets` calls features: the type of every column of the Hugging Face shape."""
    category = {"names": list(classes.categories), "_type": "ClassLabel"}
    violation = {"names": list(classes.violations), "_type": "ClassLabel"}
    plain = {name: _feature(column.kind) for name, column in columns.items()}
    listed = {VIOLATIONS_COLUMN: [violation]} if Question.VIOLATION in columns else {}
    return {**plain, **{name: category for name in CLASS_COLUMNS if name in columns}, **listed}


def _feature(kind: Kind) -> Any:
    def value(dtype: str) -> dict[str, str]:
        return {"dtype": dtype, "_type": "Value"}

    match kind:
        case Kind.NUMBER:
            return value("float64")
        case Kind.INTEGER:
            return value("int64")
        case Kind.NAMES:
            return [value("string")]
        case Kind.VOTES:
            return [{name: value("int64" if name in VOTE_NUMBERS else "string") for name in VOTE_FIELDS}]
        case _:
            return value("string")


class Parquet:
    """One open Parquet file (zstd)."""

    def __init__(self, path: Path, schema: Any) -> None:
        import pyarrow.parquet as pq

        self.schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", compression_level=6)

    def write(self, rows: Sequence[Row]) -> None:
        import pyarrow as pa

        arrays = [pa.array([row[field.name] for row in rows], type=_plain_type(field.type)) for field in self.schema]
        table = pa.Table.from_arrays(arrays, names=self.schema.names)
        self._writer.write_table(table.cast(self.schema), row_group_size=max(1, len(rows)))

    def close(self) -> None:
        self._writer.close()


def _plain_type(kind: Any) -> Any:
    """Arrow builds dictionaries by casting, not from Python values of many batches."""
    import pyarrow as pa

    return pa.string() if pa.types.is_dictionary(kind) else kind


class HfParquet(Parquet):
    """One open file of the Hugging Face shape: names become class numbers."""

    def __init__(self, path: Path, schema: Any, classes: Classes) -> None:
        super().__init__(path, schema)
        self._categories = {name: i for i, name in enumerate(classes.categories)}
        self._violations = {name: i for i, name in enumerate(classes.violations)}

    def write(self, rows: Sequence[Row]) -> None:
        super().write([self._numbered(row) for row in rows])

    def _numbered(self, row: Row) -> Row:
        violation = row["violation"]
        numbers = None if violation is None else [self._violations[name] for name in split_violations(violation)]
        return {**row, **{name: self._categories.get(row[name]) for name in CLASS_COLUMNS}, VIOLATIONS_COLUMN: numbers}
