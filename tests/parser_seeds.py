"""What the parsers of `tests.parsers` read without complaint: where changed and fuzzed bytes begin."""

import csv
import io
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.catalog import sidecar
from curation.catalog.features import FeatureConfig
from curation.labelstudio import labelconfig
from tests.parser_paths import CATEGORIES

CORPUS = Path(__file__).parent / "corpus"


@cache
def small_parquet() -> bytes:
    rows = [{"id": "a", "title": "Rake", "price": 5.0, "photos": ["a.jpg"]}, {"id": "b", "title": "Spade"}]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def as_csv(rows: list[list[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def files(pattern: str) -> tuple[bytes, ...]:
    found = tuple(path.read_bytes() for path in sorted(CORPUS.glob(pattern)))
    assert found
    return found


HEADER = ["id", "title", "description", "price", "currency", "category", "photos", "flags", "listed_at", "group", "brand"]
ROWS = as_csv(
    [HEADER, ["a", "Rake", "A rake", "5", "GBP", "Home / Garden", "a.jpg|b.jpg", "counterfeit", "2026-01-02", "g", "Oak"]]
)
LINES = b'{"id": "a", "title": "Rake", "price": 5, "photos": ["a.jpg"], "extra": {"x": [1, 2.5, null, true, "y"]}}\n'
SIDECAR = {
    "format": sidecar.FORMAT,
    "features": FeatureConfig().to_json(),
    "classes": ["A"],
    "violations": ["b"],
    "onnx_sha256": "0" * 64,
    "tokenizer_sha256": "1" * 64,
    "int8": {"sha256": "2" * 64, "approved": True},
}
CELL = [{"from": 0, "to": 2, "op": "conv3"}, {"from": 1, "to": 2, "op": "skip"}]
GENOTYPE = {
    "format": "refurbish-genotype",
    "version": 1,
    "n_nodes": 1,
    "normal": CELL,
    "reduction": CELL,
    "concat": [2],
    "read_out": "mean",
}
MAPPING = b"""ref = "id"
title = "title"
attributes = ["brand"]
category = {column = "category", separator = ">"}
photos = {columns = ["a", "b"], pattern = "{id}.jpg"}
constants = {currency = "GBP"}
"""
PAGE = labelconfig.build(sorted(CATEGORIES), {"counterfeit": "Counterfeit"}).encode()
