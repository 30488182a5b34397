"""Who may ask for what, on every route; what has ended opens nothing; who is turned away is written down."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from curation.store import people, refusals, sessions, tokens
from curation.store.people import Person, Role
from curation.store.workspace import Workspace
from tests.commands import run, run_json
from webhooks import auth, service
from webhooks.app import create_app

HTML = {"Accept": "text/html"}
PASSWORD = "correct horse battery"
NEEDED = {
    Role.MODERATOR: {
        "account.change_password account.show account.sign_out api.add_reports api.document api.label_changes api.labels",
        "api.listing api.reports api.review api.score api.suspects listing.find listing.show overview.show overview.status",
        "reports.show",
    },
    Role.ENGINEER: {
        "api.export api.exports api.release api.releases api.runs exports.file exports.index exports.make exports.show",
        "listing.undo models.index models.promote models.rollback models.show quality.cell quality.count quality.show",
        "runs.index runs.report runs.show suspects.ask suspects.show",
    },
    Role.ADMIN: {"exports.delete"},
}
"""The least role of every route that is not public: a change of one must be meant."""


@pytest.fixture
def light(sqlite_workspace: Workspace) -> Iterator[Flask]:
    """The service on SQLite."""
    app = create_app(sqlite_workspace)
    yield app
    service.of(app).close()


def guarded(app: Flask) -> list[tuple[Rule, str, str]]:
    """Every closed route with one address of it, for each method."""
    found = []
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<[^>]+>", "1", rule.rule)
        if rule.endpoint not in auth.PUBLIC:
            found += [(rule, path, method) for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})]
    return found


def bearer(workspace: Workspace, role: Role, now: datetime, name: str = "") -> dict[str, str]:
    """The header of a new token."""
    with workspace.db.write() as session:
        return {"Authorization": f"Bearer {tokens.create(session, name or role.value, role, now=now)}"}


def last(workspace: Workspace) -> tuple[str, str, str]:
    """Who was turned away last, why, and from what."""
    with workspace.db.read() as session:
        found = refusals.newest(session, limit=1)
    return (found[0].who, found[0].why, f"{found[0].method} {found[0].route}") if found else ("", "", "")


def test_every_route_asks_for_the_role_it_should(light: Flask) -> None:
    """The table above names them all: nothing became open to a smaller role by accident (fault 69)."""
    wanted = {endpoint: role for role, named in NEEDED.items() for words in named for endpoint in words.split()}
    found = {rule.endpoint: auth.role_of(light, rule.endpoint) for rule, _, _ in guarded(light)}
    assert found == wanted


def test_no_smaller_role_gets_through(light: Flask, sqlite_workspace: Workspace, now: datetime) -> None:
    """On every route and method: 401 without a token, 403 with too small a role and a row that says who (fault 69)."""
    headers = {role: bearer(sqlite_workspace, role, now) for role in Role}
    client, n_refused = light.test_client(), 0
    for rule, path, method in guarded(light):
        needed = auth.role_of(light, rule.endpoint)
        assert client.open(path, method=method).status_code == 401, f"{method} {path}"
        for role in Role:
            service.of(light).limits._counted.storage.reset()  # the limits of requests are not what is tested
            answer = client.open(path, method=method, headers=headers[role], buffered=True)
            assert (answer.status_code == 403) == (not role.covers(needed)), f"{method} {path} as {role}"
            if not role.covers(needed):
                n_refused += 1
                assert last(sqlite_workspace) == (role.value, f"is {role}, this needs {needed}", f"{method} {rule.rule}")
    assert n_refused > 20


@pytest.mark.parametrize("end", ["revoked", "disabled"])
def test_a_token_that_ended_opens_no_route(light: Flask, sqlite_workspace: Workspace, now: datetime, end: str) -> None:
    """401 everywhere, also for an admin's, and a row with whose it was (fault 69)."""
    headers = bearer(sqlite_workspace, Role.ADMIN, now, "ada")
    with sqlite_workspace.db.write() as session:
        tokens.revoke(session, 1, now=now) if end == "revoked" else people.disable(session, "ada", now=now)
    for _, path, method in guarded(light):
        service.of(light).limits._counted.storage.reset()
        assert light.test_client().open(path, method=method, headers=headers, buffered=True).status_code == 401, path
    assert last(sqlite_workspace)[:2] == ("ada", "the token was revoked, or the person disabled")


