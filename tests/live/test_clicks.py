"""A moderator's click in Label Studio, through webhook, service and worker, to the ledger."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from curation.labelstudio import push, reconcile
from curation.store import annotations
from curation.store.tables import AnnotationRow, Inbox
from curation.store.workspace import utc_now
from curation.types import Origin, Outcome, Question
from tests.labelstudio_people import Moderator, answers
from tests.labelstudio_server import LabelStudioServer
from tests.live.world import SECRET, World, world
from tests.serving import Served, served

Three = tuple[Moderator, Moderator, Moderator]


@pytest.fixture
def serving(labelstudio: LabelStudioServer, tmp_path: Path) -> Iterator[tuple[World, Served]]:
    """A workspace with three tasks pushed, and the real service in front of it."""
    url = f"sqlite:///{tmp_path / 'refurbish.db'}"
    with (
        served(tmp_path, url, webhook_secret=SECRET) as service,
        world(labelstudio, tmp_path, port=service.port) as here,
    ):
        here.set_up()
        here.suggest(["r0", "r1", "r2"], "Home / Tools")
        here.ask("r0", "r1", "r2")
        push.push(here.workspace, now=utc_now())
        here.work("ingest")
        yield here, service


def log(here: World, annotation_id: int) -> dict[str, Any]:
    """Current rows of an annotation by question."""
    current = (AnnotationRow.source_id == str(annotation_id), AnnotationRow.is_current.is_(True))
    with here.workspace.db.read() as session:
        return {row.question: row for row in session.execute(select(AnnotationRow.__table__).where(*current)).all()}


def test_click_reaches_the_ledger_with_its_provenance(serving: tuple[World, Served], people: Three) -> None:
    """One webhook changes both labels; taken-over and changed answers are told apart."""
    here, _ = serving
    made = people[0].submit(here.task_id("r0"), "Home / Tools", ["counterfeit"], note="odd logo", lead_time_s=7.5)
    assert here.work("ingest") == 1
    assert here.label("r0") == ("Home / Tools", "moderators")
    assert here.label("r0", Question.VIOLATION) == ("counterfeit", "moderators")
    found = log(here, made["id"])
    assert [found[question.value].origin for question in Question] == [Origin.PREDICTION, Origin.PREDICTION_CHANGED]
    row = found["category"]
    assert (row.annotator, row.updated_by) == (str(people[0].user_id),) * 2
    assert (row.lead_time_s, row.note, row.via) == (7.5, "odd logo", "webhook")
    assert row.parent_prediction is not None


def test_skip_with_a_prefilled_answer_is_no_label(serving: tuple[World, Served], people: Three) -> None:
    """The editor sends the model's guess along with a skip."""
    here, _ = serving
    made = people[0].skip(here.task_id("r0"))
    assert made["result"]
    here.work("ingest")
    assert {row.outcome for row in log(here, made["id"]).values()} == {Outcome.SKIP}
    assert here.label("r0") == ("Home / Decor", "seller")


def test_two_skips_bring_the_task_back_as_a_hard_one(serving: tuple[World, Served], people: Three) -> None:
    """Neither of the two is asked again; the third is told why it is asked, and an engineer sees it counted."""
    here, service = serving
    people[0].skip(here.task_id("r0"))
    people[1].skip(here.task_id("r0"))
    here.work("ingest")
    assert push.push(here.workspace, now=utc_now()).n_reopened == 1
    assert here.tasks()["r0"]["data"]["reason"].startswith("• Several moderators skipped this listing")
    assert b"refurbish_hard_questions 2.0" in service.request("GET", "/metrics")[2]
    third = people[2].next_task(here.project_id)
    assert third is not None and third["data"]["listing_id"] == "r0"
    people[2].submit(third["id"], "Home / Tools", [], task=third)
    here.work("ingest")
    assert here.label("r0") == ("Home / Tools", "moderators")
    assert b"refurbish_hard_questions 0.0" in service.request("GET", "/metrics")[2]


def test_change_delete_and_contradiction(serving: tuple[World, Served], people: Three) -> None:
    """An update moves the label, a contradiction takes it back, a deletion leaves the seller's word."""
    here, _ = serving
    made = people[0].submit(here.task_id("r0"), "Home / Tools", [])
    people[0].update(made["id"], result=answers(None, "Electronics / Audio / Radios", []))
    here.work("ingest")
    assert here.label("r0") == ("Electronics / Audio / Radios", "moderators")
    people[0].update(made["id"], result=answers(None, "Home / Tools", ["none", "counterfeit"]))
    here.work("ingest")
    assert here.label("r0", Question.VIOLATION) is None
    people[0].delete(made["id"])
    here.work("ingest")
    assert here.label("r0") == ("Home / Decor", "seller")


def test_bulk_acceptance_is_not_an_independent_vote(serving: tuple[World, Served]) -> None:
    """`predictions_to_annotations` makes labels that nobody has looked at: low confidence, and said so."""
    here, _ = serving
    chosen = {"selectedItems": {"all": False, "included": [here.task_id("r1")]}, "project": here.project_id}
    here.api.post(f"/api/dm/actions?id=predictions_to_annotations&project={here.project_id}", json=chosen).raise_for_status()
    here.work("ingest")
    with here.workspace.db.read() as session:
        (vote,) = annotations.votes(session, "r1", Question.CATEGORY)
    assert vote.origin is Origin.PREDICTION
    assert annotations.is_rubber_stamp(vote)


def test_secrets_do_not_reach_the_inbox(serving: tuple[World, Served], people: Three) -> None:
    """Neither the project's token nor anything but what is needed is stored."""
    here, _ = serving
    people[0].submit(here.task_id("r2"), "Home / Tools", [])
    with here.workspace.db.read() as session:
        bodies = [json.loads(body) for body in session.execute(select(Inbox.body)).scalars()]
    assert len(bodies) >= 2
    assert {body["project"]["token"] for body in bodies} == {"REDACTED"}


def test_outage_only_delays(serving: tuple[World, Served], people: Three) -> None:
    """With the service down moderators notice nothing; the next reconciliation brings their work and counts it."""
    here, service = serving
    service.stop()
    for ref, person in zip(("r0", "r1", "r2"), people, strict=True):
        person.submit(here.task_id(ref), "Home / Tools", [])
    drift = reconcile.reconcile(here.workspace, utc_now())
    assert (drift.n_missed, drift.healed["annotations"]) == (3, 3)
    assert {here.label(ref) for ref in ("r0", "r1", "r2")} == {("Home / Tools", "moderators")}
