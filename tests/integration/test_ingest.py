"""Catalog files into the database, with photos and rejects, on both databases."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.catalog import images, ingest, mapping
from curation.catalog.mapping import FileMap
from curation.errors import ConfigError, InputError
from curation.store import listings, taxonomy
from curation.store.workspace import Workspace
from tests import builders
from tests.commands import run
from tests.conftest import NOW

COLUMNS = ["id", "seller", "title", "description", "price", "category", "photos"]


def row(n: int, **changes: object) -> dict[str, object]:
    """One line of a catalog with two photos a listing."""
    fields: dict[str, object] = {
        "id": f"r{n}",
        "seller": f"s{n % 3}",
        "title": f"Lamp number {n}",
        "description": f"A lamp, the {n}th of them",
        "price": n,
        "category": "Home / Lamps",
        "photos": f"{2 * n}.jpg|{2 * n + 1}.jpg",
    }
    return fields | changes


def catalog(folder: Path, *rows: dict[str, object], n_photos: int = 0) -> Path:
    """A CSV file with these rows and a folder of photos beside it."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i in range(n_photos):
        (folder / "images" / f"{i}.jpg").write_bytes(builders.encoded(builders.picture(i)))
    path = folder / "listings.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def take(workspace: Workspace, path: Path, **options: Any) -> ingest.Summary:
    """Ingest a file at NOW."""
    return ingest.run(workspace, path, ingest.Options(**options), now=NOW)


def rejected(path: Path) -> list[dict[str, Any]]:
    """The lines of the rejects file beside a catalog file."""
    return [json.loads(line) for line in path.with_name(f"{path.name}.rejects.jsonl").read_text().splitlines()]


def test_catalog_with_photos_comes_in_once(workspace: Workspace, tmp_path: Path) -> None:
    """Listings, photos, categories and labels are there; the second run changes nothing at all."""
    path = catalog(tmp_path / "c", *[row(n) for n in range(5)], n_photos=10)
    first = take(workspace, path)
    assert (first.n_rows, first.n_new, first.n_photos, first.reasons, first.rejects) == (5, 5, 10, {}, None)
    found = builders.all_listings(workspace)
    assert all(workspace.media.has(photo.sha256, ".jpg") for listing in found for photo in listing.photos)
    with workspace.db.read() as session:
        assert taxonomy.leaves(session) == ("Home / Lamps",)
    again = take(workspace, path)
    assert (again.n_same, again.n_new, again.n_changed, again.n_regrouped) == (5, 0, 0, 0)
    assert builders.all_listings(workspace) == found


def test_bad_rows_and_photos_stop_nothing_and_are_kept(workspace: Workspace, tmp_path: Path) -> None:
    """A bad row loses the row, a bad photo only the photo; each is found again with number, field and reason."""
    rows = [
        row(0),
        row(1, price="NaN"),
        row(2, title="x" * 2**20),
        row(3, photos="6.jpg|../../etc/passwd|7.jpg"),
        row(4, id="r0"),
    ]
    path = catalog(tmp_path / "c", *rows, n_photos=7)
    summary = take(workspace, path)
    assert (summary.n_new, summary.n_rejected_rows, summary.n_rejected_fields) == (2, 3, 2)
    assert summary.reasons == {
        "price: not_finite": 1,
        "title: too_long": 1,
        "ref: duplicate": 1,
        "photos: bad_name": 1,
        "photos: missing": 1,
    }
    kept = {(one["row"], one["field"]): one for one in rejected(path)}
    assert kept[2, "price"]["values"]["id"] == "r1" and kept[2, "price"]["line"] == 3
    assert len(kept[3, "title"]["values"]["title"]) == 2**20
    assert [len(listing.photos) for listing in builders.all_listings(workspace)] == [2, 1]
    assert summary.rejects == str(path) + ".rejects.jsonl"


