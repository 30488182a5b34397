"""Whatever is sent to the receiver, the answer is one of its own, and what was accepted is there."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from curation.store.tables import Inbox, JobRow
from curation.store.workspace import Workspace
from webhooks import service
from webhooks.app import create_app

SECRET = "s3cret-" + "x" * 32
HOOK = "/hooks/labelstudio"
RELAXED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

header_values = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
NAMES = [
    "X-Refurbish-Secret",
    "Content-Type",
    "Content-Encoding",
    "Content-Length",
    "Transfer-Encoding",
    "Expect",
    "Authorization",
    "X-Request-Id",
    "Accept",
    "Range",
    "Host",
    "Cookie",
    "X-Forwarded-For",
    "Content-Range",
    "Origin",
    "Connection",
]
some_headers = st.dictionaries(st.sampled_from(NAMES), header_values)


@pytest.fixture
def client(sqlite_workspace: Workspace) -> Iterator[FlaskClient]:
    """A client of the service on SQLite."""
    app = create_app(sqlite_workspace)
    yield app.test_client()
    service.of(app).close()


@RELAXED
@given(body=st.binary(max_size=2000), headers=some_headers, is_authentic=st.booleans())
@example(body=b"", headers={"Content-Length": "-1"}, is_authentic=True)
@example(body=b"x", headers={"Content-Length": "9" * 400}, is_authentic=True)
@example(body=b"x", headers={"Host": "["}, is_authentic=True)
def test_the_receiver_never_fails(client: FlaskClient, body: bytes, headers: dict[str, str], is_authentic: bool) -> None:
    """Random headers and bodies: 202, 400, 401 or 413, never 500, never a redirect (faults 3, 14)."""
    sent = headers | ({"X-Refurbish-Secret": SECRET} if is_authentic else {})
    environ = {"CONTENT_LENGTH": sent.pop("Content-Length")} if "Content-Length" in sent else {}
    status = client.post(HOOK, data=body, headers=sent, environ_overrides=environ).status_code
    assert status in ((202, 400, 413) if is_authentic else (400, 401))


@RELAXED
@given(bodies=st.lists(st.binary(max_size=50), max_size=12))
def test_the_inbox_holds_each_distinct_body_once(client: FlaskClient, bodies: list[bytes]) -> None:
    """202 for each; afterwards as many new rows as distinct new bodies, each with a job."""
    with service.of(client.application).workspace.db.read() as session:
        before = set(session.execute(select(Inbox.body)).scalars())
    for body in bodies:
        assert client.post(HOOK, data=body, headers={"X-Refurbish-Secret": SECRET}).status_code == 202
    with service.of(client.application).workspace.db.read() as session:
        after = list(session.execute(select(Inbox.body)).scalars())
        n_jobs = session.execute(select(func.count()).select_from(JobRow)).scalar_one()
    assert set(after) == before | {bytes(body) for body in bodies} and len(after) == len(set(after)) == n_jobs


@RELAXED
@given(path=st.text(st.characters(exclude_categories=["Cs"]), max_size=40), accept=st.sampled_from(["", "text/html", "*/*"]))
def test_no_address_makes_the_service_fail(client: FlaskClient, path: str, accept: str) -> None:
    """Any address is answered, and never by an error of ours or a redirect but to our own form for signing in."""
    answer = client.get("/" + path.lstrip("/"), headers={"Accept": accept}, buffered=True)
    is_led = answer.status_code == 303 and answer.location.startswith("/login")
    assert is_led or answer.status_code in (200, 400, 401, 404, 405)
