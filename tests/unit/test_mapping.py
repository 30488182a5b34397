"""Which column says what: TOML mappings and guesses."""

from pathlib import Path
from typing import Any

import pytest

from curation.catalog import mapping
from curation.catalog.drafts import Draft, Rules, fill
from curation.catalog.mapping import FileMap
from curation.errors import ConfigError, InputError

DOCS = Path(__file__).parent.parent.parent / "docs" / "mappings"


def written(tmp_path: Path, text: str) -> Path:
    """A mapping file with this text."""
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    return path


def filled(file_map: dict[str, Any], values: dict[str, Any], **rules: Any) -> Draft:
    """The draft of one row."""
    draft = Draft(1, None, values, None)
    base = {"ref": "id", "constants": {"title": "Rake"}}
    fill(draft, Rules(FileMap.model_validate(base | file_map), frozenset({"counterfeit", "unsafe"}), **rules))
    return draft


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.toml")), ids=lambda path: path.name)
def test_documented_mappings_are_valid(path: Path) -> None:
    """The examples in the documentation can be loaded as they are."""
    assert mapping.load(path).photos is not None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('ref = "a"\ntitle = "b"\ncolour = "c"', "colour: Extra inputs are not permitted"),
        ('ref = "a"\ntitle = "b"\nphotos = {column = "p", sep = "|"}', "photos.sep: Extra inputs are not permitted"),
        ('title = "b"', "ref: Field required"),
        ('ref = "a"', "title: name its column, or give constants.title"),
        ('ref = "a"\ntitle = "b"\nconstants = {title = "x"}', "title: mapped to a column and given as a constant"),
        ('ref = "a"\ntitle = "b"\ncategory = {}', "category needs either column or columns"),
        ('ref = "a"\ntitle = "b"\nphotos = {column = "p", pattern = "x.jpg"}', "has no {id} in it"),
        ("ref = ", "cannot be read"),
    ],
)
def test_wrong_mapping_names_the_key(tmp_path: Path, text: str, wanted: str) -> None:
    """Unknown keys and contradictions are errors that say where."""
    with pytest.raises(ConfigError) as caught:
        mapping.load(written(tmp_path, text))
    assert wanted in str(caught.value)


def test_absent_mapping_is_an_error(tmp_path: Path) -> None:
    """A mapping that was named must be there."""
    with pytest.raises(ConfigError, match="does not exist"):
        mapping.load(tmp_path / "none.toml")


def test_guess_finds_the_usual_names() -> None:
    """Names, separators, currency and endings are read off columns and samples."""
    columns = ["item_id", "Name", "price_eur", "category_path", "images", "Brand", "truth"]
    found = mapping.guess(columns, [{"category_path": "Home > Garden", "images": "a1|b2"}])
    assert (found.ref, found.title, found.price, found.constants) == ("item_id", "Name", "price_eur", {"currency": "EUR"})
    assert found.category and found.category.separator == " > "
    assert found.photos and (found.photos.separator, found.photos.pattern) == ("|", "{id}.jpg")
    assert found.attributes == {"brand": "Brand"}, "a column nobody named is left alone"


def test_guess_takes_level_columns_in_order() -> None:
    """level2 before level1 in the file is still the second level."""
    found = mapping.guess(["id", "title", "level2", "level1"], [])
    assert found.category and found.category.columns == ("level1", "level2")


def test_guess_without_a_title_is_refused() -> None:
    """No title, no guess."""
    with pytest.raises(InputError, match="looks like the title"):
        mapping.guess(["id", "price"], [])


@pytest.mark.parametrize(
    ("part", "values", "wanted"),
    [
        ({"column": "c"}, {"c": " Home /  Garden  tools "}, "Home / Garden tools"),
        ({"column": "c", "separator": ">"}, {"c": "Home>Art / Craft"}, "Home / Art/Craft"),
        ({"column": "c", "separator": ""}, {"c": "T-Shirt"}, "T-Shirt"),
        ({"column": "c", "none": ["Not sure"]}, {"c": "Not sure"}, None),
        ({"column": "c"}, {"c": ["Home", "Garden"]}, "Home / Garden"),
        ({"columns": ["a", "b"]}, {"a": "Home", "b": "Garden"}, "Home / Garden"),
        ({"columns": ["a", "b"]}, {"a": "Home", "b": ""}, "Home"),
        ({"columns": ["a", "b"]}, {"a": "", "b": "Garden"}, None),
    ],
)
def test_category_is_one_clean_path(part: dict[str, Any], values: dict[str, Any], wanted: str | None) -> None:
    """From a path column or a column a level; it ends at the first empty level."""
    assert filled({"category": part}, {"id": "1"} | values).said["category"] == wanted


def test_closed_taxonomy_drops_an_unknown_category_only() -> None:
    """The listing stays, and the note says why it has no category."""
    draft = filled({"category": "c"}, {"id": "1", "c": "Hmoe"}, categories=frozenset({"Home"}))
    assert draft.said["category"] is None
    assert [(note.field, note.code) for note in draft.notes] == [("category", "unknown")]


@pytest.mark.parametrize(
    ("part", "values", "wanted"),
    [
        ({"column": "f"}, {"f": "unsafe|counterfeit|unsafe"}, ("counterfeit", "unsafe")),
        ({"column": "f"}, {"f": "none"}, ()),
        ({"column": "f"}, {"f": ["unsafe"]}, ("unsafe",)),
        ({"columns": {"x": "unsafe", "y": "counterfeit"}}, {"x": "1", "y": "0"}, ("unsafe",)),
    ],
)
def test_flags_come_joined_or_in_columns(part: dict[str, Any], values: dict[str, Any], wanted: tuple[str, ...]) -> None:
    """Either way they are the policy's names, sorted, each once."""
    assert filled({"flags": part}, {"id": "1"} | values).said["flags"] == wanted


def test_photo_names_are_patterned_unique_and_bounded() -> None:
    """Names of several columns and of a joined cell become file names, at most 24."""
    part = {"columns": ["a", "b"], "pattern": "{id}.jpg"}
    assert filled({"photos": part}, {"id": "1", "a": "x|y", "b": "x"}).photos == ("x.jpg", "y.jpg")
    many = filled({"photos": "p"}, {"id": "1", "p": [f"{i}.jpg" for i in range(30)]})
    assert len(many.photos) == 24 and many.notes[0].code == "too_many"


def test_attributes_spread_an_object_and_are_bounded() -> None:
    """A column that holds an object gives one attribute a key; a flood of them is left out with a note."""
    assert filled({"attributes": ["x"]}, {"id": "1", "x": {"brand": "Oak", "n": 2}}).said["attributes"] == {
        "brand": "Oak",
        "n": 2,
    }
    flood = filled({"attributes": ["x"]}, {"id": "1", "x": {f"k{i}": "v" * 2_000 for i in range(50)}})
    assert flood.said["attributes"] == {} and flood.notes[0].code == "too_long"
