"""Planted secrets of every kind, looked for in everything that leaves the program: pages, logs, commands, files, tables."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import inspect, text

from curation import settings as settings_module
from curation.cli import main
from curation.errors import DatabaseError
from curation.release import exports, registry
from curation.store import jobs, people, tokens
from curation.store.people import Role
from curation.store.workspace import Workspace, set_state
from curation.worker import Worker
from tests import review_world
from tests.unit.test_labelstudio_client import answering
from webhooks import auth, service
from webhooks.api import routes
from webhooks.app import create_app

HTML = {"Accept": "text/html"}
PLANTED = {
    "webhook_secret": "canary-hook-5711-0123456789abcdef",
    "webhook_secret_previous": "canary-old-hook-5711-0123456789abcdef",
    "secret_key": "canary-cookie-key-5711-0123456789abcdef",
    "label_studio_token": "canary5711" * 4,
}
DATABASE_PASSWORD = "canary-database-5711"
PASSWORD, WRONG_PASSWORD = "canary-password-5711", "canary-wrong-password-5711"
COMMANDS = (
    "config",
    "doctor",
    "status",
    "db current",
    "inbox list",
    "inbox show 1",
    "jobs list",
    "user list",
    "user refused",
    "token list",
    "labelstudio doctor",
    "openapi",
    "runs",
    "history r000",
)


@pytest.fixture
def planted(tmp_path: Path, current_url: str) -> Iterator[Workspace]:
    """A workspace on each database whose every setting that is secret holds a canary."""
    url = re.sub(r"//(\w+):?@", rf"//\1:{DATABASE_PASSWORD}@", current_url)
    assert (DATABASE_PASSWORD in url) == url.startswith("postgresql")
    with answering(401, json.dumps({"detail": f"no such Token {PLANTED['label_studio_token']}"})) as (client, _):
        chosen: dict[str, Any] = {"home": tmp_path / "home", "database_url": url, "label_studio_url": client.url, **PLANTED}
        made = Workspace.open(settings_module.load(**chosen))
        yield made
        made.close()


@pytest.fixture
def app(planted: Workspace) -> Iterator[Flask]:
    """The service over it."""
    made = create_app(planted)
    yield made
    service.of(made).close()


def _signed_in(app: Flask, planted: Workspace, now: datetime) -> tuple[FlaskClient, set[str]]:
    """Ada's browser after mistyping her password once, and an API token of hers; what of it is secret."""
    with planted.db.write() as session:
        people.put(session, "ada", Role.ADMIN, now=now)
        people.set_password(session, "ada", PASSWORD)
        token = tokens.create(session, "ada", Role.ADMIN, now=now)
    client = app.test_client()
    for name, password in (("ada", WRONG_PASSWORD), (WRONG_PASSWORD, "typed into the wrong field"), ("ada", PASSWORD)):
        form = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/login", headers=HTML).text)
        assert form is not None
        client.post("/login", data={"csrf_token": form[1], "name": name, "password": password}, buffered=True)
    with client.session_transaction() as kept:
        key = kept["key"]
    assert client.get("/account").status_code == 200
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return client, {token, key, PASSWORD, WRONG_PASSWORD}


def _used(app: Flask, client: FlaskClient, planted: Workspace, now: datetime) -> Iterator[str]:
    """Everything that the service answers: to deliveries, of every page, with every kind of error."""
    hook = "/hooks/labelstudio"
    for secret in (PLANTED["webhook_secret"], PLANTED["webhook_secret_previous"], PLANTED["webhook_secret"] + "x"):
        yield client.post(hook, data=b'{"action": "X"}', headers={auth.HOOK_HEADER: secret}).text
        yield client.post("/ml/setup", data=b"{}", headers={auth.HOOK_HEADER: secret}).text
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<[^>]+>", "1", rule.rule)
        for method in sorted((rule.methods or set()) & {"GET", "POST"}):
            if rule.endpoint != "account.sign_out":
                for accept in ("text/html", "application/json"):
                    answer = client.open(path, method=method, headers={"Accept": accept}, buffered=True)
                    yield answer.text + str([pair for pair in answer.headers if pair[0] != "Set-Cookie"])
    yield json.dumps(routes.described("http://x"))
    yield from _broken(app, client)


