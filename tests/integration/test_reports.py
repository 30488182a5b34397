"""Users' reports: kept once, adopted by their listing, weighed by what moderators decided before."""

import json
from pathlib import Path

import numpy as np
import pytest

from curation.errors import InputError
from curation.review import reported, selection
from curation.store import reports
from curation.store.reports import Given
from curation.store.workspace import Workspace
from curation.types import Question
from tests import builders, commands, review_world
from tests.conftest import NOW
from tests.review_world import PATHS, answer, flagged, item, with_shares


def add(workspace: Workspace, *given: Given) -> reports.Added:
    with workspace.db.write() as session:
        return reports.add(session, given, via="api", now=NOW)


def flags(workspace: Workspace) -> dict[str, tuple[str, ...]]:
    return {listing.ref: listing.flags for listing in builders.all_listings(workspace)}


def file(folder: Path, *rows: dict[str, object]) -> Path:
    made = folder / "reports.jsonl"
    made.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def test_a_report_flags_its_listing_once(workspace: Workspace) -> None:
    """The same words again change nothing; another reporter is another report, and no new flag."""
    builders.add(workspace, builders.record("r1"))
    first = Given("r1", "counterfeit", "no box", "u1")
    assert add(workspace, first, first) == reports.Added(1, 1, 0, 1)
    assert add(workspace, first, Given("r1", "counterfeit", "no box", "u2")) == reports.Added(1, 1, 0, 0)
    assert flags(workspace) == {"r1": ("counterfeit",)}
    assert builders.label(workspace, "r1", Question.VIOLATION) == ("counterfeit", "report")


def test_a_report_waits_for_its_listing(workspace: Workspace) -> None:
    """It is kept, and the listing is flagged when it comes, and stays so when the catalog changes it."""
    assert add(workspace, Given("r1", "counterfeit"), Given("r1", "other")).n_waiting == 2
    builders.add(workspace, builders.record("r1"))
    assert builders.label(workspace, "r1", Question.VIOLATION) == ("counterfeit", "report")
    builders.add(workspace, builders.record("r1", title="Another title", flags=("adult_content",)))
    assert flags(workspace) == {"r1": ("adult_content", "counterfeit")}


def test_moderators_word_outlives_reports(workspace: Workspace) -> None:
    """The flag is noted, the label stays theirs, and the report has an outcome."""
    builders.add(workspace, builders.record("r1"))
    answer(workspace, "r1", "none", question=Question.VIOLATION)
    add(workspace, Given("r1", "counterfeit", reporter="u1"), Given("r2", "other"))
    assert builders.label(workspace, "r1", Question.VIOLATION) == ("none", "moderators")
    with workspace.db.read() as session:
        found = {one.ref: one.outcome for one in reports.page(session, limit=10)}
    assert found == {"r1": "wrong", "r2": "unknown listing"}


def test_reports_of_a_file(workspace: Workspace, tmp_path: Path) -> None:
    """New, known, waiting and rejected ones are told apart; nothing of a bad row is lost; twice is once."""
    builders.add(workspace, builders.record("r1"))
    good = {"ref": "r1", "reason": "counterfeit", "words": "forged", "reporter": "u1", "at": "2026-01-01T10:00:00Z"}
    bad = {"ref": "r1", "reason": "ugly"}
    made = file(tmp_path, good, {"ref": "later", "reason": "other"}, bad, {"ref": "", "reason": "other"})
    found = commands.run_json(workspace, "ingest", "--reports", made)["reports"]
    assert (found["n_rows"], found["n_new"], found["n_waiting"], found["n_rejected"]) == (4, 2, 1, 2)
    assert found["reasons"] == {"reason: unknown": 1, "ref: missing": 1}
    assert "reason 'ugly' is not one of adult_content" in Path(found["rejects"]).read_text()
    assert commands.run_json(workspace, "ingest", "--reports", made)["reports"]["n_known"] == 2


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"reason": "counterfeit"}, "has no column ref"),
        ({"ref": "r1"}, "has no column reason"),
    ],
)
def test_a_file_without_its_columns_is_refused(
    sqlite_workspace: Workspace, tmp_path: Path, row: dict[str, str], words: str
) -> None:
    """Before anything is written, and it says what a report is."""
    found = commands.run(sqlite_workspace, "ingest", "--reports", file(tmp_path, row))
    assert found.exit_code == 1 and words in found.stderr


