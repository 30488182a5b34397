"""The overview: how the loop goes over time, counted right on both databases, quick though counting is slow."""

from datetime import datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from curation.release import registry, trends
from curation.store import jobs, tokens
from curation.store.people import Role
from curation.store.tables import (
    AnnotationRow,
    Category,
    JobRow,
    LabelHistory,
    LabelRow,
    ListingRow,
    ReviewItem,
    RunRow,
    Tombstone,
)
from curation.store.workspace import Workspace
from curation.types import Question
from webhooks import service
from webhooks.pages import overview

HTML = {"Accept": "text/html"}
DAY = timedelta(days=1)


def decided(
    workspace: Workspace, now: datetime, ref: str, *, given: str, value: str, code: str = "audit", ago: timedelta = DAY
) -> int:
    """A listing whose category moderators decided so long ago; its id."""
    with workspace.db.write() as session:
        paths = {row.path: row.id for row in session.query(Category)}
        if given not in paths:
            session.add(Category(path=given, name=given, is_leaf=True))
            session.flush()
        category_id = session.query(Category.id).where(Category.path == given).scalar()
        plain = {"title": ref, "description": "", "attributes": {}, "images": [], "flags": [], "content_sha256": "0" * 64}
        row = ListingRow(ref=ref, group_key=ref, created_at=now, category_id=category_id, **plain)
        session.add(row)
        session.flush()
        same = {"listing_id": row.id, "question": "category"}
        at, said = now - ago, {"value": value, "source": "moderators", "evidence": {}}
        session.add(LabelRow(**same, **said, changed_at=at))
        session.add(LabelHistory(**same, **said, old_value=given, old_source="seller", at=at))
        asked = {"reasons": [{"code": code}], "priority": 1.0, "batch": "b", "n_wanted": 1, "created_at": at}
        session.add(ReviewItem(**same, **asked, state="decided", decided_at=at))
        return row.id


def answer(workspace: Workspace, at: datetime, source_id: str, via: str) -> None:
    """An annotation that reached us on this day, in this way."""
    with workspace.db.write() as session:
        for question in ("category", "violation"):
            words = {"source": "ls", "revision": "1", "task_id": "1", "outcome": "label", "annotator": "a", "origin": "manual"}
            session.add(
                AnnotationRow(
                    **words,
                    source_id=source_id,
                    question=question,
                    via=via,
                    at=at,
                    seen_at=at,
                    note="",
                    ground_truth=False,
                    is_current=True,
                )
            )


@pytest.fixture
def client(app: Flask, workspace: Workspace, now: datetime) -> FlaskClient:
    """An engineer's client."""
    with workspace.db.write() as session:
        token = tokens.create(session, "ada", Role.ENGINEER, now=now)
    found = app.test_client()
    found.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return found


def test_an_empty_loop_is_explained(client: FlaskClient) -> None:
    """Every part says what is missing; the progress bar is empty."""
    page = client.get("/", headers=HTML).text
    for words in (
        "No listings yet",
        "No model has gone live yet",
        "No question waits",
        "drawn at random",
        "Nothing in the last 60 days",
    ):
        assert words in page, words
    assert "0 of 100 corrections" in page and "Something needs you" not in page and 'class="chart"' not in page


def test_noise_is_counted_by_audited_listings_so_far(workspace: Workspace, now: datetime) -> None:
    """Each week by all decided until then; listings that were chosen because they looked wrong do not count."""
    decided(workspace, now, "a", given="Lamps", value="Rugs", ago=15 * DAY)
    decided(workspace, now, "b", given="Lamps", value="Lamps", ago=8 * DAY)
    decided(workspace, now, "c", given="Lamps", value="Lamps", ago=DAY)
    decided(workspace, now, "d", given="Lamps", value="Rugs", code="suspect", ago=DAY)
    with workspace.db.read() as session:
        found = trends.noise_by_week(session, now=now)
    assert [(row.found.value, row.found.n) for row in found] == [(1.0, 1), (0.5, 2), (pytest.approx(1 / 3), 3)]
    assert {row.question for row in found} == {Question.CATEGORY} and found[-1].day == now.date()


