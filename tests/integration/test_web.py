"""Pages, photos, health and the guard that stands before every route."""

import re
from collections.abc import Iterator
from datetime import datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from curation.errors import DatabaseError, NotFoundError
from curation.store import jobs, tokens
from curation.store.people import Person, Role
from curation.store.tables import LabelRow, ListingRow
from curation.store.workspace import Workspace, set_state
from webhooks import auth, service
from webhooks.app import create_app

PHOTO = b"\xff\xd8\xff\xe0 a photo \xff\xd9"
SHA = "a" * 64


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of the service, on each database."""
    return app.test_client()


@pytest.fixture
def ada(client: FlaskClient, workspace: Workspace, now: datetime) -> FlaskClient:
    """A client whose every request carries a moderator's token."""
    client.environ_base["HTTP_AUTHORIZATION"] = _token(workspace, Role.MODERATOR, now, "ada")["Authorization"]
    return client


@pytest.fixture
def light(sqlite_workspace: Workspace) -> Iterator[FlaskClient]:
    """A client of the service on SQLite, for what does not touch the database."""
    app = create_app(sqlite_workspace)
    yield app.test_client()
    service.of(app).close()


def _token(workspace: Workspace, role: Role, now: datetime, name: str = "ada") -> dict[str, str]:
    with workspace.db.write() as session:
        return {"Authorization": f"Bearer {tokens.create(session, name, role, now=now)}"}


# The guard


def test_every_route_is_public_by_name_or_asks_for_a_token(light: FlaskClient) -> None:
    """A route that somebody adds is closed until it is named in PUBLIC (fault 69)."""
    app = light.application
    for rule in app.url_map.iter_rules():
        if rule.endpoint in auth.PUBLIC:
            continue
        path = re.sub(r"<[^>]+>", "1", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            assert light.open(path, method=method).status_code == 401, f"{method} {rule.rule}"
    assert {rule.endpoint for rule in app.url_map.iter_rules()} >= auth.PUBLIC, "a public name without a route"


def test_a_new_route_is_closed_and_asks_for_an_admin(sqlite_workspace: Workspace, now: datetime) -> None:
    """Deny by default: without a role of its own only an admin gets through (fault 69)."""
    app = create_app(sqlite_workspace)
    app.add_url_rule("/new", "new", lambda: "open")
    answers = [
        app.test_client().get("/new", headers=_token(sqlite_workspace, role, now, role.value)).status_code for role in Role
    ]
    service.of(app).close()
    assert answers == [403, 403, 200]


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", "Bearer " + "x" * 5000, "Bearer \u00e9", "bearer a b"]
)
def test_a_wrong_token_is_refused(light: FlaskClient, value: str) -> None:
    """401 that says which scheme is wanted, and nothing else."""
    answer = light.get("/api/v1/status", headers={"Authorization": value})
    assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json is not None and answer.json["error"] == "unauthorized"


