"""Catalog files read row by row."""

import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.catalog import parquet, readers, taxonomy_file
from curation.catalog.readers import Broken, Row, Table
from curation.errors import InputError

HEADER = "id,title,text\n"


def read(path: Path) -> list[Row | Broken]:
    """All that comes out of a file."""
    with Table(path) as table:
        return list(table.rows())


def write(tmp_path: Path, text: str, name: str = "a.csv") -> Path:
    """A file with this text."""
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def test_rows_know_where_they_stand(tmp_path: Path) -> None:
    """Row numbers count rows, line numbers count lines, also after a cell of several lines."""
    found = read(write(tmp_path, HEADER + '1,a,"x\ny"\n\n2,b,z\n'))
    assert [(row.n, row.line) for row in found] == [(1, 2), (2, 5)]
    assert isinstance(found[0], Row) and found[0].values == {"id": "1", "title": "a", "text": "x\ny"}


def test_open_quote_far_from_the_end_gives_up_one_line(tmp_path: Path) -> None:
    """5,000 rows behind the damage are read; the damaged line is kept as it was."""
    good = "".join(f"{i},t,x\n" for i in range(5_000))
    found = read(write(tmp_path, HEADER + '0,"Broken,x\n' + good))
    assert isinstance(found[0], Broken) and found[0].raw == '0,"Broken,x\n'
    assert len(found) == 5_001 and all(isinstance(row, Row) for row in found[1:])


def test_quotes_broken_all_over_take_linear_time(tmp_path: Path) -> None:
    """A file whose every line opens a quote is given up line by line, not squared."""
    found = read(write(tmp_path, HEADER + 'a","\n' * 20_000))
    assert len(found) == 20_000 and {type(row) for row in found} == {Broken}


def test_endless_line_is_given_up_in_pieces(tmp_path: Path) -> None:
    """A line without an end does not fill the memory, and the row after it is read."""
    found = read(write(tmp_path, HEADER + "x" * (readers.MAX_RECORD_CHARS + 10) + "\n1,a,b\n"))
    assert [type(row) for row in found] == [Broken, Broken, Row]
    assert sum(len(row.raw) for row in found[:2] if isinstance(row, Broken)) == readers.MAX_RECORD_CHARS + 11


def test_samples_do_not_eat_rows(tmp_path: Path) -> None:
    """Looking at the first rows leaves all of them to be read."""
    with Table(write(tmp_path, HEADER + "1,a,b\n" * 150)) as table:
        assert len(table.samples()) == 100 and len(table.samples()) == 100
        assert [row.n for row in table.rows()] == list(range(1, 151))
        assert table.n_rows() == 150


def test_parquet_gives_typed_rows(tmp_path: Path) -> None:
    """Numbers, times, lists and missing values come as such, and the number of rows is known."""
    values = {"id": ["a", None], "price": [1.5, None], "photos": [["x", "y"], []], "at": [datetime(2026, 1, 2), None]}  # noqa: DTZ001
    pq.write_table(pa.table(values), tmp_path / "a.parquet")
    with Table(tmp_path / "a.parquet") as table:
        first, second = table.rows()
        assert table.columns == ("id", "price", "photos", "at") and table.n_rows() == 2
    assert isinstance(first, Row) and first.values["photos"] == ["x", "y"]
    assert isinstance(second, Row) and second.values["price"] is None


