"""Every failure of Label Studio is one kind of error, with its status and without the token."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from curation import settings
from curation.errors import ConfigError, LabelStudioError
from curation.labelstudio.client import ONCE, Client, NotThere, Unanswered

TOKEN = "0123456789abcdef" * 2 + "01234567"


class Answering(ThreadingHTTPServer):
    """A server that gives one answer to everything, and counts the questions."""

    def __init__(self, status: int | None, body: str) -> None:
        self.status, self.body, self.n_requests = status, body, 0
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Answering

    def answer(self) -> None:
        self.server.n_requests += 1
        if self.server.status is None:
            self.connection.close()  # the request was read, and no answer will come
            return
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(self.server.body.encode())

    do_GET = do_POST = do_PATCH = answer  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def talking(server: ThreadingHTTPServer, token: str) -> Iterator[Client]:
    """A client of this server, which answers meanwhile and is closed at the end."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    with Client(f"http://127.0.0.1:{server.server_port}", token) as client:
        yield client
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def answering(status: int | None, body: str = "") -> Iterator[tuple[Client, Answering]]:
    """A client and the server it talks to."""
    server = Answering(status, body)
    with talking(server, TOKEN) as client:
        yield client, server


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (
            401,
            '{"id": "1f", "status_code": 401, "detail": "Invalid token."}',
            LabelStudioError,
            "401: 'Invalid token.'; check label_studio_token",
        ),
        (403, '{"detail": "URL resolves to a reserved network address"}', LabelStudioError, "SSRF guard"),
        (404, "<html>Not found</html>", NotThere, "404"),
        (400, '{"detail": "Validation error", "validation_errors": {"title": ["too short"]}}', LabelStudioError, "too short"),
        (500, "", LabelStudioError, "500"),
    ],
)
def test_refusals_carry_status_and_detail(status: int, body: str, kind: type[Exception], words: str) -> None:
    """The status is looked at before the body, whose `id` is no object's id."""
    with (
        answering(status, body) as (client, _),
        pytest.raises(kind, match="cannot read project 7: Label Studio answered") as caught,
    ):
        client.request("GET", "/api/projects/7/", what="read project 7")
    assert words in str(caught.value)


def test_sdk_failures_are_translated_alike() -> None:
    """What the SDK raises is our error too."""
    with answering(400, '{"detail": "no such project"}') as (client, _):
        caught = pytest.raises(LabelStudioError, match=r"400.*no such project")
        with caught, client.doing("import tasks") as sdk:
            sdk.projects.import_tasks(id=7, request=[{"data": {}}], request_options=ONCE)


def test_unreadable_answers_are_translated() -> None:
    """An answer that is not what the SDK expects is a failure of Label Studio, not a crash."""
    with answering(200, "<html>a proxy</html>") as (client, _):
        caught = pytest.raises(LabelStudioError, match="cannot create the project")
        with caught, client.doing("create the project") as sdk:
            sdk.projects.create(title="x", request_options=ONCE)


def test_writes_are_sent_once() -> None:
    """A dropped connection does not say whether tasks were made, so the import is not sent again."""
    with answering(None) as (client, server):
        with pytest.raises(Unanswered, match="did not answer"), client.doing("import tasks") as sdk:
            sdk.projects.import_tasks(id=7, request=[{"data": {}}], request_options=ONCE)
        assert server.n_requests == 1


def test_nobody_listening_is_not_unanswered() -> None:
    """If there was no connection, surely nothing was done."""
    with answering(200) as (client, _):
        url = client.url
    with Client(url, TOKEN) as client, pytest.raises(LabelStudioError, match=r"not reachable.*is it running") as caught:
        client.request("GET", "/api/version", what="read the version")
    assert not isinstance(caught.value, Unanswered)


@pytest.mark.parametrize("status", [401, 400, 500])
def test_token_is_never_shown(status: int) -> None:
    """Also where the server echoes it."""
    echo = f'{{"detail": "bad header Token {TOKEN} or Bearer abc.def"}}'
    with answering(status, echo) as (client, _), pytest.raises(LabelStudioError) as caught:
        client.request("GET", "/", what=f"send {TOKEN}")
    assert TOKEN not in str(caught.value)
    assert "abc.def" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("flags", "name"), [({}, "label_studio_url"), ({"label_studio_url": "http://x"}, "label_studio_token")])
def test_missing_settings_are_named(flags: dict[str, str], name: str) -> None:
    """The message names the setting and where its value comes from."""
    with pytest.raises(ConfigError, match=f"{name} is not set"):
        Client.of(settings.load(**flags))
