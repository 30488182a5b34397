"""The sample catalog: the same bytes every time, as noisy as asked, complete, and silent about its truth."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from curation.catalog import mapping, sample, sample_goods, sample_truth
from curation.errors import InputError
from curation.types import VIOLATIONS, split_violations

N = 700


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "listings.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """700 listings with photos: more than one block, so that there are reposts."""
    out = tmp_path_factory.mktemp("sample") / "catalog"
    sample.generate(out, n=N, seed=3, noise=0.15)
    return out


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 listings without photos."""
    out = tmp_path_factory.mktemp("sample") / "large"
    sample.generate(out, n=3000, seed=1, noise=0.15, photos=False)
    return out


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """Every file of a second run is equal; another seed gives other listings."""
    digests = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        sample.generate(tmp_path / name, n=60, seed=seed)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        digests.append([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) > 60


@pytest.mark.parametrize("noise", [0.0, 0.08, 0.15, 0.25])
def test_as_many_labels_are_wrong_as_asked(tmp_path: Path, noise: float) -> None:
    """The share of wrong sellers' categories is the setting's within a point, in the files and in the summary."""
    summary = sample.generate(tmp_path / "c", n=3000, seed=2, noise=noise, photos=False)
    given = {row["id"]: row["category"] for row in _rows(tmp_path / "c")}
    found = sample_truth.score_labels(sample_truth.load(tmp_path / "c" / "truth.csv"), given)
    assert found == summary.noise == pytest.approx(noise, abs=0.01)


def test_every_leaf_has_listings(large: Path) -> None:
    """At least 48 leaves under 8 roots, some on the third level; each truly comes 15 times in 3,000."""
    sizes = Counter(sample_truth.load(large / "truth.csv").category.values())
    assert set(sizes) == {leaf.path for leaf in sample_goods.load().leaves.values()}
    assert len(sizes) >= 48 and min(sizes.values()) >= 15
    assert len({path.split(" / ")[0] for path in sizes}) >= 8
    assert any(path.count(" / ") == 2 for path in sizes)


def test_is_wrong_marks_the_wrong_ones(large: Path) -> None:
    """The truth's own column agrees with a comparison of the categories."""
    truth = sample_truth.load(large / "truth.csv")
    assert {row["id"]: row["category"] != truth.category[row["id"]] for row in _rows(large)} == truth.is_wrong


def test_mistakes_depend_on_the_seller(large: Path) -> None:
    """Some sellers are wrong several times as often as others, and most mistakes stay under the root."""
    truth = sample_truth.load(large / "truth.csv")
    rows = _rows(large)
    wrong = [row for row in rows if truth.is_wrong[row["id"]]]
    n_by_seller, wrong_by_seller = Counter(row["seller"] for row in rows), Counter(row["seller"] for row in wrong)
    shares = sorted(wrong_by_seller[seller] / n for seller, n in n_by_seller.items() if n >= 20)
    assert shares[0] < 0.06 and shares[-1] > 0.3
    same_root = [row["category"].split(" / ")[0] == truth.category[row["id"]].split(" / ")[0] for row in wrong]
    assert 0.5 < sum(same_root) / len(wrong) < 0.95


def test_all_violations_occur_and_are_reported_with_errors(large: Path) -> None:
    """A few per cent violate the policy; users report about 60 % of them, and some honest listings."""
    truth = sample_truth.load(large / "truth.csv")
    named = {ref: set(split_violations(value)) for ref, value in truth.violation.items()}
    flagged = {row["id"]: set(filter(None, row["flags"].split("|"))) for row in _rows(large)}
    guilty = [ref for ref, names in named.items() if names]
    assert set().union(*named.values()) == set(VIOLATIONS)
    assert 0.04 < len(guilty) / len(named) < 0.1
    assert 0.45 < sum(bool(flagged[ref]) for ref in guilty) / len(guilty) < 0.75
    assert any(flagged[ref] and not flagged[ref] & named[ref] for ref in guilty)
    assert 0.01 < sum(bool(flagged[ref]) for ref in named if not named[ref]) / len(named) < 0.03


def test_the_system_never_sees_the_truth(catalog: Path) -> None:
    """Neither a column nor the mapping leads to it."""
    columns = set(_rows(catalog)[0])
    read = set(mapping.load(catalog / "mapping.toml").columns())
    assert read == columns == set(sample.COLUMNS)
    assert "violation" not in columns | read and "is_wrong" not in columns | read


def test_no_text_spells_the_answer_out(large: Path) -> None:
    """Neither the true path nor the name of a violation is ever written in a listing."""
    truth = sample_truth.load(large / "truth.csv")
    for row in _rows(large):
        said = f"{row['title']} {row['description']}".lower()
        assert truth.category[row["id"]].lower() not in said
        assert not any(name in said or name.replace("_", " ") in said for name in VIOLATIONS)


def test_some_violations_cannot_be_read(large: Path) -> None:
    """No phrase of the policy stands in every listing that breaks it, and some honest listings sound alike."""
    truth = sample_truth.load(large / "truth.csv")
    said = {row["id"]: row["description"].lower() for row in _rows(large)}
    phrases = next(one for one in sample_goods.load().policies if one.name == "counterfeit").phrases
    spoken = {ref: any(phrase.lower() in text for phrase in phrases) for ref, text in said.items()}
    forged = [ref for ref, value in truth.violation.items() if "counterfeit" in value]
    assert 0.4 < sum(spoken[ref] for ref in forged) / len(forged) < 0.95


def test_reposts_are_the_same_thing_in_other_words(large: Path) -> None:
    """A repost has its original's truth; titles differ, and some are filed elsewhere or by another seller."""
    truth = sample_truth.load(large / "truth.csv")
    rows = {row["id"]: row for row in _rows(large)}
    pairs = [(rows[ref], rows[original]) for ref, original in truth.repost_of.items()]
    assert 0.02 < len(pairs) / len(rows) < 0.08
    assert all(truth.category[a["id"]] == truth.category[b["id"]] for a, b in pairs)
    assert all(truth.violation[a["id"]] == truth.violation[b["id"]] for a, b in pairs)
    for column in ("title", "category", "seller"):
        assert 0 < sum(a[column] != b[column] for a, b in pairs) < len(pairs)
    assert truth.group_of(pairs[0][0]["id"]) == truth.group_of(pairs[0][1]["id"]) == pairs[0][1]["id"]


def test_every_photo_opens_and_no_other_is_there(catalog: Path) -> None:
    """All named files are JPEGs of 130 to 270 pixels; some listings have none, some four."""
    named = [row["photos"].split("|") if row["photos"] else [] for row in _rows(catalog)]
    assert {len(photos) for photos in named} == {0, 1, 2, 3, 4}
    assert {name for photos in named for name in photos} == {path.name for path in (catalog / "images").iterdir()}
    for name in [name for photos in named for name in photos][::7]:
        with Image.open(catalog / "images" / name) as image:
            image.load()
            assert image.format == "JPEG"
            assert min(image.size) >= 130 and max(image.size) <= 270


def test_a_listing_does_not_depend_on_photos_being_drawn(tmp_path: Path) -> None:
    """Without photos all other columns are the same."""
    sample.generate(tmp_path / "with", n=40, seed=9)
    sample.generate(tmp_path / "without", n=40, seed=9, photos=False)
    bare = [row | {"photos": ""} for row in _rows(tmp_path / "with")]
    assert bare == _rows(tmp_path / "without")


def test_rows_are_written_as_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a later row fails, the blocks before it are already in the file: nothing is gathered first."""
    plain = sample._Maker.row

    def failing(maker: sample._Maker, posted: sample.Posted) -> dict[str, object]:
        if posted.item.row == 1500:
            raise KeyboardInterrupt
        return plain(maker, posted)

    monkeypatch.setattr(sample._Maker, "row", failing)
    with pytest.raises(KeyboardInterrupt):
        sample.generate(tmp_path / "c", n=3000, seed=1, photos=False)
    assert len(_rows(tmp_path / "c")) == 1500


def test_a_folder_with_files_in_it_is_refused(catalog: Path) -> None:
    """Nothing is overwritten."""
    with pytest.raises(InputError, match="name a new one"):
        sample.generate(catalog, n=10, seed=1)


@pytest.mark.parametrize(("n", "noise"), [(0, 0.1), (10, 0.6), (10, -0.1), (10, float("nan"))])
def test_impossible_wishes_are_refused(tmp_path: Path, n: int, noise: float) -> None:
    """Before anything is written."""
    with pytest.raises(InputError, match="cannot be made"):
        sample.generate(tmp_path / "c", n=n, seed=1, noise=noise)
    assert not (tmp_path / "c").exists()


def test_one_listing_can_be_made(tmp_path: Path) -> None:
    """The smallest catalog."""
    assert sample.generate(tmp_path / "c", n=1, seed=1).n_listings == len(_rows(tmp_path / "c")) == 1


def test_a_file_that_is_no_truth_is_refused(catalog: Path, tmp_path: Path) -> None:
    """Missing file, foreign columns and unknown refs are told apart."""
    with pytest.raises(InputError, match="does not exist"):
        sample_truth.load(tmp_path / "truth.csv")
    with pytest.raises(InputError, match="lacks column"):
        sample_truth.load(catalog / "listings.csv")
    truth = sample_truth.load(catalog / "truth.csv")
    with pytest.raises(InputError, match="no truth about 'x'"):
        sample_truth.score_labels(truth, {"x": "Pets"})
    with pytest.raises(InputError, match="no labels"):
        sample_truth.score_labels(truth, {})
