"""Photos that are no photos, on their whole way: ingest counts them, features mask them, the service gives out plain JPEGs."""

import csv
import json
import shutil
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from curation.catalog import ingest
from curation.catalog.features import FeatureConfig, Featurizer
from curation.catalog.ingest import Options
from curation.store.workspace import Workspace
from tests import builders
from tests.unit.test_catalog_corpus import CORPUS, MESSAGES
from webhooks import service
from webhooks.app import create_app


def _catalog(folder: Path) -> dict[str, list[Path]]:
    """One listing for each photo of the corpus, its ref the photo's name, with a good photo beside it; by accept and reject."""
    found = {kind: sorted((CORPUS / kind / "photos").iterdir()) for kind in ("accept", "reject")}
    (folder / "photos").mkdir()
    shutil.copy(CORPUS / "accept" / "photos" / "plain.jpg", folder / "photos" / "good.jpg")
    with (folder / "listings.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["id", "title", "category", "photos"])
        for path in (*found["accept"], *found["reject"]):
            shutil.copy(path, folder / "photos" / path.name)
            rows.writerow([path.name, f"Rake {path.stem}", "Home / Garden", f"good.jpg|{path.name}"])
    return found


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # as the service does; pytest sets the filters anew
def test_bad_photos_are_counted_and_cost_their_listing_nothing(workspace: Workspace, tmp_path: Path, now: datetime) -> None:
    """Corrupt, huge, animated, CMYK, of one pixel, turned by EXIF, two in one: used, or named and counted (fault 51)."""
    corpus = _catalog(tmp_path)
    options = Options(images=tmp_path / "photos", rejects=tmp_path / "rejects.jsonl")
    done = ingest.run(workspace, tmp_path / "listings.csv", options, now=now)
    codes = Counter(f"photos: {MESSAGES[path.name].partition(':')[0]}" for path in corpus["reject"])
    assert dict(done.reasons) == dict(codes) and done.n_new == len(corpus["accept"]) + len(corpus["reject"])
    told = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert {one["values"]["id"] for one in told} == {path.name for path in corpus["reject"]}
    by_ref = {one.ref: one for one in builders.all_listings(workspace)}
    assert all(len(by_ref[path.name].photos) == 1 for path in corpus["reject"])
    assert all(1 <= len(by_ref[path.name].photos) <= 2 for path in corpus["accept"])


def test_a_photo_that_is_gone_or_damaged_is_masked_and_told(
    sqlite_workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """The listing is scored without it; the log says how many of how many (fault 51)."""
    media = sqlite_workspace.media
    good, gone, rotten = (builders.photo(sqlite_workspace, seed) for seed in (1, 2, 3))
    media.path(gone.sha256, ".jpg").unlink()
    media.path(rotten.sha256, ".jpg").write_bytes((CORPUS / "reject" / "photos" / "bomb_2500_megapixels.png").read_bytes())
    builders.add(sqlite_workspace, builders.record("r", photos=(good, gone, rotten)))
    made = Featurizer(FeatureConfig(photo_px=16)).transform(builders.all_listings(sqlite_workspace), media)
    assert len(made.photos) == 2 and np.count_nonzero(made.photo_index) == 1
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["n"], line["of"]) for line in logged if line["room"] == "photos"] == [(2, 3)]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_polyglot_is_served_as_a_picture_only(sqlite_workspace: Workspace, tmp_path: Path, now: datetime) -> None:
    """An archive behind a JPEG and a script in its comment are gone; no browser may guess another type (fault 51)."""
    _catalog(tmp_path)
    ingest.run(sqlite_workspace, tmp_path / "listings.csv", Options(images=tmp_path / "photos"), now=now)
    app = create_app(sqlite_workspace)
    served = 0
    for photo in {photo for one in builders.all_listings(sqlite_workspace) for photo in one.photos}:
        answer = app.test_client().get(f"/media/{photo.sha256}.jpg", buffered=True)
        assert answer.mimetype == "image/jpeg" and answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.data.endswith(b"\xff\xd9") and b"script" not in answer.data and b"PK\x03\x04" not in answer.data
        served += 1
    service.of(app).close()
    assert served > 5
