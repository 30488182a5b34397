"""Runs and models on the pages: what a run left, however little; promoting and rolling back, also by two at once."""

import json
import re
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from curation.release import promotion, registry, run_view
from curation.release.genotype import Genotype
from curation.store import jobs, people, tokens
from curation.store.people import Role
from curation.store.tables import Release
from curation.store.workspace import Workspace, set_state
from tests.api_world import stored
from webhooks import service
from webhooks.app import create_app

HTML = {"Accept": "text/html"}
HOSTILE = "<script>alert(1)</script>\u202e'\"&{{7*7}}"
EDGES = [{"from": at, "to": node, "op": op} for node in (2, 3) for at, op in ((0, "conv3"), (1, "skip"))]
GENOTYPE = {"format": "refurbish-genotype", "version": 1, "n_nodes": 2, "normal": EDGES, "reduction": EDGES, "concat": [2, 3]}


def share(value: float) -> dict[str, Any]:
    """A figure as a report holds it."""
    return {"value": value, "low": value - 0.1, "high": min(1.0, value + 0.1), "n": 40}


def report(name: str = "det-0001") -> dict[str, Any]:
    """A run's report as the trainer writes it, by name."""
    curve = {"score": [0.9, 0.5], "recall": [0.5, 1.0], "precision": [1.0, 0.5], "low": [0.2, 0.1], "high": [1.0, 0.9]}
    threshold = {"value": 0.9, "words": "flags from 0.900", "precision": share(0.95), "recall": share(0.5)}
    scam = {"n": 40, "n_positive": 2, "average_precision": share(0.75), "threshold": threshold}
    scam |= {"certified_recall": share(0.5), "certified_precision": share(0.9)}
    judged = {"name": name, "accuracy": share(0.8), "root_accuracy": share(0.9), "violations": {"scam": scam}}
    return {
        "model": name,
        "challenger": judged,
        "champion": {**judged, "name": "det-0000", "accuracy": share(0.7)},
        "gate": {
            "passed": True,
            "words": "passed all 2 checks",
            "checks": [{"name": "int8", "passed": True, "words": "served in whole"}],
        },
        "curves": {"challenger": {"scam": curve}, "champion": {"scam": curve}},
        "fit": {"losses": [2.0, 1.0], "train_losses": [3.0, 2.0], "best_epoch": 2, "n_validation": 9},
        "seconds": {"fit": 3.5, "total": 4.0},
    }


def add_run(workspace: Workspace, now: datetime, found: dict[str, Any], *, state: str = "promoted", **about: Any) -> int:
    """A run that ended so."""
    with workspace.db.write() as session:
        values = {"kind": "retrain", "snapshot_id": None, "trigger": "asked", "config": {}, "device": "cpu", "n_corrections": 3}
        run_id = registry.start_run(session, now=now, **{**values, **about})
        if state != "running":
            registry.finish_run(session, run_id, state=state, report=found, n_seconds=4.0, now=now)
    return run_id


def add_models(workspace: Workspace, now: datetime, n: int = 3, run_id: int | None = None) -> list[str]:
    """Models whose files are there; the first is live."""
    with workspace.db.write() as session:
        names = []
        for number in range(n):
            made = registry.add_model(session, run_id=run_id, report=report(), now=now, **stored(workspace.files, number))
            names.append(made.name)
        registry.promote(session, names[0], by="ada", reason="first", now=now)
    return names


def live(workspace: Workspace) -> str | None:
    """Name of the live model."""
    with workspace.db.read() as session:
        found = registry.live(session)
    return found and found.name


@pytest.fixture
def client(app: Flask, workspace: Workspace, now: datetime) -> FlaskClient:
    """An engineer's client, on each database."""
    return _engineer(app, workspace, now)


@pytest.fixture
def light(sqlite_workspace: Workspace, now: datetime) -> Iterator[FlaskClient]:
    """The same on SQLite only."""
    app = create_app(sqlite_workspace)
    yield _engineer(app, sqlite_workspace, now)
    service.of(app).close()


def _engineer(app: Flask, workspace: Workspace, now: datetime) -> FlaskClient:
    with workspace.db.write() as session:
        token = tokens.create(session, "ada", Role.ENGINEER, now=now)
    found = app.test_client()
    found.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return found


# Runs


def test_without_runs_and_models_the_pages_say_how_to_begin(client: FlaskClient) -> None:
    """Empty lists are explained."""
    assert "No run yet" in client.get("/runs", headers=HTML).text
    page = client.get("/models", headers=HTML).text
    assert "No model yet" in page and "No model is live" in page and "Roll back" not in page


