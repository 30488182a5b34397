"""Names of files that lead elsewhere, in every parameter of every route: in the path, in the query and in forms."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from curation.release import exports
from curation.store.people import Role
from curation.store.workspace import Workspace
from curation.worker import Worker
from tests import api_world, review_world
from tests.page_client import as_role
from webhooks import service
from webhooks.app import create_app

CANARY = "canary-5711 of a file outside"
TRICKS = (
    "../{}",
    "..%2f{}",
    "%2e%2e/{}",
    "%2e%2e%2f%2e%2e%2f{}",
    "%252e%252e%252f{}",
    "%25252e%25252e%25252f{}",
    "..%5c{}",
    "..\\{}",
    "....//{}",
    "..;/{}",
    "./../{}",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "file:///etc/passwd",
    "C:%5cwindows%5cwin.ini",
    "C:/windows/win.ini",
    "%5c%5chost%5cshare%5c{}",
    "CON",
    "aux.jpg",
    "{}%00.jpg",
    "%00",
    "{}%0a",
    "%c0%ae%c0%ae%c0%af{}",
    "%ff",
    "{}%20",
    "{}.",
    "{}::$DATA",
    "~/{}",
    "%uff0e%uff0e/{}",
    "\uff0e\uff0e\uff0f{}",
    "link.jpg",
    "a" * 5000,
    "../" * 400 + "{}",
)
IN_FIELDS = ("../{}", "%2e%2e%2f{}", "/etc/passwd", "%00", "C:%5c{}", "%ff")
Asked = tuple[str, str, dict[str, Any]]
"""Method, address as it is spelled, form."""

MIN_ASKED = 300
ANSWERS = {200, 303, 304, 308, 400, 401, 403, 404, 405, 409, 413, 415}
"""What may come back; 200 where a parameter is text like any other, such as a search."""

ARGUMENTS = "ref q table as before after question branch given true outside sample suggested doubt asked limit cursor reason next"
FORMS = "ref reason format questions live name password old new which listing csrf_token"


@pytest.fixture
def app(sqlite_workspace: Workspace, now: datetime) -> Iterator[Flask]:
    """The service over listings, a model and an export, with decoys beside the folders and links out of them."""
    review_world.catalog(sqlite_workspace, 4)
    api_world.promote(sqlite_workspace)
    with sqlite_workspace.db.write() as session:
        exports.ask(session, "csv", by="ada", now=now)
    Worker(sqlite_workspace, ["export"]).run(until_idle=True)
    home = sqlite_workspace.settings.home
    folder = exports.folder_of(sqlite_workspace) / exports.name_of(1)
    for place in (home / "canary", home.parent / "canary", sqlite_workspace.media.root / "canary", folder.parent / "canary"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(CANARY)
    for link in (sqlite_workspace.media.root / "link.jpg", folder / "link.jpg", folder / "data" / "link.jpg"):
        link.symlink_to(home / "canary")
    made = create_app(sqlite_workspace)
    yield made
    service.of(made).close()


def spelled(rule: str, trick: str) -> list[str]:
    """The route's address with the trick in each of its parameters in turn; 1 in the others."""
    names = re.findall(r"<[^>]+>", rule)
    filled = (re.sub(r"<[^>]+>", "1", rule.replace(name, "\0")).replace("\0", trick) for name in names)
    return list(filled)


def in_paths(app: Flask, trick: str) -> Iterator[Asked]:
    """Every route that has parameters in its path, with the trick in each of them."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            for address in spelled(rule.rule, trick):
                yield method, address, {}


def in_fields(app: Flask, trick: str) -> Iterator[Asked]:
    """Every route with the trick in each argument of a query in turn, or in every field of a form."""
    for rule in app.url_map.iter_rules():
        plain = re.sub(r"<[^>]+>", "1", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            if method == "GET":
                yield from ((method, f"{plain}?{name}={trick}", {}) for name in ARGUMENTS.split())
            else:
                yield method, plain, dict.fromkeys(FORMS.split(), trick)


def ask(client: FlaskClient, method: str, address: str, form: dict[str, Any]) -> Any:
    """The request with the address exactly as it is spelled: no client tidies it up before."""
    path, _, query = address.partition("?")
    builder = EnvironBuilder(method=method, path="/", query_string=query, data=form or None)
    environ = builder.get_environ() | dict(client.environ_base)
    environ["PATH_INFO"] = _decoded_once(path)
    environ["REQUEST_URI"] = environ["RAW_URI"] = address
    return client.open(environ, buffered=True)


def _decoded_once(path: str) -> str:
    """As gunicorn gives it to the application: percent signs decoded once, bytes as Latin-1."""
    return unquote_to_bytes(path).decode("latin-1")


def wrongs(app: Flask, client: FlaskClient, requests: Iterable[Asked]) -> list[str]:
    """Requests that were answered with a file from elsewhere, or as none should be."""
    found, n_asked = [], 0
    for method, address, form in requests:
        n_asked += 1
        service.of(app).limits._counted.storage.reset()  # how often one may ask is tested elsewhere
        answer = ask(client, method, address, form)
        if answer.status_code not in ANSWERS or CANARY.encode() in answer.data or b"root:" in answer.data:
            found.append(f"{method} {address[:120]}: {answer.status_code}")
    assert n_asked > MIN_ASKED
    return found


def test_no_name_in_a_path_leads_out(
    app: Flask, sqlite_workspace: Workspace, now: datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    """For an admin: never a file from elsewhere, never a 500, and each attempt is in the log (fault 64)."""
    admin = as_role(app, sqlite_workspace, Role.ADMIN, now)
    assert wrongs(app, admin, (one for trick in TRICKS for one in in_paths(app, trick.format("canary")))) == []
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert sum(line["event"] == "request" and line["status"] in (400, 404) for line in logged) > MIN_ASKED


def test_a_stranger_gets_nothing_by_any_name(app: Flask) -> None:
    """Without a token a closed route says 401 and no more, whatever stands in its path (fault 64)."""
    client = app.test_client()
    assert wrongs(app, client, (one for trick in TRICKS for one in in_paths(app, trick.format("canary")))) == []
    for trick in TRICKS:
        for method, address, form in in_paths(app, trick.format("canary")):
            if not address.startswith(("/media", "/static")) and "%00" not in address:
                service.of(app).limits._counted.storage.reset()
                assert ask(client, method, address, form).status_code in (401, 404, 405), address


@pytest.mark.slow
@pytest.mark.parametrize("trick", IN_FIELDS)
def test_no_name_in_an_argument_or_field_leads_out(app: Flask, sqlite_workspace: Workspace, now: datetime, trick: str) -> None:
    """In every argument and field of every route, for an admin (fault 64)."""
    admin = as_role(app, sqlite_workspace, Role.ADMIN, now)
    assert wrongs(app, admin, in_fields(app, trick.format("canary"))) == []


def test_an_export_gives_out_no_link(app: Flask, sqlite_workspace: Workspace, now: datetime) -> None:
    """A file of the manifest that was replaced by a link out of the folder is gone, for the page too (fault 64)."""
    folder = exports.folder_of(sqlite_workspace) / exports.name_of(1)
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(sqlite_workspace.settings.home / "canary")
    answer = as_role(app, sqlite_workspace, Role.ADMIN, now).get("/exports/1/files/README.md", buffered=True)
    assert answer.status_code == 404 and CANARY.encode() not in answer.data