def test_corrections_are_counted_by_day(workspace: Workspace, now: datetime) -> None:
    """Changed and confirmed apart, each listing once a day, days without as 0, the present day included."""
    first = decided(workspace, now, "a", given="Lamps", value="Rugs", ago=2 * DAY)
    decided(workspace, now, "b", given="Lamps", value="Lamps", ago=2 * DAY)
    decided(workspace, now, "c", given="Lamps", value="Rugs", ago=timedelta(minutes=1))
    decided(workspace, now, "old", given="Lamps", value="Rugs", ago=90 * DAY)
    with workspace.db.write() as session:
        again = {"listing_id": first, "question": "violation", "value": "none", "source": "moderators", "evidence": {}}
        session.add(LabelHistory(**again, at=now - 2 * DAY))
    with workspace.db.read() as session:
        found = trends.corrections_by_day(session, now=now)
    assert len(found) == 60 and [(row.first, row.second) for row in found[-3:]] == [(1, 1), (0, 0), (1, 0)]
    assert sum(row.first + row.second for row in found) == 3 and found[-1].day == now.date()


def test_answers_are_counted_by_how_they_came(workspace: Workspace, now: datetime) -> None:
    """An annotation is one answer to two questions and counts once; deletions count too; the day is UTC's."""
    midnight = now.replace(hour=0, minute=0)
    answer(workspace, midnight, "1", "webhook")
    answer(workspace, midnight - timedelta(seconds=1), "2", "reconcile")
    with workspace.db.write() as session:
        session.add(Tombstone(source="ls", source_id="9", at=now, via="reconcile"))
    with workspace.db.read() as session:
        found = trends.hooks_by_day(session, now=now)
    assert [(row.first, row.second) for row in found[-2:]] == [(0, 1), (1, 1)] and len(found) == 30


def test_the_page_draws_what_there_is(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """Charts beside tables that download, the queue's age, and a dead job with what to do."""
    with workspace.db.read() as session:
        present = workspace.db.now(session)
    for number, ago in enumerate((20 * DAY, 10 * DAY, DAY)):
        decided(workspace, present, f"l{number}", given="Lamps", value="Rugs", ago=ago)
    with workspace.db.write() as session:
        asked = {"reasons": [], "priority": 1.0, "batch": "b", "n_wanted": 1, "question": "violation", "listing_id": 1}
        session.add(ReviewItem(**asked, state="waiting", created_at=present - 3 * DAY))
        jobs.enqueue(session, "retrain", {}, key="retrain", now=present)
        session.query(JobRow).update({"state": "dead", "error": "<b>no GPU</b>", "finished_at": present})
    page = client.get("/", headers=HTML).text
    assert page.count('<svg class="chart"') == 2 and "3 days" in page and "3 of 100 corrections" in page
    assert "refurbish jobs revive 1" in page and "&lt;b&gt;no GPU" in page and "Something needs you" in page
    assert page.count("<table") == page.count("<caption") and page.count("<h1") == 1
    assert "90" not in client.get("/?table=noise&as=csv").text.splitlines()[0]
    assert len(client.get("/?table=corrections&as=json").json or []) == 3


def test_each_live_model_stands_beside_the_one_before(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """Accuracy with its interval from the model's report, its predecessor's on the same rows from the run's."""
    right = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50}
    with workspace.db.write() as session:
        for value in (0.8, 0.9):
            about = {"kind": "retrain", "snapshot_id": None, "trigger": "t", "config": {}, "device": "cpu", "n_corrections": 0}
            run_id = registry.start_run(session, now=now, **about)
            session.get_one(RunRow, run_id).report = {"champion": {"accuracy": {**right, "value": 0.75}}}
            shas = dict.fromkeys(("onnx_sha256", "sidecar_sha256", "weights_sha256"), "0" * 64)
            model = registry.add_model(session, run_id=run_id, report={"accuracy": {**right, "value": value}}, now=now, **shas)
            registry.promote(session, model.name, by="ada", reason="x", now=now)
    rows = client.get("/?table=releases&as=json").json or []
    assert [(row["model"], row["value"], row["before"]) for row in rows] == [("det-0002", 0.9, 0.75), ("det-0001", 0.8, 0.75)]


def test_the_service_counts_ahead(app: Flask) -> None:
    """Whoever comes first finds what was counted when it started."""
    here = service.of(app)
    overview.count_ahead(here)
    here.keeper.close()
    assert here.keeper.get(overview.TRENDS, dict, age_s=60.0).value["noise"] == []
