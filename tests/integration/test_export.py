"""Exports in four shapes: the same rows come back, whole or not at all."""

import csv
import json
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from sqlalchemy import delete, update

from curation.errors import InputError, IntegrityError, NotFoundError
from curation.release import export, formats, rows, snapshot
from curation.store import labels
from curation.store.tables import LabelHistory, LabelRow, ListingRow, ReviewItem
from curation.store.workspace import Workspace
from curation.types import LabelSource, Question
from tests.release_world import PATHS, add_listings, vote

HOSTILE = (
    '=HYPERLINK("http://x","y")',
    "+1-1",
    "-2+3|cmd",
    "@SUM(A1)",
    "\t=1+1",
    "\r\n=1",
    "  =1+1",
    "\u200b=1",
    "\ufeff=1",
    "＝1+1",
    "﹢1",
    "|calc",
    "%0A",
    "'already quoted",
    "''",
    'a "quoted" cell, with commas; and\nnew\r\nlines\rof all\x0bkinds',
    "emoji 👩‍🏭🇫🇷 and \u202eoverride\u2028line",
    "x" * 33_000 + ',"\n',
    "",
    " ",
    "NULL",
    "nan",
    "00123",
    "1e5",
    "<script>alert(1)</script>",
    "\\",
    '\\"',
)


@pytest.fixture
def filled(sqlite_workspace: Workspace, now: datetime) -> Workspace:
    """The hostile catalog, where only the files matter."""
    return fill(sqlite_workspace, now)


@pytest.fixture
def filled_each(workspace: Workspace, now: datetime) -> Workspace:
    """The hostile catalog on each database, where its transactions and types matter."""
    return fill(workspace, now)


def fill(workspace: Workspace, now: datetime) -> Workspace:
    """Hostile text in every text cell; corrected, repaired, tied and unlabelled listings."""
    with workspace.db.write() as session:
        ids = []
        for i, text in enumerate(HOSTILE):
            attributes = {"brand": text, text[:90]: 1}
            fields = {"title": text, "description": text, "group_key": f"{text[:150]}#", "attributes": attributes}
            ids += add_listings(session, 1, now=now, start=i, **fields, price=None if i % 5 == 0 else 1234.5)
        session.execute(update(ListingRow).where(ListingRow.id == ids[1]).values(ref="=1+cmd"))
        vote(session, "ad-00000", PATHS[2], now=now)
        vote(session, "ad-00000", PATHS[2], now=now, annotator="=bert")
        vote(session, "ad-00000", "counterfeit|unsafe_product", now=now, question=Question.VIOLATION)
        vote(session, "ad-00002", PATHS[0], now=now)
        vote(session, "ad-00002", PATHS[1], now=now, annotator="bert")
        labels.refurbish(session, Question.CATEGORY, {ids[3]: ("=evil / path", 0.97)}, run_id=5, now=now)
        labels.set_label(session, ids[4], Question.CATEGORY, None, now=now)
    return workspace


def expected(workspace: Workspace, now: datetime) -> list[rows.Row]:
    """The rows as they are before any format touches them."""
    made = snapshot.create(workspace, now=now)
    with workspace.db.read() as session:
        return [row for batch in rows.read(session, snapshot.manifest(workspace, made.sha256)) for row in batch]


def plain(value: Any) -> Any:
    """A cell as Python holds it: missing is None, arrays are lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if hasattr(value, "tolist") or isinstance(value, list):
        return [plain(item) for item in value]
    return None if value is None or value is pd.NA or value != value else value


def as_rows(frame: pd.DataFrame) -> list[rows.Row]:
    """A frame as the rows it was made from."""
    return [{name: plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def data(out: Path, suffix: str) -> list[Path]:
    """The export's data files."""
    return sorted((out / "data").glob(f"*{suffix}"))


def _objects(file: Path) -> list[rows.Row]:
    return [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]


