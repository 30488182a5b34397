"""One hostile file each: what is taken over, what is refused, and the exact words."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from curation.catalog import images, ingest
from curation.catalog.readers import Table
from curation.errors import InputError
from curation.store.workspace import Workspace
from tests import builders
from tests.conftest import NOW

CORPUS = Path(__file__).parent.parent / "corpus"
MESSAGES: dict[str, str] = json.loads((CORPUS / "reject" / "catalog_messages.json").read_text("utf-8"))


def files(folder: str) -> list[Path]:
    """The corpus files of a folder; there must be some."""
    found = sorted((CORPUS / folder).iterdir())
    assert found
    return found


def name(path: Path) -> str:
    """A file's id in the report."""
    return path.name


@pytest.mark.parametrize("path", files("reject/rows"), ids=name)
def test_rejected_row_keeps_its_reason_and_itself(sqlite_workspace: Workspace, tmp_path: Path, path: Path) -> None:
    """The good row is stored, the bad one lies in the rejects file with field, code, words and content (fault 59)."""
    options = ingest.Options(rejects=tmp_path / "rejects.jsonl")
    summary = ingest.run(sqlite_workspace, path, options, now=NOW)
    [said] = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert f"{said['field']}, {said['lost']} lost, {said['code']}: {said['reason']}" == MESSAGES[path.name]
    assert said["row"] in (1, 2) and (said.get("values") or said["raw"])
    assert [listing.ref for listing in builders.all_listings(sqlite_workspace)] == ["ok"]
    assert (summary.n_rejected_rows, summary.n_rejected_fields) == ((1, 0) if said["lost"] == "row" else (0, 1))


@pytest.mark.parametrize("path", files("reject/files"), ids=name)
def test_refused_file_says_why(path: Path) -> None:
    """A file that is not a catalog at all is one error before anything is read (fault 65)."""
    with pytest.raises(InputError) as caught, Table(path) as table:
        ingest.choose_map(table, None)
    assert str(caught.value).replace(str(path), "FILE") == MESSAGES[path.name]


@pytest.mark.parametrize("path", files("reject/photos"), ids=name)
def test_refused_photo_says_why(path: Path) -> None:
    """Bytes that are no usable picture are a PhotoError with a code (faults 51, 65)."""
    with pytest.raises(images.PhotoError) as caught:
        images.thumbnail(path.read_bytes(), path.name)
    assert f"{caught.value.code}: {caught.value}" == MESSAGES[path.name]


ACCEPTED = {
    "joined_emoji.csv": ("Toys \U0001f468\u200d\U0001f469\u200d\U0001f467", "x", 5.0),
    "formula.csv": ("=1+1", "@SUM(A1)", 5.0),
    "decomposed_accents.csv": ("Caf\u00e9 chair", "A chair", 5.0),
    "line_breaks_in_cell.csv": ("Garden rake", 'one\n\ntwo "quoted"', 5.0),
    "empty_price.csv": ("Garden rake", "", None),
    "pound_sign.csv": ("Garden rake", "x", 5.0),
    "byte_order_mark.jsonl": ("Garden rake", "", None),
}


@pytest.mark.parametrize("path", files("accept/rows"), ids=name)
def test_odd_but_sound_file_is_taken_over(sqlite_workspace: Workspace, tmp_path: Path, path: Path) -> None:
    """Nothing is rejected, and the text is what a person would read (fault 59)."""
    summary = ingest.run(sqlite_workspace, path, ingest.Options(rejects=tmp_path / "rejects.jsonl"), now=NOW)
    [listing] = builders.all_listings(sqlite_workspace)
    wanted = ACCEPTED.get(path.name, ("Garden rake", "A rake", 5.0))
    assert (listing.ref, listing.title, listing.description, listing.price) == ("ok", *wanted)
    assert summary.reasons == {} and not (tmp_path / "rejects.jsonl").exists()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("path", files("accept/photos"), ids=name)
def test_odd_but_sound_photo_becomes_a_plain_jpeg(path: Path) -> None:
    """Whatever came in, an RGB JPEG without metadata or passengers comes out (fault 51)."""
    made = images.thumbnail(path.read_bytes())
    with Image.open(io.BytesIO(made.jpeg), formats=["JPEG"]) as image:
        assert image.mode == "RGB" and not image.getexif() and "comment" not in image.info
    size = {"turned_by_exif.jpg": (32, 48), "very_wide.jpg": (320, 1)}.get(path.name, (48, 32))
    assert (made.width_px, made.height_px) == size
    assert b"script" not in made.jpeg and b"PK\x03\x04" not in made.jpeg