def test_a_token_opens_the_status_until_it_is_revoked(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """A revoked token ends at once; only its sha256 was ever stored (fault 69)."""
    headers = _token(workspace, Role.MODERATOR, now)
    found = client.get("/api/v1/status", headers=headers)
    assert found.status_code == 200 and found.json is not None and found.json["listings"] == 0
    with workspace.db.write() as session:
        stored = session.execute(text("SELECT sha256 FROM token")).scalar_one()
        tokens.revoke(session, 1, now=now)
    assert stored not in headers["Authorization"] and len(stored) == 64
    assert client.get("/api/v1/status", headers=headers).status_code == 401


def test_a_second_token_may_change_the_role(workspace: Workspace, now: datetime) -> None:
    """One person has one role, that of the newest token; every token of theirs follows it."""
    with workspace.db.write() as session:
        first = tokens.create(session, "ada", Role.MODERATOR, now=now)
        tokens.create(session, "ada", Role.ADMIN, now=now)
        assert tokens.find(session, first) == Person("ada", Role.ADMIN)
        assert tokens.find(session, "rfb_unknown") is None
        with pytest.raises(NotFoundError, match="no valid token 9"):
            tokens.revoke(session, 9, now=now)


# Every answer


@pytest.mark.parametrize(
    "path", ["/", "/livez", "/readyz", "/metrics", "/nope", "/api/v1/status", f"/media/{SHA}.jpg", "/static/site.css"]
)
def test_every_answer_carries_the_security_headers(light: FlaskClient, path: str) -> None:
    """No inline script or style can run, no frame, no sniffing, no referrer, and a request id to ask with (faults 67, 68)."""
    headers = light.get(path, buffered=True).headers
    assert "unsafe" not in headers["Content-Security-Policy"] and "default-src 'none'" in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")
    assert headers["Referrer-Policy"] == "no-referrer" and re.fullmatch("[0-9a-f]{32}", headers["X-Request-Id"])


@pytest.mark.parametrize(
    ("given", "is_taken"), [("abc-123", True), ("a b", False), ("x" * 65, False), ("<script>", False), ("é", False)]
)
def test_a_request_id_is_taken_over_only_if_it_is_harmless(light: FlaskClient, given: str, is_taken: bool) -> None:
    """It goes into logs and headers."""
    assert (light.get("/livez", headers={"X-Request-Id": given}).headers["X-Request-Id"] == given) is is_taken


def test_a_bug_shows_no_traceback(light: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    """The caller gets an id; the log has the traceback under it."""
    app = light.application
    app.view_functions["health.livez"] = lambda: 1 / 0  # type: ignore[assignment,return-value]
    answer = light.get("/livez", headers={"X-Request-Id": "id-5711"})
    assert answer.status_code == 500 and answer.json == {
        "error": "internal error; the log has the details under this request id",
        "request_id": "id-5711",
    }
    logged = capsys.readouterr()
    assert "ZeroDivisionError" in logged.out + logged.err


def test_a_browser_gets_a_page_for_an_error_and_a_program_gets_json(light: FlaskClient) -> None:
    """The page leads back to the status page."""
    page = light.get("/nope", headers={"Accept": "text/html,*/*"})
    assert page.status_code == 404 and "<h1>Not found</h1>" in page.text
    assert light.get("/nope").is_json and light.get("/api/nope", headers={"Accept": "text/html"}).is_json


# Photos


def test_a_photo_is_served_for_ever_and_to_other_origins(light: FlaskClient, sqlite_workspace: Workspace) -> None:
    """Label Studio's page, on another origin, may read it; browsers may keep it."""
    sha = sqlite_workspace.media.put(PHOTO, ".jpg")
    answer = light.get(f"/media/{sha}.jpg", headers={"Origin": "http://labelstudio.example"}, buffered=True)
    assert (answer.status_code, answer.data, answer.headers["Content-Type"]) == (200, PHOTO, "image/jpeg")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert {"public", "immutable", "max-age=31536000"} <= set(answer.headers["Cache-Control"].split(", "))
    again = light.get(f"/media/{sha}.jpg", headers={"If-None-Match": answer.headers["ETag"]}, buffered=True)
    assert again.status_code == 304 and again.headers["Access-Control-Allow-Origin"] == "*"


def test_a_missing_photo_is_readable_for_other_origins_too(light: FlaskClient) -> None:
    """Without the header a browser would report a CORS fault instead of a missing photo; it is not cached."""
    answer = light.get(f"/media/{SHA}.jpg")
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (404, "*")
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://b.example", "https://b.example"), ("https://evil.example", "https://a.example")]
)
def test_chosen_origins_are_echoed(sqlite_workspace: Workspace, origin: str, allowed: str) -> None:
    """With a list of origins only those are allowed, and caches are told that the answer varies."""
    settings = sqlite_workspace.settings.model_copy(update={"cors_origins": "https://a.example, https://b.example"})
    app = create_app(Workspace(settings, sqlite_workspace.db, sqlite_workspace.files, sqlite_workspace.media))
    answer = app.test_client().get(f"/media/{SHA}.jpg", headers={"Origin": origin})
    service.of(app).close()
    assert answer.headers["Access-Control-Allow-Origin"] == allowed and "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize(
    "name",
    [
        "../refurbish.db",
        "..%2frefurbish.db",
        "%2e%2e%2frefurbish.db",
        "%252e%252e%252frefurbish.db",
        "..%5crefurbish.db",
        "..\\refurbish.db",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "C:%5cwindows%5cwin.ini",
        "CON",
        f"{SHA}.jpg%00.html",
        f"{SHA}%00.jpg",
        f"{SHA}.jpg/",
        f"{SHA}.JPG",
        f"{SHA.upper()}.jpg",
        f"{SHA}.small.jpg",
        f"{SHA[:-1]}.jpg",
        f"{SHA}.svg",
        f"{SHA}.jpg%0a",
        f"aa/{SHA}.jpg",
        "",
    ],
)
def test_no_other_name_reaches_the_disk(light: FlaskClient, sqlite_workspace: Workspace, name: str) -> None:
    """Only a sha256 in lower case with .jpg is a name; all else is 404, readable for other origins (fault 64)."""
    decoy = sqlite_workspace.media.path(SHA)
    decoy.parent.mkdir(parents=True)
    for place in (decoy, decoy.with_name(f"{SHA}.small.jpg"), sqlite_workspace.media.root / "refurbish.db"):
        place.write_bytes(b"decoy")
    answer = light.get(f"/media/{name}")
    assert answer.status_code == 404 and b"decoy" not in answer.data
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_a_link_out_of_the_store_is_not_followed(light: FlaskClient, sqlite_workspace: Workspace) -> None:
    """A symbolic link under a good name leads nowhere (fault 64)."""
    place = sqlite_workspace.media.path(SHA, ".jpg")
    place.parent.mkdir(parents=True)
    place.symlink_to(sqlite_workspace.settings.home / "secret")
    (sqlite_workspace.settings.home / "secret").write_bytes(b"decoy")
    assert light.get(f"/media/{SHA}.jpg").status_code == 404


