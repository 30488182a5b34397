"""Whatever bytes a catalog file or a photo holds: rows and rejects, or one clear error."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.catalog import images, rejects
from curation.catalog.drafts import Draft, Rules, fill
from curation.catalog.duplicates import near_pairs
from curation.catalog.mapping import FileMap
from curation.catalog.readers import Broken, Row, Table
from curation.errors import InputError, RowError
from tests import builders

FILE_MAP = FileMap.model_validate(
    {
        "ref": "id",
        "title": "title",
        "price": "price",
        "description": "text",
        "category": "category",
        "flags": "flags",
        "photos": "photos",
        "listed_at": "at",
        "currency": "currency",
        "attributes": ["extra"],
    }
)
HEADER = b"id,title,price,text,category,flags,photos,at,currency,extra\n"
RULES = Rules(FILE_MAP, frozenset({"counterfeit"}))
QUICK = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

hostile = st.one_of(
    st.binary(max_size=400),
    st.text('",\n\r\x00;|ab1 \ufeff\u202e', max_size=200).map(lambda text: text.encode()),
)
cell = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(st.characters(categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def read(path: Path, data: bytes) -> list[Row | Broken]:
    """All rows and broken stretches of a file with these bytes."""
    path.write_bytes(data)
    with Table(path) as table:
        return list(table.rows())


def drafted(row: Row) -> Draft | None:
    """The row as a draft, or None if it is refused."""
    draft = Draft(row.n, row.line, row.values, row.raw)
    try:
        fill(draft, RULES)
    except RowError:
        return None
    return draft


@QUICK
@given(data=hostile)
def test_any_bytes_after_a_header_are_rows_or_broken(tmp_path: Path, data: bytes) -> None:
    """Nothing but rows and rejects comes out, numbered without a gap, and every draft can be stored."""
    found = read(tmp_path / "a.csv", HEADER + data)
    assert [row.n for row in found] == list(range(1, len(found) + 1))
    for draft in [drafted(row) for row in found if isinstance(row, Row)]:
        assert draft is None or len(draft.record(()).content_sha256) == 64


@QUICK
@given(data=hostile)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_any_bytes_are_a_file_or_one_error(tmp_path: Path, name: str, data: bytes) -> None:
    """A file that is not of its format at all is an InputError."""
    try:
        found = read(tmp_path / name, data)
    except InputError:
        return
    assert all(isinstance(row, Row | Broken) for row in found)


@QUICK
@given(rows=st.lists(st.dictionaries(st.sampled_from(HEADER.decode().strip().split(",")), cell), max_size=4))
def test_any_json_values_are_a_draft_or_a_reject(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    """Each value of each type in each field either fits or is refused by name, and can be written to the rejects."""
    lines = "\n".join(json.dumps({"id": f"r{i}", "title": "t"} | row) for i, row in enumerate(rows)).encode() or b"\n"
    with rejects.Rejects(tmp_path / "rejects.jsonl") as kept:
        for row in read(tmp_path / "a.jsonl", lines):
            assert isinstance(row, Row)
            draft = drafted(row)
            if draft is not None:
                assert len(draft.record(()).content_sha256) == 64
            kept.add(rejects.Reject(row.n, row.line, "x", "x", "x", "row", row.values))


@QUICK
@given(good=st.integers(0, 5), data=st.text(st.characters(exclude_characters='"\r\n', exclude_categories=["Cs"]), max_size=60))
def test_an_open_quote_costs_one_line(tmp_path: Path, good: int, data: str) -> None:
    """The rows after a quote that is never closed are read as if it were not there."""
    row = "r{},t,1,,,,,,,\n"
    text = '"' + data + "\n" + "".join(row.format(i) for i in range(good))
    found = read(tmp_path / "a.csv", HEADER + text.encode())
    assert [type(one) for one in found] == [Broken, *[Row] * good]


@QUICK
@given(data=st.binary(max_size=300), cut=st.integers(0, 400), at=st.integers(0, 400), byte=st.integers(0, 255))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP"])
def test_any_bytes_are_a_photo_or_a_photo_error(fmt: str, data: bytes, cut: int, at: int, byte: int) -> None:
    """Cut, changed and extended pictures are decoded or refused, never anything else (fault 51)."""
    whole = builders.encoded(builders.picture(size=(24, 16)), fmt)
    changed = bytearray(whole[:cut] if cut < 300 else whole + data)
    if at < len(changed):
        changed[at] = byte
    try:
        made = images.thumbnail(bytes(changed))
    except images.PhotoError:
        return
    assert made.jpeg.startswith(b"\xff\xd8") and max(made.width_px, made.height_px) <= images.MAX_SIDE_PX


@QUICK
@given(seed=st.integers(0, 2**64 - 1), flips=st.lists(st.lists(st.integers(0, 63), max_size=4), min_size=1, max_size=8))
def test_every_close_pair_of_hashes_is_found(seed: int, flips: list[list[int]]) -> None:
    """The bands find exactly the pairs that a comparison of all with all finds."""
    import numpy as np

    hashes = np.unique(np.array([seed ^ sum({1 << bit for bit in bits}) for bits in flips], np.uint64))
    close = {(i, j) for i in range(len(hashes)) for j in range(i) if int(hashes[i] ^ hashes[j]).bit_count() <= 2}
    assert {(max(pair), min(pair)) for pair in near_pairs(hashes)} == close
