"""The receiver: what it lets in, what it stores, what it answers."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import func, select
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from curation.errors import ConfigError
from curation.store import inbox, jobs
from curation.store.tables import Inbox, JobRow
from curation.store.workspace import Workspace
from webhooks import service
from webhooks.app import create_app

HOOK = "/hooks/labelstudio"
SECRET = "s3cret-" + "x" * 32
GOOD = {"X-Refurbish-Secret": SECRET}

UNREADABLE = {
    "empty": b"",
    "not json": b"hello",
    "truncated": b'{"action": "ANNOTATION_CREATED", "annot',
    "bom": b"\xef\xbb\xbf{}",
    "utf-16": '{"action": "x"}'.encode("utf-16"),
    "invalid utf-8": b'{"action": "\xff\xfe"}',
    "nul": b'{"a": "\x00"}\x00',
    "lone surrogate": b'{"a": "\\ud800"}',
    "deep nesting": b"[" * 100_000 + b"]" * 100_000,
    "list": b"[1, 2, 3]",
    "nan": b'{"a": NaN, "b": 1e999}',
    "huge number": b'{"a": ' + b"9" * 5000 + b"}",
    "duplicate keys": b'{"action": "a", "action": "b"}',
    "gzip": b"\x1f\x8b\x08\x00" + bytes(range(256)),
}


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of the service."""
    return app.test_client()


@pytest.fixture
def light(sqlite_workspace: Workspace) -> Iterator[FlaskClient]:
    """A client of the service on SQLite, for what does not touch the database."""
    with _serving(sqlite_workspace) as client:
        yield client


def _stored(workspace: Workspace) -> list[bytes]:
    with workspace.db.read() as session:
        return list(session.execute(select(Inbox.body).order_by(Inbox.id)).scalars())


def _n_jobs(workspace: Workspace) -> int:
    with workspace.db.read() as session:
        return session.execute(select(func.count()).select_from(JobRow).where(JobRow.kind == "ingest")).scalar_one()


def test_a_delivery_is_stored_with_its_job_before_the_answer(client: FlaskClient, workspace: Workspace) -> None:
    """202 means: the body and the job that will apply it are in the database."""
    answer = client.post(HOOK, data=b'{"action": "X"}', headers=GOOD)
    assert (answer.status_code, answer.json) == (202, {"status": "accepted"})
    assert _stored(workspace) == [b'{"action": "X"}']
    with workspace.db.read() as session:
        [job], [entry] = jobs.newest(session), inbox.newest(session)
    assert (job.kind, job.payload, entry.source, entry.state) == ("ingest", {"inbox_id": entry.id}, "labelstudio", "received")


def test_the_same_delivery_is_stored_once(client: FlaskClient, workspace: Workspace) -> None:
    """A repeated body is answered 202 as a duplicate and makes no second job."""
    answers = [client.post(HOOK, data=b"{}", headers=GOOD).json for _ in range(3)]
    assert answers == [{"status": "accepted"}, {"status": "duplicate"}, {"status": "duplicate"}]
    assert (len(_stored(workspace)), _n_jobs(workspace)) == (1, 1)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Refurbish-Secret": ""},
        {"X-Refurbish-Secret": "wrong"},
        {"X-Refurbish-Secret": SECRET + "x"},
        {"X-Refurbish-Secret": SECRET[:-1]},
        {"X-Refurbish-Secret": SECRET.upper()},
        {"X-Refurbish-Secret": "x" * 10_000},
        {"X-Refurbish-Secret": "gehe\u00efm"},
        {"Authorization": f"Bearer {SECRET}"},
    ],
    ids=str,
)
def test_without_the_secret_nothing_is_stored(
    light: FlaskClient, sqlite_workspace: Workspace, headers: Mapping[str, str]
) -> None:
    """401 with a generic body, whatever is wrong with the secret; the refusal is counted (fault 1)."""
    answer = light.post(HOOK, data=b'{"action": "X"}', headers=headers)
    assert (answer.status_code, answer.json) == (401, {"error": "unauthorized"})
    assert _stored(sqlite_workspace) == [] and _n_jobs(sqlite_workspace) == 0
    assert 'refurbish_deliveries_refused_total{reason="secret"} 1.0' in light.get("/metrics").text


def test_authentic_bodies_that_nobody_can_read_are_kept(client: FlaskClient, workspace: Workspace) -> None:
    """A refusal would lose them for good: 202, and stored byte for byte (fault 14)."""
    answers = {name: client.post(HOOK, data=body, headers=GOOD).status_code for name, body in UNREADABLE.items()}
    assert answers == dict.fromkeys(UNREADABLE, 202)
    assert dict(zip(UNREADABLE, _stored(workspace), strict=True)) == UNREADABLE


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        'no/such; a="',
        "",
    ],
)
def test_any_content_type_is_taken(light: FlaskClient, sqlite_workspace: Workspace, kind: str) -> None:
    """A header set on the hook may override the content type; the body is what counts (fault 14)."""
    body = b"--x\r\na=1&b=2\r\n--x--"
    assert light.post(HOOK, data=body, headers={**GOOD, "Content-Type": kind}).status_code == 202
    assert _stored(sqlite_workspace) == [body]