@pytest.fixture
def signed_in(app: Flask, workspace: Workspace, now: datetime) -> FlaskClient:
    """Ada's browser, on each database; she is an admin and signed in by the form."""
    with workspace.db.write() as session:
        people.put(session, "ada", Role.ADMIN, now=now)
        people.set_password(session, "ada", PASSWORD)
    client = app.test_client()
    sign_in(client, PASSWORD)
    return client


def sign_in(client: FlaskClient, password: str, name: str = "ada") -> int:
    """The status of what the form answers."""
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/login", headers=HTML).text)
    assert token is not None
    sent = {"csrf_token": token[1], "name": name, "password": password}
    return client.post("/login", data=sent, headers=HTML, buffered=True).status_code


def test_somebody_disabled_in_the_middle_is_out_at_once(signed_in: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """The next request of an open session is 401 on every route, and there is a row with the name (fault 69)."""
    assert signed_in.get("/account").status_code == 200
    with workspace.db.write() as session:
        people.disable(session, "ada", now=now)
    for rule, path, method in guarded(signed_in.application):
        service.of(signed_in.application).limits._counted.storage.reset()
        assert signed_in.open(path, method=method, buffered=True).status_code == 401, rule.rule
    assert last(workspace)[:2] == ("ada", "the session has ended, or the person was disabled")


def test_a_session_whose_time_is_over_is_refused_and_noted(light: Flask, sqlite_workspace: Workspace, now: datetime) -> None:
    """However long the cookie says it lives (fault 69)."""
    with sqlite_workspace.db.write() as session:
        people.put(session, "ada", Role.ADMIN, now=now)
        key = sessions.begin(session, Person("ada", Role.ADMIN), now=now - sessions.LIFE - timedelta(days=9999))
    client = light.test_client()
    with client.session_transaction() as kept:
        kept["key"], kept["name"] = key, "ada"
    assert client.get("/account", buffered=True).status_code == 401 and last(sqlite_workspace)[0] == "ada"


def test_wrong_passwords_are_written_down_by_name(signed_in: FlaskClient, workspace: Workspace) -> None:
    """Of people we have; what was typed for a name we do not have is kept nowhere, it may be a password (faults 68, 69)."""
    browser = signed_in.application.test_client()
    assert sign_in(browser, "wrong") == 401 and last(workspace) == ("ada", "wrong name or password", "POST /login")
    assert sign_in(browser, "ada", name="my-secret-password-5711") == 401
    with workspace.db.read() as session:
        assert {one.who for one in refusals.newest(session)} == {"ada"}


def test_strangers_fill_no_table(light: Flask, sqlite_workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """No cookie, a token that never was: the log has a line, the database none (fault 69)."""
    for headers in ({}, {"Authorization": "Bearer rfb_guess"}, {"Cookie": "refurbish=x.y.z"}):
        assert light.test_client().get("/exports", headers=headers, buffered=True).status_code == 401
    assert last(sqlite_workspace)[0] == "" and "a stranger" in capsys.readouterr().err


def test_one_person_fills_no_table_either(light: Flask, sqlite_workspace: Workspace, now: datetime) -> None:
    """Thirty rows a minute at most, and after 90 days they go."""
    headers = bearer(sqlite_workspace, Role.MODERATOR, now, "eve")
    for _ in range(35):
        assert light.test_client().get("/exports", headers=headers, buffered=True).status_code == 403
    found = run_json(sqlite_workspace, "user", "refused", "--name", "eve", "--limit", "99")["refused"]
    assert len(found) == 30 and found[0]["route"] == "/exports"
    assert "is moderator, this needs engineer" in run(sqlite_workspace, "user", "refused").stdout
    late = refusals.Refusal("zoe", "x", "GET", "/", "::1", "id", at=datetime.fromisoformat(found[0]["at"]) + refusals.KEPT * 2)
    with sqlite_workspace.db.write() as session:
        refusals.note(session, late)
        assert [one.who for one in refusals.newest(session)] == ["zoe"]
