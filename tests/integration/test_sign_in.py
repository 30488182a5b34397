"""Signing in with a browser: cookies, forms of other sites, roles, and how often one may try."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from curation.cli import main
from curation.errors import ConfigError, InputError, NotFoundError
from curation.store import people, sessions, tokens
from curation.store.people import Person, Role
from curation.store.service_tables import User, WebSession
from curation.store.workspace import Workspace
from webhooks import service
from webhooks.app import create_app
from webhooks.limits import Limits

HTML = {"Accept": "text/html"}
PASSWORD = "correct horse battery"


@pytest.fixture
def browser(app: Flask, workspace: Workspace, now: datetime) -> FlaskClient:
    """A client of the service on each database; Ada, an engineer, may sign in."""
    with workspace.db.write() as writing:
        people.put(writing, "ada", Role.ENGINEER, now=now)
        people.set_password(writing, "ada", PASSWORD)
    return app.test_client()


@pytest.fixture
def light(sqlite_workspace: Workspace, now: datetime) -> Iterator[FlaskClient]:
    """The same on SQLite only."""
    with sqlite_workspace.db.write() as writing:
        people.put(writing, "ada", Role.ENGINEER, now=now)
        people.set_password(writing, "ada", PASSWORD)
    app = create_app(sqlite_workspace)
    yield app.test_client()
    service.of(app).close()


def _form(client: FlaskClient, path: str = "/login") -> dict[str, str]:
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(path, headers=HTML).text)
    assert found is not None
    return {"csrf_token": found[1]}


def _sign_in(client: FlaskClient, path: str = "/login", password: str = PASSWORD, name: str = "ada") -> int:
    return client.post(path, data={**_form(client), "name": name, "password": password}, headers=HTML).status_code


def test_a_browser_is_led_to_the_form_and_back(browser: FlaskClient) -> None:
    """What was asked for is remembered; afterwards the page opens, with the name on it."""
    led = browser.get("/account?x=1", headers=HTML)
    assert led.status_code == 303 and led.location == "/login?next=/account?x%3D1"
    answer = browser.post(led.location, data={**_form(browser), "name": "ada", "password": PASSWORD})
    assert answer.status_code == 303 and answer.location == "/account?x=1"
    assert "ada" in browser.get("/account", headers=HTML).text


@pytest.mark.parametrize("away", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"])
def test_signing_in_never_leads_to_another_site(light: FlaskClient, away: str) -> None:
    """`next` is an address of ours or it is left out (fault 68)."""
    answer = light.post("/login", query_string={"next": away}, data={**_form(light), "name": "ada", "password": PASSWORD})
    assert answer.status_code == 303 and answer.location == "/"


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong password"), ("eve", PASSWORD), ("", ""), ("ada", "x" * 9999)])
def test_a_wrong_password_tells_nothing(light: FlaskClient, name: str, password: str) -> None:
    """The same words for a wrong name and a wrong password (fault 68)."""
    answer = light.post("/login", data={**_form(light), "name": name, "password": password}, headers=HTML)
    assert answer.status_code == 401 and "do not belong together" in answer.text and PASSWORD not in answer.text
    assert light.get("/account", headers=HTML).status_code == 303


def test_the_key_is_new_at_each_sign_in_and_gone_after(browser: FlaskClient, workspace: Workspace) -> None:
    """No key can be planted before; signing out ends it in the database, so that a copied cookie is worthless (fault 68)."""
    keys = []
    for _ in range(2):
        _sign_in(browser)
        with browser.session_transaction() as kept:
            keys.append(kept["key"])
    copied = browser.get_cookie("refurbish")
    assert keys[0] != keys[1] and copied is not None and copied.http_only and copied.same_site == "Lax"
    browser.post("/logout", data=_form(browser, "/account"))
    with browser.session_transaction() as planted:
        planted["key"] = keys[1]
    assert browser.get("/account", headers=HTML).status_code == 303
    with workspace.db.read() as reading:
        stored = reading.execute(select(WebSession.sha256)).scalars().all()
    assert len(stored) == 1 and keys[0] not in stored


@pytest.mark.parametrize("token", [None, "", "wrong"])
def test_a_form_of_another_site_changes_nothing(light: FlaskClient, token: str | None) -> None:
    """Without the token of our own form a post with the cookie is refused (fault 68)."""
    _sign_in(light)
    answer = light.post("/account", data={"old": PASSWORD, "new": "another password"} | ({"csrf_token": token} if token else {}))
    assert answer.status_code == 400 and "load the page again" in answer.json["error"]
    assert light.post("/login", data={"name": "ada", "password": PASSWORD}).status_code == 400


def test_a_name_that_nobody_can_have_is_refused(browser: FlaskClient) -> None:
    """A NUL character in it: SQLite knows nobody of that name, PostgreSQL cannot be asked."""
    assert _sign_in(browser, name="a\x00da") in (400, 401)


def test_a_new_password_signs_out_everywhere(browser: FlaskClient, app: Flask) -> None:
    """Also on other machines; too short a one, or a wrong old one, changes nothing."""
    other = app.test_client()
    assert _sign_in(browser) == _sign_in(other) == 303
    form = _form(browser, "/account")
    assert browser.post("/account", data={**form, "old": PASSWORD, "new": "short"}).status_code == 400
    assert browser.post("/account", data={**form, "old": "wrong", "new": "long enough it is"}).status_code == 400
    assert browser.post("/account", data={**form, "old": PASSWORD, "new": "long enough it is"}).status_code == 303
    assert other.get("/account", headers=HTML).status_code == 303
    assert _sign_in(other) == 401 and _sign_in(other, password="long enough it is") == 303


def test_a_disabled_person_is_out_at_once(browser: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """Cookie, password and tokens alike; undoing it lets them in again."""
    _sign_in(browser)
    with workspace.db.write() as writing:
        bearer = {"Authorization": f"Bearer {tokens.create(writing, 'ada', Role.ENGINEER, now=now)}"}
        people.disable(writing, "ada", now=now)
    assert browser.get("/account", headers=HTML).status_code == 303 and _sign_in(browser) == 401
    assert browser.get("/api/v1/status", headers=bearer).status_code == 401
    with workspace.db.write() as writing:
        people.enable(writing, "ada")
    assert _sign_in(browser) == 303


def test_a_session_ends_after_its_time(workspace: Workspace, now: datetime) -> None:
    """And is forgotten when somebody signs in later."""
    with workspace.db.write() as writing:
        people.put(writing, "ada", Role.MODERATOR, now=now)
        key = sessions.begin(writing, Person("ada", Role.MODERATOR), now=now)
        assert sessions.find(writing, key, now=now + sessions.LIFE - timedelta(seconds=1)) == Person("ada", Role.MODERATOR)
        assert sessions.find(writing, key, now=now + sessions.LIFE) is None
        sessions.begin(writing, Person("ada", Role.MODERATOR), now=now + sessions.LIFE)
        assert len(writing.execute(select(WebSession.id)).all()) == 1


def test_guessing_is_slowed(light: FlaskClient) -> None:
    """After ten wrong passwords in five minutes even the right one must wait, and the answer says how long (fault 68)."""
    form = _form(light)
    answers = [light.post("/login", data={**form, "name": "ada", "password": f"guess {at}"}).status_code for at in range(10)]
    last = light.post("/login", data={**form, "name": "ada", "password": PASSWORD})
    assert answers == [401] * 10 and last.status_code == 429 and 0 < int(last.headers["Retry-After"]) <= 300


def test_an_api_limit_holds_for_each_person(sqlite_workspace: Workspace, now: datetime) -> None:
    """The third request of a minute is refused, another person's is not; nonsense in the setting is named."""
    settings = sqlite_workspace.settings.model_copy(update={"api_limit": "2/minute"})
    app = create_app(Workspace(settings, sqlite_workspace.db, sqlite_workspace.files, sqlite_workspace.media))
    with sqlite_workspace.db.write() as writing:
        ada, eve = ({"Authorization": f"Bearer {tokens.create(writing, x, Role.ADMIN, now=now)}"} for x in ("ada", "eve"))
    found = [app.test_client().get("/api/v1/status", headers=who).status_code for who in (ada, ada, ada, eve)]
    service.of(app).close()
    assert found == [200, 200, 429, 200]
    with pytest.raises(ConfigError, match="api_limit is 'often'"):
        Limits(settings.model_copy(update={"api_limit": "often"}))