def test_corrected_file_clears_its_rejects(sqlite_workspace: Workspace, tmp_path: Path) -> None:
    """When nothing is rejected any more, the old rejects file is gone."""
    path = catalog(tmp_path / "c", row(0, price="free", photos=""))
    assert take(sqlite_workspace, path).n_rejected_rows == 1
    path = catalog(tmp_path / "c", row(0, price="1", photos=""))
    assert take(sqlite_workspace, path).rejects is None
    assert sorted(found.name for found in path.parent.iterdir()) == ["images", "listings.csv"]


def test_same_rows_in_three_formats_are_the_same(workspace: Workspace, tmp_path: Path) -> None:
    """CSV, JSON lines and Parquet with typed cells give one set of listings."""
    rows = [row(n, price=n + 0.5, photos="") for n in range(20)]
    take(workspace, catalog(tmp_path, *rows))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one | {"photos": []}) + "\n" for one in rows))
    pq.write_table(pa.Table.from_pylist([one | {"photos": [""]} for one in rows]), tmp_path / "a.parquet")
    assert take(workspace, tmp_path / "a.jsonl").n_same == 20
    assert take(workspace, tmp_path / "a.parquet").n_same == 20


def test_changed_listing_is_updated(workspace: Workspace, tmp_path: Path) -> None:
    """A new price in the file is a new price in the database; the other listings stay."""
    take(workspace, catalog(tmp_path, row(0, photos=""), row(1, photos="")))
    summary = take(workspace, catalog(tmp_path, row(0, photos=""), row(1, photos="", price=99)))
    assert (summary.n_changed, summary.n_same) == (1, 1)
    assert [listing.price for listing in builders.all_listings(workspace)] == [0, 99]


def test_closed_taxonomy_keeps_the_listing(workspace: Workspace, tmp_path: Path) -> None:
    """An unknown category is rejected, its listing is not; the whole taxonomy is there."""
    (tmp_path / "t.txt").write_text("Home / Lamps\nHome / Chairs\n")
    path = catalog(tmp_path, row(0, photos=""), row(1, photos="", category="Hmoe / Lamps"))
    summary = take(workspace, path, taxonomy=tmp_path / "t.txt")
    assert (summary.n_new, summary.reasons) == (2, {"category: unknown": 1})
    assert [listing.category for listing in builders.all_listings(workspace)] == ["Home / Lamps", None]
    with workspace.db.read() as session:
        assert taxonomy.leaves(session) == ("Home / Chairs", "Home / Lamps")


@pytest.mark.parametrize(
    ("file_map", "error", "words"),
    [
        ({"ref": "id", "title": "headline"}, InputError, "has no column 'headline'; it has"),
        ({"ref": "id", "title": "title", "photos": {"column": "photos", "folder": "nowhere"}}, InputError, "does not exist"),
        ({"ref": "id", "title": "title", "flags": {"columns": {"price": "witchcraft"}}}, ConfigError, "violation 'witchcraft'"),
    ],
)
def test_what_cannot_work_is_said_before_anything(
    sqlite_workspace: Workspace, tmp_path: Path, file_map: dict[str, Any], error: type[Exception], words: str
) -> None:
    """Missing columns, folders and violations are errors while nothing was written."""
    path = catalog(tmp_path, row(0, photos=""))
    with pytest.raises(error, match=words):
        take(sqlite_workspace, path, map=FileMap.model_validate(file_map))
    assert builders.all_listings(sqlite_workspace) == [] and not list(tmp_path.glob("*rejects*"))


def test_mapping_beside_the_file_is_used(sqlite_workspace: Workspace, tmp_path: Path) -> None:
    """mapping.toml in the catalog's folder wins over guessing."""
    (tmp_path / "mapping.toml").write_text('ref = "id"\ntitle = "description"\n')
    summary = take(sqlite_workspace, catalog(tmp_path, row(0)))
    assert summary.mapping_from.endswith("mapping.toml")
    assert builders.all_listings(sqlite_workspace)[0].title == "A lamp, the 0th of them"


