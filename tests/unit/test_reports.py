"""Users' reports as a CSV file, and names under which a violation can be added."""

from pathlib import Path

import pytest

from curation import settings
from curation.catalog import reports
from curation.errors import InputError
from curation.store import violations


def test_refs_and_reasons_are_read(tmp_path: Path) -> None:
    """A byte order mark, spaces, other columns, an absent and an endless reason; the last word on a listing counts."""
    file = tmp_path / "reports.csv"
    file.write_text(f"\ufeffref,by,reason\n a1 ,x, never came \na2,y,\na3,z,{'long ' * 500}\na1,x,forged\n", encoding="utf-8")
    found = reports.read(file)
    assert found["a1"] == "forged" and found["a2"] == "" and len(found["a3"]) <= reports.MAX_REASON_CHARS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no row, a column ref is needed"),
        (b"id,reason\na,b\n", "has the columns \\['id', 'reason'\\], a column ref is needed"),
        (b"ref,reason\na,b\n,c\n", r"1 rows of .* name no listing, first lines \[3\]"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b'ref\n"a', "cannot be read"),
    ],
    ids=["empty", "other columns", "empty ref", "not UTF-8", "open quote"],
)
def test_a_file_that_is_no_list_of_reports(tmp_path: Path, content: bytes, words: str) -> None:
    """What is wrong, and what to do."""
    file = tmp_path / "reports.csv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=words):
        reports.read(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Named in the message."""
    with pytest.raises(InputError, match=r"nowhere\.csv cannot be read"):
        reports.read(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("name", ["", "none", "Tickets", "a|b", "a b", "_a", "a__b", "a_", "1a", "é", "a" * 41])
def test_names_that_no_violation_can_have(name: str, tmp_path: Path) -> None:
    """They would not survive a label's value, a page or a sidecar."""
    with pytest.raises(InputError, match="a violation cannot be called"):
        violations.check(settings.load(home=tmp_path), name, "Title")


@pytest.mark.parametrize("title", ["", "  ", "a\nb", "x" * 81])
def test_titles_that_nobody_can_read(title: str, tmp_path: Path) -> None:
    """Empty, of several lines, too long."""
    with pytest.raises(InputError, match="cannot be shown to moderators"):
        violations.check(settings.load(home=tmp_path), "tickets", title)