def test_ingest_asks_for_a_file(sqlite_workspace: Workspace) -> None:
    """Of listings or of reports."""
    found = commands.run(sqlite_workspace, "ingest")
    assert found.exit_code == 2 and "--reports" in found.stderr


@pytest.mark.parametrize("field", ["ref", "words", "reporter", "at"])
def test_hostile_fields_are_refused_by_name(field: str) -> None:
    """NUL, half characters, a megabyte, a time that is none."""
    from curation.catalog.reports import given

    for value in ("\x00", "\ud800", "x" * 1_000_000):
        with pytest.raises(InputError) as caught:
            given({"ref": "r1", "reason": "other", field: value}, frozenset())
        assert getattr(caught.value, "field", "") in (field, "listed_at" if field == "at" else field)


def decide(workspace: Workspace, n_right: int, n: int, reporter: str, reason: str = "counterfeit") -> None:
    """`n` decided listings that this reporter reported, the first of them rightly."""
    refs = [f"{reporter}-{reason}-{at}" for at in range(n)]
    builders.add(workspace, *(builders.record(ref, category=PATHS[0]) for ref in refs))
    add(workspace, *(Given(ref, reason, reporter=reporter) for ref in refs))
    for at, ref in enumerate(refs):
        answer(workspace, ref, reason if at < n_right else "none", question=Question.VIOLATION)


def test_the_record_is_learned_from_decisions(workspace: Workspace) -> None:
    """Of reasons and of reporters; open reports teach nothing."""
    decide(workspace, 9, 10, "good")
    decide(workspace, 1, 10, "careless")
    add(workspace, Given("later", "counterfeit", reporter="new"))
    with workspace.db.read() as session:
        found = reported.record(session, workspace.settings)
    assert (found.reasons["counterfeit"].n_right, found.reasons["counterfeit"].n) == (10, 20)
    assert found.reporters["good"].precision.value > 0.7 > 0.3 > found.reporters["careless"].precision.value
    assert "new" not in found.reporters


def test_believed_reports_come_first_and_say_why(workspace: Workspace) -> None:
    """The good reporter's before the careless one's, with the record in words; `other` is asked too."""
    decide(workspace, 7, 9, "good")
    decide(workspace, 0, 9, "careless", "unsafe_product")
    builders.add(workspace, *(builders.record(f"v{at}", category=PATHS[0], group_key=f"v{at}") for at in range(3)))
    add(workspace, Given("v0", "unsafe_product", reporter="careless"), Given("v2", "other", reporter="new"))
    add(workspace, *(Given("v1", "counterfeit", reporter=who) for who in ("good", "x", "y")))
    found = selection.select_batch(with_shares(workspace), n=10, rng=np.random.default_rng(0), now=NOW)
    assert found.by_reason == {"reported": 3}
    assert item(workspace, "v1").priority > item(workspace, "v2").priority > item(workspace, "v0").priority
    assert item(workspace, "v1").reasons[0]["words"] == "Reported 3 times as counterfeit; 7 of 9 such reports were right."
    assert item(workspace, "v2").reasons[0]["words"] == "Reported once for another reason."


def test_a_report_and_the_model_together_beat_either(sqlite_workspace: Workspace) -> None:
    """Their evidence adds up, and a report the model does not believe sinks."""
    review_world.catalog(sqlite_workspace, 4)
    add(sqlite_workspace, Given("r000", "counterfeit"), Given("r001", "counterfeit"), Given("r003", "counterfeit"))
    unseen = flagged("r003", "none", 0.999)
    review_world.rank(
        sqlite_workspace, Question.VIOLATION, flagged("r000", "counterfeit", 0.9), flagged("r002", "counterfeit", 0.9), unseen
    )
    selection.select_batch(with_shares(sqlite_workspace), n=10, rng=np.random.default_rng(0), now=NOW)
    both, seen, alone, doubted = (item(sqlite_workspace, ref).priority for ref in ("r000", "r002", "r001", "r003"))
    assert both > seen > alone > doubted and both > 0.99
