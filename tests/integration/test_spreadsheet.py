"""Our CSV files in LibreOffice: nothing that a seller wrote becomes a formula, whatever is taken for the separator."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.release import export, formats
from curation.store.people import Role
from curation.store.workspace import Workspace
from curation.types import Question
from tests import review_world, spreadsheet
from tests.integration.test_export import HOSTILE, data, fill
from tests.page_client import as_role
from tests.property.test_release import a_row, cell
from tests.release_world import PATHS
from webhooks import service, tables
from webhooks.app import create_app
from webhooks.tables import Column

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(spreadsheet.SOFFICE is None, reason="needs LibreOffice (apt-get install libreoffice-calc-nogui)"),
]
SEPARATED = tuple(f"x{sign}{text}" for sign in (";", "\t", ",", '";', '"\t', '",', "\n", '"\n') for text in HOSTILE[:4])
"""Formulas that stand behind what another program takes for the end of a cell."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short name, as LibreOffice likes them."""
    with TemporaryDirectory(prefix="lo-") as made:
        yield Path(made)


def test_the_program_runs_what_is_not_guarded(folder: Path) -> None:
    """Else the tests below would prove nothing: unguarded cells do become formulas, behind a semicolon too."""
    (folder / "x.csv").write_text('a,b\r\n"=1+1","y"\r\nx;=2+2,z\r\n')
    found = [spreadsheet.opened(folder, folder / "x.csv", separator=name)[0] for name in ("comma", "semicolon")]
    assert [len(spreadsheet.formulas(sheet)) for sheet in found] == [1, 2]


@pytest.fixture
def files(sqlite_workspace: Workspace, now: datetime, folder: Path) -> tuple[Path, ...]:
    """An export, the doubted labels and a listing's history, with hostile text wherever text can be."""
    fill(sqlite_workspace, now)
    export.write(sqlite_workspace, folder / "out", "csv", now=now)
    evil = [text for text in (*HOSTILE, *SEPARATED) if text.strip()]
    found = [review_world.suspect(f"ad-{at:05d}", PATHS[0], evil[at % len(evil)][:90], 0.9) for at in range(2, len(HOSTILE))]
    review_world.rank(sqlite_workspace, Question.CATEGORY, *found)
    app = create_app(sqlite_workspace)
    client = as_role(app, sqlite_workspace, Role.ADMIN, now)
    for name, address in {
        "doubted": "/suspects?table=doubted&as=csv",
        "history": "/listing?ref=ad-00000&table=history&as=csv",
    }.items():
        (folder / f"{name}.csv").write_bytes(client.get(address).data)
    service.of(app).close()
    return data(folder / "out", ".csv")[0], folder / "doubted.csv", folder / "history.csv"


@pytest.mark.parametrize("separator", spreadsheet.SEPARATORS)
def test_no_file_has_a_formula(files: tuple[Path, ...], folder: Path, separator: str) -> None:
    """Neither an export nor the download of a page, whatever sellers and moderators are called and wrote (fault 60)."""
    for sheet in spreadsheet.opened(folder, *files, separator=separator):
        assert spreadsheet.formulas(sheet) == [] and spreadsheet.n_rows(sheet) > 3


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(cell, st.sampled_from(SEPARATED)), min_size=100, max_size=100))
def test_no_text_makes_a_formula(values: list[str]) -> None:
    """Made up at random, in the exports' writer and in that of the pages; the exports give it back exactly (faults 60, 61)."""
    with TemporaryDirectory(prefix="lo-") as name:
        folder = Path(name)
        sink = formats.Csv(folder / "export.csv")
        sink.write([a_row(value) for value in values])
        sink.close()
        text, _ = tables.as_csv([Column("a", "A"), Column("b", "B")], [{"a": value, "b": value[::-1]} for value in values])
        (folder / "page.csv").write_text(text, encoding="utf-8", newline="")
        for separator in ("comma", "semicolon"):
            sheets = spreadsheet.opened(folder, folder / "export.csv", folder / "page.csv", separator=separator)
            assert [spreadsheet.formulas(sheet) for sheet in sheets] == [[], []], separator
        assert list(formats.read_csv(folder / "export.csv")["title"]) == values
