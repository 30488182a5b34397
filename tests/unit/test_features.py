"""The featuriser: the same arrays on every machine, masks where something is missing."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curation.catalog.features import FeatureConfig, Features, Featurizer, attribute_tokens, normalize
from curation.catalog.photos import PhotoCache, square
from curation.errors import IntegrityError
from curation.store.files import FileStore
from curation.types import Listing, Photo
from tests.builders import encoded, picture

SMALL = FeatureConfig(n_buckets=1 << 12)
RAKE = Listing(1, "r1", None, "Garden rake", "Steel, 20 teeth", 12.5, "GBP", {"brand": "Oakley"}, (), "Home", (), "g1", None)
GOLDEN_TITLE = [3238, 2809, 3706]
GOLDEN_SHA256 = "30468051b0b6eb7f94a57c12dbbdcf5f084e8997a9e4bc4eaf41ea6a3b9d9224"


@pytest.fixture
def media(tmp_path: Path) -> FileStore:
    """An empty photo store."""
    return FileStore(tmp_path / "media")


def transform(media: FileStore, *listings: Listing) -> Features:
    """Features of these listings under the small config."""
    return Featurizer(SMALL).transform(listings, media)


def stored(media: FileStore, seed: int) -> Photo:
    """A photo that is in the store."""
    return Photo(media.put(encoded(picture(seed)), ".jpg"), 96, 64, "0" * 16)


def test_ids_are_golden(media: FileStore) -> None:
    """The ids of a listing never change under one version: a released model depends on them."""
    found = transform(media, RAKE)
    assert found.ids[0, :3].tolist() == GOLDEN_TITLE
    assert hashlib.sha256(found.ids.tobytes() + found.counts.tobytes()).hexdigest() == GOLDEN_SHA256


def test_same_listing_same_arrays(media: FileStore) -> None:
    """Neither order nor company of the other listings matters."""
    other = replace(RAKE, ref="r2", title="Bicycle, red")
    alone, together = transform(media, RAKE), transform(media, other, RAKE)
    assert np.array_equal(alone.ids[0], together.ids[1]) and np.array_equal(alone.numeric[0], together.numeric[1])


def test_title_and_description_are_told_apart(media: FileStore) -> None:
    """The same word gives another id in another field."""
    found = transform(media, replace(RAKE, title="rake", description=""), replace(RAKE, title="", description="rake"))
    assert not set(found.ids[0][found.ids[0] > 0][:1]) & set(found.ids[1][: SMALL.title_words + SMALL.title_chars])
    assert found.ids[0, 0] != found.ids[1, SMALL.title_words + SMALL.title_chars]


def test_seller_category_is_no_input(media: FileStore) -> None:
    """Moving a listing to another category changes nothing that the model sees."""
    here, there = transform(media, RAKE, replace(RAKE, category="Toys", flags=("counterfeit",))).ids
    assert np.array_equal(here, there)


@pytest.mark.parametrize("title", ["", " \t\n", "\u0000", "😀", "٣٤٥", "a", "x" * 1_000_000, "\ud800", "ＧＡＲＤＥＮ　ＲＡＫＥ"])
def test_any_title_has_features(media: FileStore, title: str) -> None:
    """Empty, hostile and huge titles give arrays of the same shape."""
    found = transform(media, replace(RAKE, title=title))
    assert found.ids.shape == (1, SMALL.width) and found.ids.min() >= 0 and found.ids.max() < SMALL.n_buckets


def test_full_width_text_reads_as_plain(media: FileStore) -> None:
    """NFKC and case folding: a disguise of letters does not change the ids."""
    plain, wide = transform(media, RAKE, replace(RAKE, title="ＧＡＲＤＥＮ　ＲＡＫＥ")).ids
    assert np.array_equal(plain, wide)
    assert normalize("  Ｇarden \n RAKE ") == "garden rake"


def test_missing_price_is_not_zero(media: FileStore) -> None:
    """A gift and a listing without price differ in the mask."""
    gift, unknown = transform(media, replace(RAKE, price=0.0), replace(RAKE, price=None)).numeric
    assert (gift[0], unknown[0]) == (0.0, 0.0) and (gift[1], unknown[1]) == (1.0, 0.0)


def test_price_band_depends_on_currency() -> None:
    """12 pounds and 12 yen are not the same price."""
    pounds, yen = (list(attribute_tokens(replace(RAKE, currency=name))) for name in ("GBP", "JPY"))
    assert not set(pounds) & set(yen) - {"brand=oakley", "brand:oakley"}


def test_photos_are_shared_and_masked(media: FileStore) -> None:
    """One photo of two listings is stored once; a lost or broken one counts as missing."""
    there, lost = stored(media, 1), Photo("0" * 64, 1, 1, "0" * 16)
    broken = Photo(media.put(b"not a photo", ".jpg"), 1, 1, "0" * 16)
    found = transform(media, replace(RAKE, photos=(lost, there)), replace(RAKE, photos=(there,)), replace(RAKE, photos=(broken,)))
    assert found.photos.shape == (2, 48, 48, 3) and not found.photos[0].any()
    assert found.photo_index[:, 0].tolist() == [1, 1, 0] and found.numeric[:, 4].tolist() == [1, 1, 0]


def test_inputs_hold_only_the_photos_needed(media: FileStore) -> None:
    """Rows chosen for a batch point at their own photos, whatever their place."""
    listings = [replace(RAKE, photos=(stored(media, seed),)) for seed in range(4)]
    found = transform(media, *listings)
    inputs = found.inputs(np.array([3, 1]))
    assert inputs["photos"].shape[0] == 3
    assert np.array_equal(inputs["photos"][inputs["photo_index"][0, 0]], found.photos[found.photo_index[3, 0]])


def test_cache_decodes_once(media: FileStore, tmp_path: Path) -> None:
    """What was decoded is read from the cache, even after the photo itself is gone."""
    shas = [(stored(media, seed).sha256,) for seed in range(70)]
    cache = PhotoCache(tmp_path / "cache", 16)
    first, _ = cache.load(shas, 1, media)
    for sha in shas:
        media.path(sha[0], ".jpg").unlink()
    second, index = cache.load(shas, 1, media)
    assert np.array_equal(first, second) and index[:, 0].tolist() == list(range(1, 71))


def test_broken_cache_is_ignored(media: FileStore, tmp_path: Path) -> None:
    """A cut-off or foreign segment costs time, not the run."""
    (tmp_path / "16-broken.npy").write_bytes(b"\x93NUMPY\x01")
    np.save(tmp_path / "16-foreign.npy", np.zeros(3))
    photos, _ = PhotoCache(tmp_path, 16).load([(stored(media, 1).sha256,)], 1, media)
    assert len(photos) == 2


def test_square_keeps_the_whole_picture() -> None:
    """A wide picture is fit inside, with grey above and below."""
    found = square(encoded(picture(1, (96, 32))), 48)
    assert found.shape == (48, 48, 3) and (found[:8] == 128).all() and (found[-8:] == 128).all()


def test_config_round_trip() -> None:
    """JSON and back gives the same featuriser."""
    assert Featurizer.from_json(Featurizer(SMALL).to_json()).config == SMALL


@pytest.mark.parametrize("change", [{"version": 99}, {"unknown": 1}, {"n_buckets": "65536"}, {"photo_px": 0}])
def test_foreign_config_is_refused(change: dict[str, object]) -> None:
    """A model of another version or with unknown settings is not guessed at."""
    with pytest.raises(IntegrityError, match=r"retrain|export"):
        FeatureConfig.from_json({**SMALL.to_json(), **change})
