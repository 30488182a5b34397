"""The API: every operation as its document says, and every bad request refused in one shape."""

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from curation.catalog import images
from curation.store import tokens
from curation.store.people import Role
from curation.store.service_tables import ExportRow
from curation.store.tables import JobRow, LabelHistory
from curation.store.workspace import Workspace
from curation.types import Question
from tests import api_world, builders, commands, review_world
from tests.api_world import as_, errors
from tests.conftest import NOW
from webhooks import auth, service
from webhooks.api import openapi
from webhooks.app import create_app

HOSTILE = '<script>alert(1)</script>\u202e"\u200b'


@pytest.fixture
def client(app: Flask, workspace: Workspace) -> FlaskClient:
    """An engineer's program, on each database."""
    return as_(app.test_client(), workspace, Role.ENGINEER)


@pytest.fixture
def light(sqlite_workspace: Workspace) -> Iterator[FlaskClient]:
    """The same on SQLite only."""
    app = create_app(sqlite_workspace)
    yield as_(app.test_client(), sqlite_workspace, Role.ENGINEER)
    service.of(app).close()


def checked(answer: Any, path: str, method: str = "get") -> Any:
    """The answer's JSON, valid by the document."""
    document = openapi.document()
    described = document["paths"][path][method]["responses"][str(answer.status_code)]
    schema = described["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(answer.json)
    return answer.json


# The document


def test_every_route_is_in_the_document(light: FlaskClient) -> None:
    """With its role, its path parameters, and an answer for each refusal; and nothing else is."""
    app, document = light.application, openapi.document()
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith("/api/v1/") or rule.endpoint == "api.document":
            continue
        path = rule.rule.replace("<path:ref>", "{ref}")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            found = document["paths"][path].pop(method.lower())
            assert found["x-role"] == auth.role_of(app, rule.endpoint).value, path
            names = {one["name"] for one in found["parameters"] if one["in"] == "path"}
            assert names == rule.arguments and {"400", "401", "403", "429"} <= found["responses"].keys()
            assert ("requestBody" in found) == (method == "POST")
    assert not any(document["paths"].values())


def test_the_document_is_valid_and_served_and_printed(light: FlaskClient, sqlite_workspace: Workspace) -> None:
    """Every schema is JSON Schema 2020-12 and every reference leads somewhere."""
    served = light.get("/api/v1/openapi.json").json
    assert served is not None and served["openapi"] == "3.1.0"
    for schema in served["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    text = json.dumps(served)
    refs = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert refs <= served["components"]["schemas"].keys()
    printed = json.loads(commands.run(sqlite_workspace, "openapi").stdout)
    assert printed["paths"].keys() == served["paths"].keys()


def test_real_answers_are_as_the_document_says(client: FlaskClient, workspace: Workspace) -> None:
    """Every GET, on a world with something in each list."""
    listings = review_world.catalog(workspace, 4)
    review_world.finish_run(workspace, review_world.confident(listings))
    review_world.rank(workspace, Question.CATEGORY, review_world.suspect("r001", review_world.PATHS[1], "Sport / Bikes", 0.9))
    api_world.promote(workspace)
    client.post("/api/v1/reports", json={"reports": [{"ref": "r001", "reason": "counterfeit"}]})
    with workspace.db.write() as session:
        session.add(ExportRow(format="csv", state="ready", manifest={"n": 4}, by="x", created_at=NOW, finished_at=NOW))
    for path, operations in openapi.document()["paths"].items():
        if "get" in operations:
            asked = path.replace("{ref}", "r001") + ("?ref=r001" if path.endswith("/labels") else "")
            found = checked(client.get(asked), path)
            assert found.get("items", True), path


# Scoring


def test_a_listing_is_scored(client: FlaskClient, workspace: Workspace) -> None:
    """The likeliest categories, every violation, by the live model; photos by their bytes or their name."""
    name = api_world.promote(workspace)
    photo = base64.b64encode(builders.encoded(builders.picture(1), "PNG")).decode()
    stored = builders.photo(workspace, 2).sha256
    asked = {"title": "Garden rake", "price": 3, "top": 2, "photos": [{"base64": photo}, {"sha256": stored}]}
    found = checked(client.post("/api/v1/score", json=asked), "/api/v1/score", "post")
    assert found["model"] == name and len(found["categories"]) == 2 and len(found["violations"]) == 2
    assert found["categories"][0]["probability"] >= found["categories"][1]["probability"] > 0
    assert {one["flagged"] for one in found["violations"]} == {False} and found["violations"][0]["threshold"] is None
    without = client.post("/api/v1/score", json=asked | {"photos": []}).json
    assert without is not None and without["categories"] != found["categories"]
    assert not list(workspace.media.root.glob("**/000*"))


def test_without_a_live_model_it_says_what_to_do(client: FlaskClient) -> None:
    """503 and the command."""
    found = client.post("/api/v1/score", json={"title": "x"})
    assert found.status_code == 503 and found.headers["Retry-After"]
    assert "refurbish retrain" in checked(found, "/api/v1/score", "post")["error"]


def test_a_model_swapped_in_the_middle_answers_next(sqlite_workspace: Workspace) -> None:
    """After a promotion the new model answers, after the rollback the old one, with the same figures as before."""
    app = create_app(sqlite_workspace)
    client = as_(app.test_client(), sqlite_workspace, Role.ENGINEER)
    service.of(app).model.check_s = 0.0
    first = api_world.promote(sqlite_workspace)
    before = client.post("/api/v1/score", json={"title": "rake"}).json
    second = api_world.promote(sqlite_workspace, 3.0)
    after = client.post("/api/v1/score", json={"title": "rake"}).json
    asked = {"action": "rollback", "expected_live": second, "reason": "false alarms"}
    assert client.post("/api/v1/releases", json=asked).json == {"live": first}
    assert before is not None and after is not None and (before["model"], after["model"]) == (first, second)
    assert before["categories"] != after["categories"]
    assert client.post("/api/v1/score", json={"title": "rake"}).json == before
    service.of(app).close()


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"title": "x" * 2**20}, "title"),
        ({"title": ""}, "title"),
        ({"title": "\u200b\u200b"}, "title"),
        ({}, "title"),
        ({"title": 5}, "title"),
        ({"title": "a\x00b"}, "title"),
        ({"title": "x", "description": "\ud800"}, "description"),
        ({"title": "x", "price": -1}, "price"),
        ({"title": "x", "price": "nan"}, "price"),
        ({"title": "x", "price": True}, "price.float"),
        ({"title": "x", "currency": "doubloons"}, "currency"),
        ({"title": "x", "attributes": {"a": {"b": 1}}}, "attributes.'a'"),
        ({"title": "x", "attributes": {str(n): n for n in range(101)}}, "attributes"),
        ({"title": "x", "photos": [{}]}, "photos.0"),
        ({"title": "x", "photos": [{"sha256": "a" * 64}]}, "photos.0.sha256"),
        ({"title": "x", "photos": [{"sha256": "../x"}]}, "photos.0.sha256"),
        ({"title": "x", "photos": [{"base64": "###"}]}, "photos.0.base64"),
        ({"title": "x", "photos": [{"base64": "aGFsbG8="}]}, "photos.0.base64"),
        ({"title": "x", "top": 0}, "top"),
        ({"title": "x", "colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_named(light: FlaskClient, sqlite_workspace: Workspace, asked: dict[str, Any], field: str) -> None:
    """400, the field, and what is wrong with it."""
    api_world.promote(sqlite_workspace)
    found = light.post("/api/v1/score", json=asked)
    assert found.status_code == 400 and field in errors(found)
    assert len(checked(found, "/api/v1/score", "post")["error"]) < 300


@pytest.mark.parametrize("name", ["bomb_2500_megapixels.png", "bomb_41_megapixels.png", "text.jpg", "truncated.jpg"])
def test_a_photo_bomb_is_refused_before_it_is_decoded(light: FlaskClient, sqlite_workspace: Workspace, name: str) -> None:
    """Millions of pixels in a few bytes, and files that are no photo (faults 51, 65)."""
    api_world.promote(sqlite_workspace)
    data = (Path(__file__).parents[1] / "corpus" / "reject" / "photos" / name).read_bytes()
    found = light.post("/api/v1/score", json={"title": "x", "photos": [{"base64": base64.b64encode(data).decode()}]})
    assert found.status_code == 400 and "photos.0.base64" in errors(found)


def test_few_photos_are_decoded_at_a_time(
    light: FlaskClient, sqlite_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many threads score, so that photos which unfold to hundreds of megabytes cannot fill the memory (fault 65)."""
    api_world.promote(sqlite_workspace)
    real, running, most = images.thumbnail, [0], [0]
    lock = threading.Lock()

    def watched(data: bytes, name: str) -> images.Thumbnail:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        try:
            return real(data, name)
        finally:
            with lock:
                running[0] -= 1

    monkeypatch.setattr(images, "thumbnail", watched)
    photo = base64.b64encode(builders.encoded(builders.picture(size=(900, 900)))).decode()
    asked, headers = (
        {"title": "x", "photos": [{"base64": photo}] * 4},
        {"Authorization": light.environ_base["HTTP_AUTHORIZATION"]},
    )

    def score(_: int) -> int:
        return light.application.test_client().post("/api/v1/score", json=asked, headers=headers).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(score, range(16))) == {200}
    assert most[0] == 2


@pytest.mark.parametrize("levels", [3, 90, 110, 700, 850, 900, 930, 960, 990])
def test_values_nested_in_one_another(light: FlaskClient, sqlite_workspace: Workspace, levels: int) -> None:
    """As deep as the parser just takes, and deeper: 400, never an error of ours (fault 15)."""
    api_world.promote(sqlite_workspace)
    body = b'{"title": "x", "attributes": {"a": ' + b"[" * levels + b"]" * levels + b"}}"
    assert light.post("/api/v1/score", data=body, content_type="application/json").status_code == 400


# Bad bodies and arguments


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"title": NaN}', "NaN"),
        (b'{"title": 1e999}', "too large"),
        (b'{"title": "a", "title": "b"}', "twice"),
        (b'{"a":' * 100_000, "too deeply"),
        (b"[" * 5000 + b"]" * 5000, "deeply"),
        (b"[]", "body"),
        (b"null", "body"),
    ],
)
def test_a_body_that_is_no_request(light: FlaskClient, body: bytes, words: str) -> None:
    """400 in the one shape, with a request id."""
    found = light.post("/api/v1/score", data=body, content_type="application/json")
    assert found.status_code == 400 and words in checked(found, "/api/v1/score", "post")["error"]
    assert found.json is not None and found.json["request_id"] == found.headers["X-Request-Id"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_another_content_type(light: FlaskClient, kind: str) -> None:
    """415 that names the right one."""
    found = light.post("/api/v1/reports", data=b"{}", content_type=kind)
    assert found.status_code == 415 and "application/json" in checked(found, "/api/v1/reports", "post")["error"]


@pytest.mark.parametrize(("path", "n_bytes"), [("releases", 65_000), ("reports", 4_200_000), ("score", 16_800_000)])
def test_a_body_too_large(light: FlaskClient, path: str, n_bytes: int) -> None:
    """Each operation has its own bound."""
    found = light.post(f"/api/v1/{path}", data=b" " * (n_bytes + 1000), content_type="application/json")
    assert found.status_code == 413 and checked(found, f"/api/v1/{path}", "post")["error"]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("cursor=garbage", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=" + "A" * 5000, "cursor"),
        ("cursor=WyJydW5zIiw1XQ", "cursor"),
        ("cursor=WyJzdXNwZWN0czpjYXRlZ29yeSIsMjE0NzQ4MzY0OF0", "cursor"),
        ("question=price", "question"),
        ("offset=5", "offset"),
    ],
)
def test_wrong_arguments(light: FlaskClient, arguments: str, field: str) -> None:
    """Also the cursor of another list, and names that are none."""
    found = light.get(f"/api/v1/suspects?{arguments}")
    assert found.status_code == 400 and field in errors(found)
    assert checked(found, "/api/v1/suspects")


@pytest.mark.parametrize(
    ("path", "status"), [("listings/a%00b", 404), ("labels?ref=%00", 400), ("reports?ref=%00", 400), ("reports?reason=%00", 400)]
)
def test_text_that_no_database_holds(client: FlaskClient, path: str, status: int) -> None:
    """It is refused, on both databases alike; the answer is never that the database is away."""
    assert client.get(f"/api/v1/{path}").status_code == status


def test_an_argument_given_twice(light: FlaskClient) -> None:
    """Which one would count?"""
    assert light.get("/api/v1/suspects?limit=1&limit=2").status_code == 400


# Who may


@pytest.mark.parametrize(("path", "role"), [("runs", Role.ENGINEER), ("releases", Role.ENGINEER), ("exports", Role.ENGINEER)])
def test_a_moderators_token_does_not_do_for_engineers_lists(
    sqlite_workspace: Workspace, now: datetime, path: str, role: Role
) -> None:
    """403 in the same shape; a revoked token is nobody's."""
    app = create_app(sqlite_workspace)
    client = as_(app.test_client(), sqlite_workspace, Role.MODERATOR)
    found = client.get(f"/api/v1/{path}")
    assert found.status_code == 403 and set(found.json or {}) == {"error", "request_id"}
    with sqlite_workspace.db.write() as session:
        tokens.revoke(session, 1, now=now)
    revoked = client.get("/api/v1/suspects")
    assert revoked.status_code == 401 and checked(revoked, "/api/v1/suspects")["error"] == "unauthorized"
    service.of(app).close()


def test_too_many_requests_say_how_long_to_wait(sqlite_workspace: Workspace) -> None:
    """429 with Retry-After, in the same shape."""
    settings = sqlite_workspace.settings.model_copy(update={"api_limit": "1/minute"})
    app = create_app(Workspace(settings, sqlite_workspace.db, sqlite_workspace.files, sqlite_workspace.media))
    client = as_(app.test_client(), sqlite_workspace, Role.MODERATOR)
    answers = [client.get("/api/v1/review") for _ in range(2)]
    service.of(app).close()
    assert [one.status_code for one in answers] == [200, 429] and int(answers[1].headers["Retry-After"]) > 0


def test_addresses_that_are_not_there(light: FlaskClient) -> None:
    """JSON also for a browser, also for a method that is not allowed."""
    for path, method, code in (("/api/v1/nope", "GET", 404), ("/api/v1/score", "GET", 405), ("/api/v1/listings/x", "GET", 404)):
        found = light.open(path, method=method, headers={"Accept": "text/html"})
        assert found.status_code == code and found.json is not None and found.json["request_id"]


# Lists


def test_pages_follow_each_other_without_gap(client: FlaskClient, workspace: Workspace) -> None:
    """Each item once, in order; the last page has no next."""
    review_world.catalog(workspace, 7)
    ranking = [review_world.suspect(f"r{at:03d}", review_world.PATHS[at % 4], "Sport / Bikes", 0.9) for at in range(7)]
    review_world.rank(workspace, Question.CATEGORY, *ranking)
    seen, cursor = [], ""
    while True:
        page = client.get(f"/api/v1/suspects?limit=3{cursor}").json
        assert page is not None
        seen += [one["ref"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == [f"r{at:03d}" for at in range(7)]


def test_changes_of_labels_are_told_once_they_are_settled(client: FlaskClient, workspace: Workspace) -> None:
    """What is ten seconds old is there, what is younger comes later; the cursor stays good at the end."""
    db = workspace.db
    with db.read() as session:
        present = db.now(session)
    builders.add(workspace, builders.record("old"), now=present - timedelta(minutes=1))
    builders.add(workspace, builders.record("new"), now=present + timedelta(minutes=1))
    first = client.get("/api/v1/labels/changes").json
    assert first is not None and [one["ref"] for one in first["items"]] == ["old"]
    with db.write() as session:
        for row in session.execute(select(LabelHistory)).scalars():
            row.at = present - timedelta(minutes=1)
    again = client.get(f"/api/v1/labels/changes?cursor={first['next']}").json
    assert again is not None and [one["ref"] for one in again["items"]] == ["new"]
    assert client.get(f"/api/v1/suspects?cursor={first['next']}").status_code == 400


def test_labels_by_ref(client: FlaskClient, workspace: Workspace) -> None:
    """Several at once; what is not here is missing; none is an error; refs may hold slashes."""
    builders.add(workspace, builders.record("a/b"), builders.record("c"))
    found = client.get("/api/v1/labels?ref=a/b&ref=c&ref=nowhere").json
    assert found is not None and {one["ref"]: one["labels"][0]["value"] for one in found["items"]} == {
        "a/b": "Home / Garden",
        "c": "Home / Garden",
    }
    assert client.get("/api/v1/labels").status_code == 400
    assert client.get("/api/v1/listings/a%2Fb").json["title"] == "Garden rake a/b"  # type: ignore[index]


# Reports


def test_reports_are_told_and_read_back(client: FlaskClient, workspace: Workspace) -> None:
    """Hostile words are kept as text without what hides; the same again is known; all or nothing."""
    builders.add(workspace, builders.record("r1"))
    asked = {"ref": "r1", "reason": "counterfeit", "words": HOSTILE, "reporter": "u1", "at": "2026-02-01T10:00:00+01:00"}
    body = {"reports": [asked, {"ref": "later", "reason": "other"}]}
    first = checked(client.post("/api/v1/reports", json=body), "/api/v1/reports", "post")
    assert first == {"n_new": 2, "n_known": 0, "n_waiting": 1, "n_flagged": 1}
    assert client.post("/api/v1/reports", json=body).json == {"n_new": 0, "n_known": 2, "n_waiting": 0, "n_flagged": 0}
    told = checked(client.get("/api/v1/reports?ref=r1"), "/api/v1/reports")["items"]
    assert told[0]["words"] == '<script>alert(1)</script>"' and told[0]["at"].startswith("2026-02-01T09:00")
    wrong = client.post("/api/v1/reports", json={"reports": [{"ref": "r2", "reason": "other"}, asked | {"reason": "ugly"}]})
    assert wrong.status_code == 400 and "reports.1.reason" in errors(wrong)
    assert len(client.get("/api/v1/reports").json["items"]) == 2  # type: ignore[index]


# Promotion and exports


def test_promotion_needs_to_know_what_is_live(client: FlaskClient, workspace: Workspace) -> None:
    """409 where somebody was faster, 404 for an unknown model, 400 without a model; the log says who and why."""
    first, second = api_world.promote(workspace), api_world.promote(workspace, 3.0)
    asked = {"action": "promote", "model": first, "expected_live": second, "reason": "better"}
    assert client.post("/api/v1/releases", json=asked).json == {"live": first}
    assert client.post("/api/v1/releases", json=asked).json == {"live": first}, "said again after a time-out"
    late = client.post("/api/v1/releases", json=asked | {"model": second, "expected_live": second})
    assert late.status_code == 409 and checked(late, "/api/v1/releases", "post")["error"].startswith("nothing was changed")
    unknown = asked | {"model": "det-9999", "expected_live": first}
    assert client.post("/api/v1/releases", json=unknown).status_code == 404
    assert client.post("/api/v1/releases", json=asked | {"model": None}).status_code == 400
    newest = client.get("/api/v1/releases?limit=1").json
    assert newest is not None and newest["live"] == first and newest["items"][0]["by"] == "engineer"


def test_an_export_is_asked_for_once(client: FlaskClient, workspace: Workspace) -> None:
    """The worker gets one job a format, with the request's id, so that both can be followed in the log."""
    found = client.post("/api/v1/exports", json={"format": "csv"}, headers={"X-Request-Id": "ask-1"})
    assert found.status_code == 202 and checked(found, "/api/v1/exports", "post")["is_new"]
    again = client.post("/api/v1/exports", json={"format": "csv"}).json
    assert again is not None and not again["is_new"] and found.json is not None and again["id"] == found.json["id"]
    with workspace.db.read() as session:
        payload = session.execute(select(JobRow.payload)).scalar_one()
    assert payload == {"export": again["id"], "format": "csv", "by": "engineer", "request_id": "ask-1"}
    assert client.post("/api/v1/exports", json={"format": "xls"}).status_code == 400