def test_parquet_comes_back_in_pandas_and_pyarrow(filled_each: Workspace, now: datetime, tmp_path: Path) -> None:
    """Every cell is the one that was written; labels are dictionaries; the schema names the snapshot (fault 61)."""
    made = export.write(filled_each, tmp_path / "out", "parquet", now=now)
    (file,) = data(tmp_path / "out", ".parquet")
    assert as_rows(pd.read_parquet(file)) == expected(filled_each, now)
    table = pq.read_table(file)
    assert table.to_pylist() == expected(filled_each, now)
    assert pa.types.is_dictionary(table.schema.field("category").type)
    assert table.schema.metadata[b"refurbish.snapshot"].decode() == made.snapshot_sha256
    assert pq.ParquetFile(file).metadata.row_group(0).column(1).compression == "ZSTD"


def test_jsonl_comes_back_in_json_and_pandas(filled: Workspace, now: datetime, tmp_path: Path) -> None:
    """One object a line, attributes as an object (fault 61)."""
    export.write(filled, tmp_path / "out", "jsonl", now=now)
    (file,) = data(tmp_path / "out", ".jsonl")
    found = _objects(file)
    wanted = [{**row, "attributes": json.loads(row["attributes"])} for row in expected(filled, now)]
    assert found == wanted
    frame = pd.read_json(file, lines=True, dtype=False)
    assert list(frame["title"]) == list(HOSTILE) and list(frame["ref"]) == [row["ref"] for row in wanted]


def test_csv_comes_back_with_read_csv(filled: Workspace, now: datetime, tmp_path: Path) -> None:
    """`read_csv` undoes the guard: text, empty and missing cells, numbers, photos and votes (faults 60, 61)."""
    export.write(filled, tmp_path / "out", "csv", now=now)
    assert as_rows(formats.read_csv(tmp_path / "out")) == expected(filled, now)
    assert as_rows(formats.read_csv(data(tmp_path / "out", ".csv")[0])) == expected(filled, now)


def test_csv_has_the_same_rows_for_every_reader(filled: Workspace, now: datetime, tmp_path: Path) -> None:
    """csv, pandas and pyarrow read the guarded text, and nothing in it starts a formula (faults 60, 61)."""
    export.write(filled, tmp_path / "out", "csv", now=now)
    (file,) = data(tmp_path / "out", ".csv")
    guarded = [formats.defuse(text) for text in HOSTILE]
    with file.open(encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines))
    assert [row["title"] for row in found] == guarded
    frame = pd.read_csv(file, keep_default_na=False, dtype=str)
    assert list(frame["title"]) == guarded
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    assert len(pyarrow.csv.read_csv(file, parse_options=options)) == len(HOSTILE)
    risky = [cell for row in found for cell in row.values() if cell.strip()[:1] in set("=+-@|%＝＋－＠")]
    assert risky == []


def test_csv_and_parquet_in_duckdb(filled: Workspace, now: datetime, tmp_path: Path) -> None:
    """A third reader of both sees the same texts, row by row (fault 61)."""
    duckdb = pytest.importorskip("duckdb")
    for fmt, wanted in (("csv", [formats.defuse(text) for text in HOSTILE]), ("parquet", list(HOSTILE))):
        export.write(filled, tmp_path / fmt, fmt, now=now)
        (file,) = data(tmp_path / fmt, "")
        source = f"read_csv('{file}', max_line_size=4000000, all_varchar=true)" if fmt == "csv" else f"'{file}'"
        found = [row[0] for row in duckdb.sql(f"SELECT title FROM {source}").fetchall()]
        assert [text or "" for text in found] == wanted


def test_csv_numbers_stay_numbers(filled: Workspace, now: datetime, tmp_path: Path) -> None:
    """Prices and confidences are typed by any reader."""
    export.write(filled, tmp_path / "out", "csv", now=now)
    frame = pd.read_csv(data(tmp_path / "out", ".csv")[0])
    assert frame["price"].dtype == float and frame["category_confidence"].dtype == float
    assert frame["price"].isna().sum() == sum(i % 5 == 0 for i in range(len(HOSTILE)))