def test_a_run_shows_all_that_it_left(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """Verdict, both models on the same rows, threshold, curve, losses, settings; each table downloads."""
    run_id = add_run(workspace, now, report(), config={"train": {"seed": 7}})
    add_models(workspace, now, 1, run_id)
    page = client.get(f"/runs/{run_id}", headers=HTML).text
    for words in ("passed all 2 checks", "served in whole", "80.0%", "70.0%", "flags from 0.900", "train.seed", "det-0001"):
        assert words in page, words
    assert page.count('<svg class="chart"') == 2 and page.count("<table") == page.count("<caption") and "<th>" not in page
    curve = client.get(f"/runs/{run_id}?table=curve0&as=json").json
    assert curve == [
        {"score": 0.9, "recall": 0.5, "precision": 1.0, "low": 0.2, "high": 1.0},
        {"score": 0.5, "recall": 1.0, "precision": 0.5, "low": 0.1, "high": 0.9},
    ]
    whole = client.get(f"/runs/{run_id}/report.json").json or {}
    assert whole["report"]["gate"]["words"] == "passed all 2 checks"


@pytest.mark.parametrize(
    ("state", "found", "words"),
    [
        ("running", {}, "The run is under way"),
        ("refused", {}, "left no report"),
        ("failed", {"error": "RuntimeError: no memory"}, "RuntimeError: no memory"),
        ("promoted", {"model": "det-9999"}, "is not registered any more"),
        ("promoted", {"challenger": {}, "champion": None, "gate": None, "curves": {}, "fit": {}}, "not judged by the gate"),
    ],
)
def test_a_run_with_little_to_say_is_explained(
    light: FlaskClient, now: datetime, state: str, found: dict[str, Any], words: str
) -> None:
    """Under way, without report, failed, its model gone, judged by nothing."""
    run_id = add_run(service.of(light.application).workspace, now, found, state=state)
    page = light.get(f"/runs/{run_id}", headers=HTML)
    assert page.status_code == 200 and words in page.text


@pytest.mark.parametrize("wrong", [None, 7, "x", [], [None], {"x": None}, {"scam": 1}, True])
def test_a_report_of_any_shape_is_shown(light: FlaskClient, now: datetime, wrong: Any) -> None:
    """Every part replaced by something else, one after the other and all at once: never an error."""
    workspace, whole = service.of(light.application).workspace, report()
    keys = (*whole, "seconds", "genotype", "race", "words", "error")
    found = [{**whole, key: wrong} for key in keys] + [dict.fromkeys(keys, wrong)]
    found += [{**whole, "challenger": {**whole["challenger"], key: wrong}} for key in whole["challenger"]]
    for one in found:
        run_id = add_run(workspace, now, one)
        assert light.get(f"/runs/{run_id}", headers=HTML).status_code == 200, one
    assert light.get("/runs", headers=HTML).status_code == 200


def test_searched_cells_are_drawn(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """As a graph with a description and as a table: from a search's report, and from a detector's settings."""
    genotype = {**GENOTYPE, "read_out": "max"}
    found = {"genotype": genotype, "words": "the searched cells won", "race": [{"rung": 1, "name": "found 1", "score": 0.5}]}
    search = add_run(workspace, now, found, state="finished", kind="search")
    told = {"train": {"architecture": Genotype.from_json(json.dumps(genotype)).to_json()}}
    for run_id in (search, add_run(workspace, now, report(), config=told)):
        page = client.get(f"/runs/{run_id}", headers=HTML).text
        assert "conv3 from cell before last to node 2" in page and "<b>max</b>" in page
        assert len(client.get(f"/runs/{run_id}?table=cells&as=json").json or []) == 8
    assert "found 1" in client.get(f"/runs/{search}", headers=HTML).text


def test_what_people_typed_is_inert(light: FlaskClient, now: datetime) -> None:
    """Triggers, errors, reasons and names of violations in a hostile report are text."""
    workspace = service.of(light.application).workspace
    bad = {
        **report(),
        "error": HOSTILE,
        "words": HOSTILE,
        "model": HOSTILE,
        "curves": {"challenger": {HOSTILE: report()["curves"]}},
    }
    run_id = add_run(workspace, now, bad, trigger=HOSTILE, config={HOSTILE: HOSTILE})
    names = add_models(workspace, now, 2)
    promotion.promote(workspace, names[1], seen=names[0], by=HOSTILE, reason=HOSTILE)
    for path in ("/runs", f"/runs/{run_id}", "/models", f"/models/{names[1]}", "/"):
        page = light.get(path, headers=HTML).text
        assert ("<script" not in page and "alert(1)" in page) or path == "/", path
        assert "49" not in page.split("alert(1)")[-1][:20]


def test_older_rows_are_reached_by_key(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """25 a page; the address of the rest names the last one shown; the download has all."""
    for _ in range(30):
        add_run(workspace, now, {})
    first = client.get("/runs", headers=HTML).text
    assert "/runs?before=6" in first and first.count("/runs/") == 25
    assert client.get("/runs?before=6", headers=HTML).text.count('href="/runs/') == 5
    assert len(client.get("/runs?table=runs&as=json").json or []) == 30


@pytest.mark.parametrize(
    "path",
    [
        "/runs/99",
        f"/runs/{10**30}",
        "/runs?before=x",
        "/runs?before=0",
        f"/models?before={10**9}9",
        "/models/nope",
        "/models/%00",
        f"/runs/{2**31}/report.json",
    ],
)
def test_what_is_not_there_is_told(client: FlaskClient, path: str) -> None:
    """404 with words, for people and for programs."""
    answer = client.get(path, headers=HTML)
    assert answer.status_code == 404 and "<h1>Not found</h1>" in answer.text
    assert (client.get(path).json or {})["error"]


# Promote and roll back


def test_promoting_and_rolling_back_is_logged(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """With who and why; sent twice it happens once (fault 57)."""
    first, second, _ = add_models(workspace, now)
    form = {"live": first, "reason": "  checked   by hand "}
    assert [client.post(f"/models/{second}/promote", data=form).status_code for _ in range(2)] == [303, 303]
    assert live(workspace) == second
    assert client.post("/models/rollback", data={"live": second, "reason": "alarms"}).status_code == 303
    assert client.post("/models/rollback", data={"live": second, "reason": "alarms"}).status_code == 409
    with workspace.db.read() as session:
        log = [(one.action, one.model, one.by, one.reason) for one in registry.releases(session)]
    assert log[:2] == [("rollback", first, "ada", "alarms"), ("promote", second, "ada", "checked by hand")] and len(log) == 3


def test_who_comes_second_is_told_and_changes_nothing(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """The form was made for another live model: 409, with what is live now (fault 55)."""
    first, second, third = add_models(workspace, now)
    assert client.post(f"/models/{second}/promote", data={"live": first, "reason": "mine"}).status_code == 303
    answer = client.post(f"/models/{third}/promote", data={"live": first, "reason": "mine"}, headers=HTML)
    assert answer.status_code == 409 and f"meanwhile {second} is" in answer.text and "Nothing was changed" in answer.text
    assert live(workspace) == second


def test_two_at_once_are_one_after_the_other(workspace: Workspace, now: datetime) -> None:
    """Of many who promote different models seeing the same live one, exactly one succeeds (fault 55)."""
    names = add_models(workspace, now, 6)
    start, outcomes = threading.Barrier(5), []

    def go(name: str) -> None:
        start.wait()
        outcomes.append(promotion.promote(workspace, name, seen=names[0], by=name, reason="race").is_overtaken)

    threads = [threading.Thread(target=go, args=(name,)) for name in names[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with workspace.db.read() as session:
        n_released = len(session.execute(select(Release.id)).all())
    assert sorted(outcomes) == [False, True, True, True, True] and n_released == 2


def test_after_a_change_suggestions_are_made_anew(workspace: Workspace, now: datetime) -> None:
    """With Label Studio set up a refresh is enqueued in the same transaction, also while one is under way; without it none."""
    names = add_models(workspace, now)
    promotion.promote(workspace, names[1], seen=names[0], by="ada", reason="x")
    with workspace.db.write() as session:
        set_state(session, registry.PROJECT, {"id": 1, "url": "http://ls.example/projects/1"}, now=now)
    promotion.rollback(workspace, seen=names[1], by="ada", reason="x")
    with workspace.db.write() as session:
        assert jobs.claim(session, worker="w", now=workspace.db.now(session), lease_s=60) is not None
    promotion.promote(workspace, names[1], seen=names[0], by="ada", reason="x")
    with workspace.db.read() as session:
        assert [(job.kind, job.state) for job in jobs.newest(session)] == [("refresh", "todo"), ("refresh", "doing")]


def test_a_run_that_promotes_meanwhile_comes_first(workspace: Workspace, now: datetime) -> None:
    """What a page saw is compared only once nobody else is changing it, be it a run or the command line."""
    first, second, third = add_models(workspace, now)
    found = []
    page = threading.Thread(target=lambda: found.append(promotion.promote(workspace, third, seen=first, by="ada", reason="x")))
    with workspace.db.write() as session:
        registry.promote(session, second, by="a run", reason="gate", now=now)
        page.start()
        page.join(0.3)
        assert page.is_alive()
    page.join()
    assert found[0].is_overtaken and found[0].live == second


def test_the_forms_of_a_browser(light: FlaskClient, now: datetime) -> None:
    """Signed in by password: the pages' own forms promote and roll back; a form of another site changes nothing."""
    workspace, client = service.of(light.application).workspace, light.application.test_client()
    first, second, _ = add_models(workspace, now)
    with workspace.db.write() as session:
        people.put(session, "eve", Role.ENGINEER, now=now)
        people.set_password(session, "eve", "correct horse battery")
    client.post("/login", data={**_form(client, "/login"), "name": "eve", "password": "correct horse battery"})
    form = _form(client, f"/models/{second}")
    assert client.post(f"/models/{second}/promote", data={"live": first, "reason": "x"}).status_code == 400
    shown = client.post(f"/models/{second}/promote", data={**form, "reason": "x"}, headers=HTML, follow_redirects=True)
    assert f"{second} is live now." in shown.text and f"Roll back to <bdi>{first}" in shown.text
    assert client.post("/models/rollback", data={**_form(client, "/models"), "reason": "y"}).status_code == 303
    assert (
        live(workspace) == first
        and client.post("/exports", data={**_form(client, "/exports"), "format": "csv"}).status_code == 303
    )


def _form(client: FlaskClient, path: str) -> dict[str, str]:
    """The hidden fields of the page's form."""
    page = client.get(path, headers=HTML).text
    return dict(re.findall(r'<input type="hidden" name="(csrf_token|live)" value="([^"]*)"', page))


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "nul\x00"])
def test_a_reason_is_wanted(light: FlaskClient, now: datetime, reason: str) -> None:
    """None, blanks, too long or unstorable: 400 with words, and nothing happens."""
    workspace = service.of(light.application).workspace
    first, second, _ = add_models(workspace, now)
    answer = light.post(f"/models/{second}/promote", data={"live": first, "reason": reason}, headers=HTML)
    assert answer.status_code == 400 and "reason" in answer.text and live(workspace) == first


def test_a_model_whose_files_are_gone_cannot_go_live(light: FlaskClient, now: datetime) -> None:
    """Its page says which; a form from before gets 404 with the same words (fault 55)."""
    workspace = service.of(light.application).workspace
    first, second, _ = add_models(workspace, now)
    with workspace.db.read() as session:
        sha256 = registry.by_name(session, second).onnx_sha256
    workspace.files.path(sha256, ".onnx").unlink()
    page = light.get(f"/models/{second}", headers=HTML).text
    assert (
        "restore from a backup" in page
        and "Make <bdi>" not in page
        and "some are gone" in light.get("/models", headers=HTML).text
    )
    answer = light.post(f"/models/{second}/promote", data={"live": first, "reason": "x"}, headers=HTML)
    assert answer.status_code == 404 and "restore from a backup" in answer.text and live(workspace) == first


def test_a_model_without_a_run_is_explained(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """Registered by hand; and nothing to roll back to with one model."""
    (name,) = add_models(workspace, now, 1)
    assert "no run: it was registered by hand" in client.get(f"/models/{name}", headers=HTML).text
    assert "nothing to roll back to" in client.get("/models", headers=HTML).text
    assert client.post("/models/rollback", data={"live": name, "reason": "x"}, headers=HTML).status_code == 400


def test_moderators_see_none_of_it(light: FlaskClient, now: datetime) -> None:
    """403 on pages and forms, with a smaller role."""
    workspace = service.of(light.application).workspace
    with workspace.db.write() as session:
        token = tokens.create(session, "mo", Role.MODERATOR, now=now)
    light.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    for path in ("/runs", "/runs/1", "/runs/1/report.json", "/models", "/models/x"):
        assert light.get(path).status_code == 403, path
    assert light.post("/models/x/promote").status_code == light.post("/models/rollback").status_code == 403
    assert "/runs" not in light.get("/", headers=HTML).text


def test_a_view_of_nothing_is_empty(sqlite_workspace: Workspace, now: datetime) -> None:
    """The record says so itself."""
    run_id = add_run(sqlite_workspace, now, {}, state="running")
    with sqlite_workspace.db.read() as session:
        view = run_view.of(session, run_id)
    assert view.is_empty and not (view.models or view.checks or view.curves or view.epochs or view.cells or view.error)