# Health


def test_health_needs_no_token_and_tells_nothing(client: FlaskClient) -> None:
    """Names of checks and ok, no versions, no paths."""
    assert client.get("/livez").json == {"status": "ok"}
    found = client.get("/readyz")
    assert found.status_code == 200 and found.json is not None
    assert set(found.json["checks"]) == {"database writable", "schema", "disk writable", "writer", "model"}
    assert set(found.json["checks"].values()) == {"ok"}


def test_an_old_schema_is_not_ready(client: FlaskClient, workspace: Workspace) -> None:
    """The process lives, and takes no traffic."""
    with workspace.db.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    found = client.get("/readyz")
    assert found.status_code == 503 and found.json is not None and found.json["checks"]["schema"] == "failed"
    assert client.get("/livez").status_code == 200


def test_metrics_are_counted_in_the_database(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """Durable things by SQL at the scrape, so another process's work shows as well."""
    with workspace.db.write() as session:
        jobs.enqueue(session, "push", {}, key="push", now=now)
        set_state(session, "labelstudio.drift", {"n_missed_total": 3}, now=now)
        _label(session, now)
    client.post("/hooks/labelstudio", data=b"{}", headers={"X-Refurbish-Secret": "s3cret-" + "x" * 32})
    found = client.get("/metrics").text.splitlines()
    for line in (
        "refurbish_database_up 1.0",
        'refurbish_inbox{state="received"} 1.0',
        'refurbish_jobs{state="todo"} 2.0',
        'refurbish_labels{question="category",source="seller"} 1.0',
        "refurbish_missed_hooks 3.0",
        'refurbish_request_seconds_count{method="POST",route="/hooks/labelstudio",status="202"} 1.0',
    ):
        assert line in found


# The overview


def test_the_first_visit_says_what_to_do(ada: FlaskClient) -> None:
    """An empty database is explained, not shown as an error."""
    page = ada.get("/")
    assert page.status_code == 200 and "refurbish ingest FILE" in page.text and "refurbish labelstudio setup" in page.text


def test_the_page_shows_counts_and_never_a_listing(ada: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """Numbers only; hostile text in what it does show is inert."""
    with workspace.db.write() as session:
        _label(session, now)
        set_state(session, "labelstudio.project", {"id": 1, "url": 'http://ls.example/"><script>alert(1)</script>'}, now=now)
    page = ada.get("/").text
    assert "Canary bicycle" not in page and "ref-5711" not in page
    assert re.search(r"seller</th>\s*<td class=\"number\">1</td>", page)
    assert "<script" not in page and "&lt;script&gt;" in page


def test_only_web_addresses_become_links(ada: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """A javascript: address in the state is not linked."""
    with workspace.db.write() as session:
        set_state(session, "labelstudio.project", {"id": 1, "url": "javascript:alert(1)"}, now=now)
    assert "javascript:" not in ada.get("/").text


def test_the_page_is_accessible_in_its_structure(ada: FlaskClient) -> None:
    """One h1, landmarks, captions, scoped headers, alternative texts, no inline script or style."""
    page = ada.get("/").text
    assert page.count("<h1") == 1 and '<main id="main">' in page and '<html lang="en">' in page
    assert page.count("<table") == page.count("<caption") and "<th>" not in page
    assert not re.search(r"<script|\sstyle=|\son\w+=", page)


def test_pages_without_database_say_so(ada: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with Retry-After, no traceback."""
    here = service.of(ada.application)
    monkeypatch.setattr(type(here.keeper), "get", lambda *_, **__: (_ for _ in ()).throw(DatabaseError("gone")))
    answer = ada.get("/")
    assert answer.status_code == 503 and answer.headers["Retry-After"] and "gone" not in answer.text


def _label(session: object, now: datetime) -> None:
    row = ListingRow(
        ref="ref-5711",
        title="Canary bicycle",
        description="",
        attributes={},
        images=[],
        flags=[],
        content_sha256="0" * 64,
        group_key="g",
        created_at=now,
    )
    session.add(row)  # type: ignore[attr-defined]
    session.flush()  # type: ignore[attr-defined]
    session.add(  # type: ignore[attr-defined]
        LabelRow(listing_id=row.id, question="category", value="A / B", source="seller", evidence={}, changed_at=now)
    )