def _broken(app: Flask, client: FlaskClient) -> Iterator[str]:
    """Answers where a view fails with a secret in its hands."""
    secret = PLANTED["webhook_secret"]

    def bug() -> str:
        held = [secret]
        return held[1]

    def away() -> str:
        raise DatabaseError("the database did not answer")

    for name, view in (("health.livez", bug), ("overview.show", away)):
        kept, app.view_functions[name] = app.view_functions[name], auth.needs(Role.MODERATOR)(view)
        yield client.get("/livez" if name == "health.livez" else "/", headers=HTML).text
        app.view_functions[name] = kept


def _worked(planted: Workspace) -> None:
    """Jobs that fail because Label Studio refuses the token and repeats it, and an export."""
    with planted.db.write() as session:
        now = planted.db.now(session)
        set_state(session, registry.PROJECT, {"id": 1, "url": f"{planted.settings.label_studio_url}/projects/1"}, now=now)
        for kind in ("push", "reconcile", "refresh"):
            jobs.enqueue(session, kind, {}, key=kind, now=now, max_attempts=1)
        exports.ask(session, "csv", by="ada", now=now)
    Worker(planted, ["ingest", "push", "reconcile", "refresh", "export"]).run(until_idle=True)


def _commands(planted: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What the commands print, with and without --json, and with --debug."""
    for name, value in {**PLANTED, "label_studio_url": planted.settings.label_studio_url}.items():
        monkeypatch.setenv(f"REFURBISH_{name.upper()}", value)
    flags = ["--home", str(planted.settings.home), "--database-url", planted.settings.url]
    for command in COMMANDS:
        for more in ([], ["--json"]):
            found = CliRunner().invoke(main, [*flags, *command.split(), *more])
            assert found.exit_code in (0, 1, 75), f"{command}: {found.output}{found.exception!r}"
            yield f"{found.output}{found.exception!r}"


def _stored(planted: Workspace) -> Iterator[str]:
    """Every cell of every table, and every file under home, the database's own among them."""
    with planted.db.read() as session:
        names = inspect(session.get_bind()).get_table_names()
        rows = {name: session.execute(text(f'SELECT * FROM "{name}"')).all() for name in names}
    yield from (f"{name}: {found}" for name, found in rows.items())
    for file in planted.settings.home.rglob("*"):
        if file.is_file():
            yield f"{file}: {file.read_bytes()!r}"


@pytest.mark.slow
def test_no_planted_secret_comes_out_anywhere(
    app: Flask,
    planted: Workspace,
    now: datetime,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Pages, errors, stack traces, logs, exports, jobs, the API's document, commands, tables and files (fault 70)."""
    monkeypatch.chdir(tmp_path)
    review_world.catalog(planted, 4)
    client, secrets = _signed_in(app, planted, now)
    answers = list(_used(app, client, planted, now))
    _worked(planted)
    found = {"answer": answers, "stored": list(_stored(planted)), "command": list(_commands(planted, monkeypatch))}
    logged = capsys.readouterr()
    found["log"] = [logged.out, logged.err]
    assert '"room": "refused"' in logged.err and "IndexError" in logged.err and len(answers) > 100
    assert "Label Studio answered 401" in str(found["stored"])
    secrets |= {*PLANTED.values(), DATABASE_PASSWORD}
    assert [_leak(kind, one, secret) for kind in found for one in found[kind] for secret in secrets if secret in one] == []


def _leak(kind: str, found: str, secret: str) -> str:
    at = found.index(secret)
    return f"{kind}: {found[max(0, at - 150) : at + len(secret) + 20]}"


def test_both_secrets_open_the_hook_while_they_change(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    """The log says that the old one was used, and not what it is; a third opens nothing (faults 2, 70)."""
    client = app.test_client()
    secrets = [PLANTED["webhook_secret"], PLANTED["webhook_secret_previous"], "canary-hook-5711"]
    statuses = [
        client.post("/hooks/labelstudio", data=f'{{"n": {at}}}', headers={auth.HOOK_HEADER: secret}).status_code
        for at, secret in enumerate(secrets)
    ]
    logged = capsys.readouterr().err
    assert statuses == [202, 202, 401] and logged.count("delivery with the previous secret") == 1 and "canary" not in logged
