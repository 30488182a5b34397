"""`/ml`: what Label Studio asks a model, on both databases."""

import base64
import json
import logging
from dataclasses import asdict
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import inspect, select, text

from curation.release import registry
from curation.store.tables import JobRow, ReviewItem
from curation.store.workspace import Workspace, set_state
from curation.types import BLIND_BATCH, Question
from tests import review_world
from tests.builders import add, all_listings, photo, record
from tests.conftest import NOW
from tests.integration.test_embed import released
from tests.unit.test_scorer import CLASSES
from webhooks import ml, service
from webhooks.model import Model

SECRET = "s3cret-" + "x" * 32
AUTH = {"Authorization": "Basic " + base64.b64encode(f"refurbish:{SECRET}".encode()).decode()}
CANARY = "c4n4ry" + "0" * 34


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def task(ref: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"listing_id": ref}, "project": 1}


def ask(client: FlaskClient, *tasks: Any) -> list[dict[str, Any]]:
    """What `/predict` answers."""
    answer = client.post(
        "/ml/predict", json={"tasks": list(tasks), "project": "1.2", "params": {"password": CANARY}}, headers=AUTH
    )
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.get_json()["results"]
    return found


def said(prediction: dict[str, Any]) -> dict[str, Any]:
    return {item["from_name"]: item["value"] for item in prediction["result"]}


def put_question(workspace: Workspace, listing_id: int, *, priority: float = 0.9, batch: str = "b") -> None:
    with workspace.db.write() as session:
        for question in Question:
            item = {"question": question.value, "state": "pushed", "reasons": [], "priority": priority, "batch": batch}
            session.add(ReviewItem(listing_id=listing_id, **item, n_wanted=1, created_at=NOW, pushed_at=NOW))


def test_health_is_open_and_all_else_asks_for_the_secret(client: FlaskClient) -> None:
    """By password or by the hook's header; a wrong one gets 401, and nothing is answered."""
    assert client.get("/ml/health").get_json()["status"] == "UP"
    wrong = {"Authorization": "Basic " + base64.b64encode(b"refurbish:wrong").decode()}
    for path in ("/ml/setup", "/ml/predict", "/ml/webhook"):
        for headers in ({}, wrong, {"Authorization": "Bearer x"}, {"Authorization": "Basic \x80"}):
            assert client.post(path, json={}, headers=headers).status_code == 401
    assert client.get("/ml/versions").status_code == 401
    assert client.post("/ml/setup", json={}, headers={"X-Refurbish-Secret": SECRET}).status_code == 200


def test_without_a_model_every_task_gets_an_empty_prediction(client: FlaskClient, workspace: Workspace) -> None:
    """Label Studio drops a batch whose answers are fewer than its tasks."""
    add(workspace, record("r1"))
    assert client.post("/ml/setup", json={}, headers=AUTH).get_json() == {"model_version": "no-model-yet"}
    found = ask(client, task("r1"), task("r1"))
    assert found == [{"model_version": "no-model-yet", "score": 1.0, "result": []}] * 2


def test_the_live_model_answers_in_order(client: FlaskClient, workspace: Workspace) -> None:
    """Both questions, the score by priority, the version of the live model."""
    released(workspace)
    with workspace.db.read() as session:
        live = registry.live(session)
    assert live is not None
    first, second = ask(client, task("r1"), task("r0"))
    for prediction in (first, second):
        assert prediction["model_version"] == live.name and prediction["score"] == 1.0
        assert " / ".join(said(prediction)["category"]["taxonomy"][0]) in CLASSES
        assert said(prediction)["violation"]["choices"]
    assert client.get("/ml/versions", headers=AUTH).get_json() == {"versions": [live.name]}


def test_one_bad_task_leaves_the_others_their_answers(client: FlaskClient, workspace: Workspace) -> None:
    """Unknown listings, tasks of other shapes, a photo that is gone, a megabyte of title: one answer each, in order."""
    released(workspace)
    lost = photo(workspace, 5)
    workspace.media.path(lost.sha256, ".jpg").unlink()
    add(
        workspace,
        record("lost", photos=(lost,)),
        record("huge", title="x\u202e" * 10**6, description="", price=None, category=None),
    )
    bad = [task("nobody"), task(None), {}, 7, None, {"data": []}, task("\x00"), task(["r0"]), task("x" * 300)]
    found = ask(client, task("r0"), *bad, task("lost"), task("huge"))
    assert [bool(one["result"]) for one in found] == [True, *(False for _ in bad), True, True]
    assert all(set(one) == {"result", "score", "model_version"} for one in found)


def test_out_of_sample_answers_come_before_the_live_models(client: FlaskClient, workspace: Workspace) -> None:
    """The live model has learned the seller's label by heart; the run that left the listing out has not."""
    released(workspace)
    oos = review_world.suspect("r0", CLASSES[0], "Sport / Bikes", 0.9)
    run_id = review_world.finish_run(workspace, review_world.confident([]))
    review_world.rank(workspace, Question.CATEGORY, oos, run_id=run_id)
    first, second = ask(client, task("r0"), task("r1"))
    assert said(first)["category"] == {"taxonomy": [["Sport", "Bikes"]]}
    assert first["model_version"] == second["model_version"] == f"det-0001+run-{run_id:04d}"
    assert "category" in said(second)