def test_parquet_time_beyond_python_loses_no_row(tmp_path: Path) -> None:
    """A timestamp of year 292,277 is shown as unreadable; the row's other cells stay."""
    at = pa.array([2**62, 0], pa.timestamp("us"))
    pq.write_table(pa.table({"id": ["a", "b"], "at": at}), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert [row.values["id"] for row in found if isinstance(row, Row)] == ["a", "b"]


def test_damaged_parquet_page_keeps_the_rows_before_it(tmp_path: Path) -> None:
    """What was read stays, and one reject says from which row on the file is damaged."""
    path = tmp_path / "a.parquet"
    rows = [f"{i:05}-{'x' * 40}" for i in range(4_000)]
    pq.write_table(pa.table({"id": rows}), path, row_group_size=1_000, use_dictionary=False, compression="NONE")
    data = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    data[start : start + 30] = b"\xff" * 30
    path.write_bytes(data)
    found = read(path)
    assert isinstance(found[-1], Broken) and found[-1].code == "broken_parquet"
    assert [row.values["id"] for row in found[:-1] if isinstance(row, Row)] == rows[: len(found) - 1] and len(found) > 1_000


def test_parquet_bomb_is_refused_before_it_unfolds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that compresses like nothing a seller writes is not read (fault 65)."""
    monkeypatch.setattr(parquet, "MIN_RATIO_BYTES", 1 << 20)
    table = pa.table({"id": ["x" * 200_000] * 100})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(InputError, match="column 'id' unfolds"):
        Table(tmp_path / "a.parquet")


def test_parquet_text_kept_once_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    """A file of some kilobytes whose every row points to one long text is not read into gigabytes (fault 65)."""
    title = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000, np.int32)), pa.array(["x" * (1 << 20)]))
    ids = [str(number) for number in range(1_000)]
    pq.write_table(pa.table({"id": ids, "title": title}), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 50_000
    [found] = read(tmp_path / "a.parquet")
    assert isinstance(found, Broken) and "256 rows unfold to 268,43" in found.reason


def test_parquet_list_without_end_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    """A run of equal values takes a kilobyte in the file and would take gigabytes in memory (fault 65)."""
    n = parquet.MAX_LISTED + 2
    names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int8)), pa.array(["a.jpg"]))
    photos = pa.ListArray.from_arrays(pa.array([0, n], pa.int32()), names)
    pq.write_table(pa.table({"id": ["a"], "title": ["t"], "photos": photos}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 50_000
    with pytest.raises(InputError, match="has 10,000,002 values in 1 rows; a catalog has no such lists"):
        Table(tmp_path / "a.parquet")


def test_parquet_of_many_kinds_is_read_as_before(tmp_path: Path) -> None:
    """Texts alone, in lists and in objects, and all that is no text, come out as they were written."""
    rows = [
        {"id": f"r{n}", "photos": [f"{n}.jpg", "b.jpg"], "size": {"eu": "M", "cm": n}, "price": n / 2, "old": n % 2 == 0}
        for n in range(600)
    ]
    pq.write_table(pa.Table.from_pylist([*rows, {"id": None, "photos": None, "size": None}]), tmp_path / "a.parquet")
    found = [row.values for row in read(tmp_path / "a.parquet") if isinstance(row, Row)]
    assert found[:-1] == rows and set(found[-1].values()) == {None}


def test_a_pipe_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    """Nobody writes to it, so whoever opened it would wait for ever."""
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(InputError, match="not a regular file"):
        Table(tmp_path / "a.csv")


def test_parquet_row_group_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader would have to hold at once has a limit, with advice (fault 65)."""
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 1_000)
    pq.write_table(pa.table({"id": [f"{i}" for i in range(10_000)]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="write it with smaller row groups"):
        Table(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("name", "words"), [("a.xyz", "an ending that is not known"), ("none.csv", "cannot be read"), ("", "regular")]
)
def test_what_is_no_file_is_refused(tmp_path: Path, name: str, words: str) -> None:
    """A strange ending, an absent file and a folder each have their message."""
    (tmp_path / "a.xyz").write_text("x")
    with pytest.raises(InputError, match=words if name else "cannot be read"):
        Table(tmp_path / name, None if name else "csv")


def test_taxonomy_file_is_lines_or_nested_json(tmp_path: Path) -> None:
    """Both spellings give the same paths."""
    lines = write(tmp_path, "# ours\nHome\nHome / Garden\nHome / Garden / Rakes\n\nToys\n", "t.txt")
    nested = write(tmp_path, '{"Home": {"Garden": {"Rakes": {}}}, "Toys": null}', "t.json")
    assert taxonomy_file.load(lines) == taxonomy_file.load(nested) == ("Home", "Home / Garden", "Home / Garden / Rakes", "Toys")
    assert taxonomy_file.load(write(tmp_path, "Home > Garden\n", "u.txt")) == ("Home / Garden",)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "Home /  / Rakes\n", "\x00\n", "Home / " * 12 + "x\n"])
def test_wrong_taxonomy_file_is_refused(tmp_path: Path, text: str) -> None:
    """Empty files, empty levels, NUL and endless paths are errors that name the file."""
    with pytest.raises(InputError, match=r"t\.txt"):
        taxonomy_file.load(write(tmp_path, text, "t.txt"))