def test_rejects_that_cannot_be_written_stop_the_run_first(sqlite_workspace: Workspace, tmp_path: Path) -> None:
    """Losses must have a place before there are any."""
    with pytest.raises(ConfigError, match=r"rejects file .* cannot be written"):
        take(sqlite_workspace, catalog(tmp_path, row(0, photos="")), rejects=tmp_path / "none" / "r.jsonl")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("/etc/passwd", "bad_name"),
        ("../secret.jpg", "bad_name"),
        ("a/../../secret.jpg", "bad_name"),
        ("..\\secret.jpg", "bad_name"),
        ("C:secret.jpg", "bad_name"),
        ("a\x00.jpg", "bad_name"),
        ("", "bad_name"),
        ("x" * 300, "bad_name"),
        ("link.jpg", "bad_name"),
        ("loop.jpg", "unreadable"),
        ("https://example.org/a.jpg", "address"),
        ("none.jpg", "missing"),
        ("folder", "unreadable"),
        ("pipe", "unreadable"),
    ],
)
def test_photo_names_lead_nowhere_else(tmp_path: Path, name: str, code: str) -> None:
    """Absolute, climbing, linked and special files are refused without being read."""
    folder = tmp_path / "images"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    os.mkfifo(folder / "pipe")
    with pytest.raises(images.PhotoError) as caught:
        images.read(folder.resolve(), name)
    assert caught.value.code == code


def test_photo_file_size_is_bounded(tmp_path: Path) -> None:
    """A sparse file of 33 MiB is refused before it is read."""
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(images.MAX_FILE_BYTES + 1)
    with pytest.raises(images.PhotoError, match="33,554,433 bytes"):
        images.read(tmp_path.resolve(), "huge.jpg")


def test_hash_survives_scaling_and_recompression() -> None:
    """The same picture smaller and coarser has nearly the same hash, another one has not."""
    hashes = [
        int(images.thumbnail(builders.encoded(builders.picture(seed, size), quality=quality)).dhash, 16)
        for seed, size, quality in ((1, (300, 200), 95), (1, (150, 100), 60), (2, (300, 200), 95))
    ]
    assert (hashes[0] ^ hashes[1]).bit_count() <= 2 < 10 < (hashes[0] ^ hashes[2]).bit_count()


def test_stopped_run_is_finished_by_the_next(
    sqlite_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure in the second batch leaves the first one in; running again completes the rest."""
    monkeypatch.setattr(ingest, "BATCH_ROWS", 10)
    path, real, n_calls = catalog(tmp_path, *[row(n, photos="") for n in range(25)]), listings.upsert, 0

    def failing(*args: Any, **options: Any) -> listings.Counts:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 2:
            raise OSError("disk full")
        return real(*args, **options)

    monkeypatch.setattr(listings, "upsert", failing)
    with pytest.raises(OSError, match="disk full"):
        take(sqlite_workspace, path)
    summary = take(sqlite_workspace, path)
    assert (summary.n_same, summary.n_new) == (10, 15) and len(builders.all_listings(sqlite_workspace)) == 25


def test_command_prints_one_json_object(sqlite_workspace: Workspace, tmp_path: Path) -> None:
    """`refurbish ingest --json` says what became of the file and nothing else."""
    path = catalog(tmp_path, row(0, photos=""), row(1, price="x", photos=""))
    found = run(sqlite_workspace, "ingest", path, "--json")
    said = json.loads(found.stdout)
    assert (said["n_new"], said["n_rejected_rows"], said["mapping_from"]) == (1, 1, "guessed") and found.exit_code == 0


def test_command_shows_its_guess_as_a_mapping(sqlite_workspace: Workspace, tmp_path: Path) -> None:
    """What was guessed is printed as TOML that can be used as it is."""
    path = catalog(tmp_path, row(0, photos=""))
    said = run(sqlite_workspace, "ingest", path).stdout
    shown = said.partition("mapping.toml:\n")[2]
    (tmp_path / "m.toml").write_text(shown)
    assert mapping.load(tmp_path / "m.toml").category is not None and "columns were guessed" in said