def test_blind_tasks_get_a_place_in_the_queue_and_no_answer(client: FlaskClient, workspace: Workspace) -> None:
    """And the most valuable question has the lowest score, which is given out first."""
    released(workspace)
    ids = {one.ref: one.id for one in all_listings(workspace)}
    put_question(workspace, ids["r0"], batch=BLIND_BATCH, priority=0.8)
    put_question(workspace, ids["r1"], priority=0.3)
    blind, seen = ask(client, task("r0"), task("r1"))
    assert (blind["result"], blind["score"]) == ([], 0.2)
    assert seen["result"] and seen["score"] == 0.7


def test_a_promotion_and_a_rollback_are_seen(workspace: Workspace) -> None:
    """The holder changes its model, loads each once, and keeps the old one where the new one's files are gone (fault 56)."""
    released(workspace)
    held = Model(workspace, check_s=0.0)
    first = held.live()
    assert first is not None and held.live() is first
    with workspace.db.write() as session:
        model = registry.live(session)
        assert model is not None
        shas = {name: asdict(model)[name] for name in ("onnx_sha256", "sidecar_sha256", "weights_sha256")}
        registry.add_model(session, run_id=None, report={}, now=NOW, **shas)
        registry.add_model(session, run_id=None, report={}, now=NOW, **shas | {"onnx_sha256": "0" * 64})
        registry.promote(session, "det-0002", by="test", reason="test", now=NOW)
    second = held.current()
    assert second is not None and (second.name, second.scorer is first) == ("det-0002", False)
    with workspace.db.write() as session:
        registry.promote(session, "det-0003", by="test", reason="test", now=NOW)
    assert held.current() is second
    with workspace.db.write() as session:
        registry.rollback(session, by="test", reason="test", now=NOW)
    third = held.current()
    assert third is not None and third.name == "det-0002"


def test_a_model_file_that_cannot_be_read_is_no_model(sqlite_workspace: Workspace) -> None:
    """As when it is gone: the service goes on, and the log says why (fault 48)."""
    released(sqlite_workspace)
    with sqlite_workspace.db.read() as session:
        model = registry.live(session)
    assert model is not None
    file = sqlite_workspace.files.path(model.sidecar_sha256, ".json")
    file.unlink()
    file.mkdir()
    assert Model(sqlite_workspace).live() is None


def test_suggestions_follow_what_goes_live_once_label_studio_is_set_up(workspace: Workspace) -> None:
    """Also when somebody promotes or rolls back by hand; before that nobody sees a suggestion."""
    released(workspace)
    with workspace.db.write() as session:
        assert session.execute(select(JobRow.kind)).scalars().all() == []
        set_state(session, registry.PROJECT, {"id": 1, "url": "http://x/projects/1"}, now=NOW)
        registry.promote(session, "det-0001", by="test", reason="again", now=NOW)
        assert session.execute(select(JobRow.kind)).scalars().all() == ["refresh"]


def test_tokens_are_neither_stored_nor_logged(
    client: FlaskClient, workspace: Workspace, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A canary in every secret field, looked for in all tables, files and logs; also in bodies that are refused (fault 70)."""
    released(workspace)
    body = {"project": "1.2", "schema": "<View/>", "hostname": "x", "access_token": CANARY, "extra_params": {"token": CANARY}}
    with caplog.at_level(logging.DEBUG):
        for path in ("/ml/setup", "/ml/predict", "/ml/webhook"):
            for sent in (json.dumps(body), f'{{"tasks": "{CANARY}"', f'{{"tasks": [{{"data": "{CANARY}"}}]}}'):
                client.post(path, data=sent, headers=AUTH)
                client.post(path, data=sent)
    with workspace.db.read() as session:
        names = inspect(session.get_bind()).get_table_names()
        rows = [row for name in names for row in session.execute(text(f'SELECT * FROM "{name}"'))]
    files = b"".join(file.read_bytes() for file in workspace.settings.home.rglob("*") if file.is_file())
    out = capsys.readouterr()
    assert CANARY not in f"{rows}{caplog.text}{out.out}{out.err}" and CANARY.encode() not in files


def test_start_training_asks_the_policy(client: FlaskClient, workspace: Workspace) -> None:
    """Anybody in Label Studio may press the button, so it starts what is due and no more; other events are left to the hook."""
    answer = client.post("/ml/webhook", json={"action": "START_TRAINING", "project": {}}, headers=AUTH)
    assert answer.status_code == 202 and "more needed" in answer.get_json()["status"]
    other = client.post("/ml/webhook", json={"action": "ANNOTATION_CREATED"}, headers=AUTH)
    assert other.status_code == 202 and "/hooks/labelstudio" in other.get_json()["status"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"tasks": 1}', b"\xff", b'{"tasks": NaN}', b"[" * 100_000])
def test_a_body_without_tasks_is_refused(client: FlaskClient, body: bytes) -> None:
    """With what is missing."""
    answer = client.post("/ml/predict", data=body, headers=AUTH)
    assert (answer.status_code, answer.get_json()["error"]) == (400, "the body names no list of tasks")


def test_a_body_beyond_the_limit_is_refused(app: Flask) -> None:
    """Not read into memory first."""
    limit = service.of(app).workspace.settings.webhook_limit_bytes
    told = {"CONTENT_LENGTH": str(limit + 1)}
    answer = app.test_client().post("/ml/predict", data=b"{}", headers=AUTH, environ_overrides=told)
    assert answer.status_code == 413


def test_tasks_beyond_count_are_refused(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of many short tasks would be answered by hundreds of times its size in memory (fault 13)."""
    assert len(ask(client, *[0] * 7)) == 7
    monkeypatch.setattr(ml, "MAX_TASKS", 6)
    answer = client.post("/ml/predict", json={"tasks": [0] * 7}, headers=AUTH)
    assert answer.status_code == 413 and "7 tasks, 6 are answered at once" in answer.text