@pytest.mark.parametrize("path", [HOOK, HOOK + "/", HOOK + "?a=1"])
def test_no_spelling_of_the_address_redirects(light: FlaskClient, path: str) -> None:
    """Label Studio follows a redirect as a GET without body, which would lose the delivery."""
    assert light.post(path, data=b"{}", headers=GOOD).status_code == 202


def test_the_previous_secret_is_good_during_rotation(sqlite_workspace: Workspace) -> None:
    """Both secrets are accepted while both are configured, and the log says when the old one was used (fault 2)."""
    with _serving(_with(sqlite_workspace, SECRET, previous="the-old-secret")) as client, capture_logs() as logged:
        answers = [_post(client, b"1", "the-old-secret"), _post(client, b"2", SECRET), _post(client, b"3", "older")]
    assert [answer.status_code for answer in answers] == [202, 202, 401]
    assert [one["event"] for one in logged if one["log_level"] == "warning"] == [
        "delivery with the previous secret; run: refurbish labelstudio setup"
    ]
    assert "the-old-secret" not in str(logged)


def test_no_configured_secret_accepts_nothing(sqlite_workspace: Workspace) -> None:
    """An empty secret is no secret: 503, also for a delivery that carries an empty header."""
    with _serving(_with(sqlite_workspace, "")) as client:
        answers = [_post(client, b"{}", secret) for secret in ("", SECRET)]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert _stored(sqlite_workspace) == []


@pytest.mark.parametrize("secret", ["", "short"])
def test_production_does_not_start_without_a_real_secret(sqlite_workspace: Workspace, secret: str) -> None:
    """The message says what to set."""
    with pytest.raises(ConfigError, match="set REFURBISH_WEBHOOK_SECRET"):
        create_app(_with(sqlite_workspace, secret, env="production"))


def test_project_tokens_are_not_stored(client: FlaskClient, workspace: Workspace) -> None:
    """Label Studio sends the project's token with every delivery; it is taken out before storage."""
    client.post(HOOK, data=b'{"action": "X", "project": {"id": 1, "token": "canary-5711"}}', headers=GOOD)
    [body] = _stored(workspace)
    assert b"canary-5711" not in body and b'"id": 1' in body


@pytest.mark.parametrize("is_chunked", [False, True], ids=["content-length", "chunked"])
@pytest.mark.parametrize(("n_extra", "status"), [(0, 202), (1, 413)])
def test_the_size_limit_holds_to_the_byte(
    light: FlaskClient, sqlite_workspace: Workspace, is_chunked: bool, n_extra: int, status: int
) -> None:
    """The limit itself passes, one byte more is 413 and nothing is stored, however the length is announced (fault 13)."""
    body = b"x" * (sqlite_workspace.settings.webhook_limit_bytes + n_extra)
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    if is_chunked:
        answer = light.post(HOOK, input_stream=BytesIO(body), headers=GOOD, environ_overrides=chunked)
    else:
        answer = light.post(HOOK, data=body, headers=GOOD)
    assert answer.status_code == status
    assert [len(stored) for stored in _stored(sqlite_workspace)] == ([len(body)] if status == 202 else [])


def test_a_body_that_breaks_off_is_not_stored(light: FlaskClient, sqlite_workspace: Workspace) -> None:
    """Half a delivery is no delivery (fault 13)."""
    answer = light.post(HOOK, data=b'{"half', headers=GOOD, environ_overrides={"CONTENT_LENGTH": "100"})
    assert answer.status_code == 400 and _stored(sqlite_workspace) == []


@pytest.mark.parametrize("method", ["get", "put", "delete", "patch"])
def test_only_post_is_a_delivery(light: FlaskClient, method: str) -> None:
    """Anything else is 405 and says what is allowed."""
    answer = getattr(light, method)(HOOK, headers=GOOD)
    assert answer.status_code == 405 and "POST" in answer.headers["Allow"]


@contextmanager
def _serving(workspace: Workspace) -> Iterator[FlaskClient]:
    app = create_app(workspace)
    try:
        yield app.test_client()
    finally:
        service.of(app).close()


def _post(client: FlaskClient, body: bytes, secret: str) -> TestResponse:
    return client.post(HOOK, data=body, headers={"X-Refurbish-Secret": secret})


def _with(workspace: Workspace, secret: str, env: str = "development", previous: str = "") -> Workspace:
    """The same workspace under other settings."""
    changes = {"webhook_secret": SecretStr(secret), "webhook_secret_previous": SecretStr(previous), "env": env}
    return dataclasses.replace(workspace, settings=workspace.settings.model_copy(update=changes))