def test_hugging_face_folder(filled: Workspace, now: datetime, tmp_path: Path) -> None:
    """One set of shards a split, categories as class numbers whose names are in the schema."""
    made = export.write(filled, tmp_path / "out", "hf", now=now)
    assert [file.name for file in data(tmp_path / "out", "")] == [
        f"{split}-00000-of-00001.parquet" for split in sorted(made.splits)
    ]
    table = pa.concat_tables([pq.read_table(file) for file in data(tmp_path / "out", ".parquet")])
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    names = features["category"]["names"]
    by_ref = {row["ref"]: row for row in table.to_pylist()}
    for row in expected(filled, now):
        number = by_ref[row["ref"]]["category"]
        assert row["category"] == (None if number is None else names[number])
    flagged = by_ref["ad-00000"]["violations"]
    assert [features["violations"][0]["names"][i] for i in flagged] == ["counterfeit", "unsafe_product"]
    assert by_ref["ad-00002"]["violations"] is None
    assert made.splits == _split_sizes(tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text().startswith("---\nlicense: other\n")


def test_hugging_face_folder_has_no_empty_split(workspace: Workspace, now: datetime, tmp_path: Path) -> None:
    """`datasets` cannot load a split without rows: neither a file nor a line of the card names one."""
    with workspace.db.write() as session:
        add_listings(session, 1, now=now)
    made = export.write(workspace, tmp_path / "out", "hf", now=now)
    (split,) = made.splits
    assert [file.name for file in data(tmp_path / "out", "")] == [f"{split}-00000-of-00001.parquet"]
    assert (tmp_path / "out" / "README.md").read_text().count("  - split: ") == 1


def _split_sizes(out: Path) -> dict[str, int]:
    sizes = {file.name.split("-")[0]: pq.read_metadata(file).num_rows for file in data(out, ".parquet")}
    return {split: n for split, n in sizes.items() if n}


def test_shards_split_and_keep_order(filled: Workspace, now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows run on from shard to shard in the snapshot's order, in every format."""
    monkeypatch.setattr(formats, "ROWS_PER_SHARD", 10)
    for fmt in ("parquet", "csv", "jsonl"):
        export.write(filled, tmp_path / fmt, fmt, now=now)
        assert [file.name for file in data(tmp_path / fmt, "")] == [f"listings-{i:05d}-of-00003.{fmt}" for i in range(3)]
    wanted = [row["ref"] for row in expected(filled, now)]
    assert list(formats.read_csv(tmp_path / "csv")["ref"]) == wanted
    assert pyarrow.dataset.dataset(tmp_path / "parquet" / "data").to_table()["ref"].to_pylist() == wanted
    described = json.loads((tmp_path / "parquet" / "manifest.json").read_text())
    assert [file["n_rows"] for file in described["files"]] == [10, 10, len(HOSTILE) - 20]


@pytest.mark.parametrize("fmt", export.FORMATS)
def test_sums_manifest_and_card_agree(filled: Workspace, now: datetime, tmp_path: Path, fmt: str) -> None:
    """`sha256sum --check` passes, counts equal the snapshot's, and the same snapshot gives the same bytes (fault 63)."""
    made = export.write(filled, tmp_path / "out", fmt, now=now)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "out", check=True)
    described = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert described["n_listings"] == sum(file["n_rows"] for file in described["files"]) == len(HOSTILE)
    assert ("csv" in described) == (fmt == "csv")
    assert made.snapshot_sha256 in (tmp_path / "out" / "README.md").read_text()
    export.write(filled, tmp_path / "again", fmt, now=now, snapshot_sha256=made.snapshot_sha256[:12])
    assert (tmp_path / "again" / "SHA256SUMS").read_bytes() == (tmp_path / "out" / "SHA256SUMS").read_bytes()


def test_labels_that_change_meanwhile_stay_out(filled_each: Workspace, now: datetime, tmp_path: Path) -> None:
    """Labels changed after the snapshot, or while rows are being written, are not exported (fault 63)."""
    before = expected(filled_each, now)
    made = snapshot.create(filled_each, now=now)

    def disturb(n: int) -> None:
        thread = threading.Thread(target=_relabel, args=(filled_each,))
        thread.start()
        thread.join()

    export.write(filled_each, tmp_path / "during", "parquet", now=now, advance=disturb)
    export.write(filled_each, tmp_path / "after", "parquet", now=now, snapshot_sha256=made.sha256)
    for name in ("during", "after"):
        assert pq.read_table(data(tmp_path / name, ".parquet")[0]).to_pylist() == before


def _relabel(workspace: Workspace) -> None:
    with workspace.db.write() as session:
        session.execute(update(LabelRow).values(value=PATHS[3], source=LabelSource.MODERATORS.value))


def test_changed_and_erased_listings_are_reported(filled_each: Workspace, now: datetime, tmp_path: Path) -> None:
    """Content that is no longer the snapshot's is marked in the row, the manifest and the card."""
    made = snapshot.create(filled_each, now=now)
    with filled_each.db.write() as session:
        session.execute(update(ListingRow).where(ListingRow.ref == "ad-00005").values(title="new", content_sha256="f" * 64))
        erased = session.query(ListingRow).filter_by(ref="ad-00006").one().id
        for table in (LabelRow, LabelHistory):
            session.execute(delete(table).where(table.listing_id == erased))
        session.execute(delete(ListingRow).where(ListingRow.id == erased))
    summary = export.write(filled_each, tmp_path / "out", "jsonl", now=now, snapshot_sha256=made.sha256)
    assert summary.content == {"same": len(HOSTILE) - 2, "changed": 1, "erased": 1}
    found = {row["ref"]: row for row in _objects(data(tmp_path / "out", "")[0])}
    assert (found["ad-00005"]["content"], found["ad-00005"]["title"]) == ("changed", "new")
    assert (found["ad-00006"]["content"], found["ad-00006"]["title"], found["ad-00006"]["category"]) == ("erased", None, PATHS[2])
    described = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert described["content"]["not_same"] == ["ad-00005", "ad-00006"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "1 listings whose content changed after the snapshot and 1 that are gone" in card


def test_photos_are_copied_once_and_missing_ones_counted(filled: Workspace, now: datetime, tmp_path: Path) -> None:
    """With images, each stored photo is one file; one that is gone or damaged is said, not fatal."""
    good = filled.media.put(b"jpeg bytes", ".jpg")
    damaged = filled.media.put(b"other bytes", ".jpg")
    filled.media.path(damaged, ".jpg").write_bytes(b"rot")
    photos = [{"sha256": sha256, "width_px": 1, "height_px": 1, "dhash": "0" * 16} for sha256 in (good, damaged, "a" * 64)]
    with filled.db.write() as session:
        session.execute(update(ListingRow).where(ListingRow.id < 4).values(images=photos))
    made = export.write(filled, tmp_path / "out", "parquet", now=now, with_images=True)
    assert (made.n_photos, made.n_photos_missing) == (1, 2)
    assert (tmp_path / "out" / "images" / good[:2] / f"{good}.jpg").read_bytes() == b"jpeg bytes"
    assert pd.read_parquet(data(tmp_path / "out", "")[0])["photos"][0].tolist()[0] == f"{good}.jpg"
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "out", check=True)


def test_an_interrupted_export_leaves_nothing(filled: Workspace, now: datetime, tmp_path: Path) -> None:
    """Neither a failure while writing nor a full disk leaves a folder or a part of one (fault 62)."""

    def stop(n: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.write(filled, tmp_path / "place" / "out", "csv", now=now, advance=stop)

    def full(n: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left on device; nothing was left behind"):
        export.write(filled, tmp_path / "place" / "out", "csv", now=now, advance=full)
    assert list((tmp_path / "place").iterdir()) == []


def test_an_earlier_export_is_replaced_only_when_asked(filled: Workspace, now: datetime, tmp_path: Path) -> None:
    """A folder is replaced with --overwrite, and only if no one else put a file there."""
    out = tmp_path / "out"
    out.mkdir()
    export.write(filled, out, "csv", now=now)
    with pytest.raises(InputError, match="pass --overwrite"):
        export.write(filled, out, "jsonl", now=now)
    export.write(filled, out, "jsonl", now=now, overwrite=True)
    assert [file.suffix for file in data(out, "")] == [".jsonl"]
    (out / "data" / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match=r"1 files that no export wrote, such as 'data/mine\.txt'"):
        export.write(filled, out, "csv", now=now, overwrite=True)
    assert (out / "data" / "mine.txt").read_text() == "keep me"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def _targets(folder: Path) -> Iterator[tuple[Path, str]]:
    (folder / "file").write_text("x")
    (folder / "full").mkdir()
    (folder / "full" / "thesis.tex").write_text("x")
    (folder / "fake").mkdir()
    (folder / "fake" / "manifest.json").write_text("[1]")
    (folder / "link").symlink_to(folder / "full")
    yield folder / "file", "is not a folder"
    yield folder / "full", "not an earlier export"
    yield folder / "fake", "not an earlier export"
    yield folder / "link", "is not a folder"


def test_other_peoples_folders_are_refused(sqlite_workspace: Workspace, now: datetime, tmp_path: Path) -> None:
    """A file, a link and a folder with anything else in it are never written over."""
    for target, words in _targets(tmp_path):
        with pytest.raises(InputError, match=words):
            export.write(sqlite_workspace, target, "csv", now=now, overwrite=True)
    assert (tmp_path / "full" / "thesis.tex").read_text() == "x"


def test_wrong_format_and_snapshot_are_said(filled: Workspace, now: datetime, tmp_path: Path) -> None:
    """Unknown formats and snapshots and damaged manifests stop before anything is written."""
    with pytest.raises(InputError, match="use one of parquet, jsonl, csv, hf"):
        export.write(filled, tmp_path / "out", "xlsx", now=now)
    with pytest.raises(NotFoundError, match="is not known"):
        export.write(filled, tmp_path / "out", "csv", now=now, snapshot_sha256="ab" * 32)
    made = snapshot.create(filled, now=now)
    snapshot.manifest(filled, made.sha256).write_bytes(b"PAR1")
    with pytest.raises(IntegrityError):
        export.write(filled, tmp_path / "out", "csv", now=now, snapshot_sha256=made.sha256)
    assert not (tmp_path / "out").exists()


def test_the_card_tells_people_agreement_and_noise(filled_each: Workspace, now: datetime, tmp_path: Path) -> None:
    """Sources, annotators, agreement with its interval and the audit estimate stand in the card, inert."""
    with filled_each.db.write() as session:
        vote(session, "ad-00007", PATHS[0], now=now)
        for ref in ("ad-00000", "ad-00007"):
            listing = session.query(ListingRow).filter_by(ref=ref).one()
            item = {"question": "category", "state": "decided", "reasons": [{"code": "audit", "score": 1, "words": "drawn"}]}
            session.add(ReviewItem(listing_id=listing.id, **item, priority=0, batch="b", n_wanted=1, created_at=now))
    export.write(filled_each, tmp_path / "out", "parquet", now=now)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| moderators | 2 | 1 |" in text and "| refurbished | 1 | 0 |" in text
    assert "category: 50.0% of 2 pairs of answers to one listing agree" in text
    assert "Of 2 listings drawn uniformly for audit, moderators gave another category than the seller to 2" in text
    assert "Repaired labels come from run 5 (1)." in text
    assert "1 answers of moderators undecided" in text
