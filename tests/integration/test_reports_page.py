"""The page of users' reports."""

import csv
import io
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from curation.store import reports
from curation.store.people import Role
from curation.store.reports import Given
from curation.store.workspace import Workspace
from curation.types import Question
from tests import builders
from tests.api_world import as_
from tests.conftest import NOW
from tests.review_world import answer

HOSTILE = '<script>alert(1)</script>\u202e"onload=x'


@pytest.fixture
def page(app: Flask, workspace: Workspace) -> FlaskClient:
    """A moderator's browser, on each database."""
    client = as_(app.test_client(), workspace, Role.MODERATOR)
    client.environ_base["HTTP_ACCEPT"] = "text/html"
    return client


def told(workspace: Workspace, *given: Given) -> None:
    with workspace.db.write() as session:
        reports.add(session, given, via="api", now=NOW)


def test_without_reports_it_says_how_they_come(page: FlaskClient) -> None:
    """The address and the command."""
    shown = page.get("/reports").text
    assert "POST /api/v1/reports" in shown and "refurbish ingest --reports FILE" in shown and "<table" not in shown


def test_records_and_outcomes_are_shown(page: FlaskClient, workspace: Workspace) -> None:
    """How many were right, of whom, and what is open; everything downloads."""
    builders.add(workspace, *builders.records(3))
    told(workspace, *(Given(f"r{at}", "counterfeit", "forged", "u1") for at in range(3)), Given("later", "other"))
    answer(workspace, "r0", "counterfeit", question=Question.VIOLATION)
    answer(workspace, "r1", "none", question=Question.VIOLATION)
    shown = page.get("/reports").text
    for words in ("Counterfeit", "u1", "not decided", "listing not here yet", "Garden rake r0"):
        assert words in shown
    rows = list(csv.DictReader(io.StringIO(page.get("/reports?table=reasons&as=csv").text)))
    assert [(row["n"], row["n_right"]) for row in rows] == [("2", "1")] and 0.4 < float(rows[0]["precision"]) < 0.6
    newest = page.get("/reports?table=newest&as=json").json
    assert newest is not None and sorted(row["outcome"] for row in newest) == [
        "listing not here yet",
        "not decided",
        "right",
        "wrong",
    ]


def test_hostile_words_are_inert(page: FlaskClient, workspace: Workspace) -> None:
    """In words, reporter, ref and title; also in the download."""
    builders.add(workspace, builders.record("=r1", title=HOSTILE))
    told(workspace, Given("=r1", "other", HOSTILE, HOSTILE), Given(HOSTILE, "other", "=1+1"))
    shown = page.get("/reports").text
    assert "<script" not in shown and "&lt;script&gt;" in shown and shown.count("<h1") == 1
    assert not re.search(r"\sstyle=|\son\w+=[^&]", shown.replace('"onload', ""))
    assert "'=r1" in page.get("/reports?table=newest&as=csv").text


def test_pages_go_back_in_time(page: FlaskClient, workspace: Workspace) -> None:
    """Twenty-five a page, by key; a reason alone; a wrong key is no page."""
    told(workspace, *(Given(f"x{at:03d}", "other" if at % 2 else "counterfeit") for at in range(120)))
    first = page.get("/reports").text
    found = re.search(r'href="(/reports\?before=\d+)">Show more', first)
    assert found is not None and "x119" in first and "x095" in first and "x094" not in first
    assert "x094" in page.get(found[1]).text and "x119" not in page.get(found[1]).text
    chosen = page.get("/reports?reason=other").text
    assert "x119" in chosen and "x118" not in chosen and "reason=other" in chosen
    assert page.get("/reports?reason=%00").status_code == 400
    assert [page.get(f"/reports?before={wrong}").status_code for wrong in ("x", "-1", "2147483648", "9" * 30)] == [404] * 4
