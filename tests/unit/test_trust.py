"""docs/trust.md tells the truth: each fault has its tests, or a reason why it cannot happen."""

from tests.fault_index import DOCUMENT, ROW, found, written

N_FAULTS = 78


def test_every_fault_has_a_test_or_a_reason() -> None:
    """A row without a test must say that the fault does not apply, and why."""
    rows = {int(number): told for number, _, told in ROW.findall(DOCUMENT.read_text(encoding="utf-8"))}
    assert sorted(rows) == list(range(1, N_FAULTS + 1))
    bare = {number for number, told in rows.items() if not told.startswith("does not apply: ")}
    assert bare - set(found()) == set()


def test_the_document_names_the_tests_as_they_are() -> None:
    """Mend with `python -m tests.fault_index --write`."""
    told = DOCUMENT.read_text(encoding="utf-8")
    assert told == written(told)


def test_no_test_names_a_fault_that_is_not_there() -> None:
    """A number without a row is a slip."""
    assert set(found()) - set(range(1, N_FAULTS + 1)) == set()