def test_the_first_visitor_is_told_how_to_get_an_account(app: Flask) -> None:
    """Nobody can sign in yet; the form says which command changes that."""
    assert "refurbish user add NAME --role admin" in app.test_client().get("/login", headers=HTML).text


def test_cookies_are_signed_with_a_key_that_only_we_read(light: FlaskClient, sqlite_workspace: Workspace) -> None:
    """Made once, of mode 600; a forged cookie is nobody (fault 68)."""
    file = sqlite_workspace.settings.home / "secret.key"
    assert file.stat().st_mode & 0o777 == 0o600 and len(file.read_bytes()) == 32
    light.set_cookie("refurbish", "eyJrZXkiOiJ4In0.aaaa.bbbb")
    assert light.get("/account", headers=HTML).status_code == 303


def test_a_short_password_and_an_unknown_name_are_refused(workspace: Workspace, now: datetime) -> None:
    """With the length that is wanted, and where to look for names."""
    with workspace.db.write() as writing:
        people.put(writing, "ada", Role.MODERATOR, now=now)
        with pytest.raises(InputError, match="10 to 200 characters, this one 3"):
            people.set_password(writing, "ada", "abc")
        with pytest.raises(NotFoundError, match="refurbish user list"):
            people.disable(writing, "eve", now=now)
        assert writing.execute(select(User.password_hash)).scalar_one() is None


def test_users_from_the_command_line(workspace: Workspace) -> None:
    """Added with a random password that is shown once, listed without it, disabled."""
    at = ["--home", str(workspace.settings.home), "--database-url", workspace.settings.url]
    made = CliRunner().invoke(main, [*at, "user", "add", "ada", "--role", "admin"])
    assert made.exit_code == 0 and "password" in made.output
    password = made.output.split()[-1]
    with workspace.db.read() as reading:
        assert people.check(reading, "ada", password) == Person("ada", Role.ADMIN)
    listed = CliRunner().invoke(main, [*at, "user", "list"])
    assert "ada" in listed.output and password not in listed.output
    assert CliRunner().invoke(main, [*at, "user", "disable", "ada"]).exit_code == 0
    with workspace.db.read() as reading:
        assert people.check(reading, "ada", password) is None
