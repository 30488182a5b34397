"""What leaves this process: requests to the Label Studio of the settings, and nothing that a seller or an answer asks for."""

import csv
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest

from curation import settings
from curation.catalog import ingest
from curation.catalog.ingest import Options
from curation.errors import ConfigError, LabelStudioError
from curation.labelstudio import tasks
from curation.labelstudio.client import ONCE, Client
from curation.store.people import Role
from curation.store.workspace import Workspace
from tests import builders, outgoing
from tests.page_client import as_role
from tests.unit.test_labelstudio_client import talking
from webhooks import service
from webhooks.app import create_app

LEGACY = "0123456789abcdef" * 2 + "01234567"
PERSONAL = jwt.encode({"exp": int(time.time()) + 9999, "token_type": "refresh"}, "k" * 32, algorithm="HS256")
ELSEWHERE = (
    "file:///etc/passwd",
    "gopher://127.0.0.1:70/x",
    "http://localhost/x",
    "http://0/x",
    "http://127.1/x",
    "http://2130706433/x",
    "http://[::1]/x",
    "http://[::ffff:127.0.0.1]/x",
    "http://169.254.169.254/latest/meta-data/",
    "//evil.example/x",
    "https://127.0.0.1/x",
    "http://127.0.0.1:1/x",
    "http://127.0.0.1.evil.example/x",
    "http://127.0.0.1@evil.example/x",
    "http://127.0.0.1:80\\@evil.example/x",
    "http://[::1",
    "javascript:alert(1)",
)
"""Where an answer may want to lead us."""


class Leading(ThreadingHTTPServer):
    """A Label Studio that answers every first request with a redirect, and `/there` with an object."""

    def __init__(self, status: int, place: str) -> None:
        self.status, self.place = status, place
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Leading

    def answer(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_there = self.path == "/there"
        self.send_response(200 if is_there else self.server.status)
        if not is_there:
            self.send_header("Location", self.server.place)
        self.end_headers()
        self.wfile.write(b'{"id": 7}' if is_there else b"")

    do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def leading(place: str, status: int = 307, token: str = LEGACY) -> Iterator[tuple[Client, Leading]]:
    """A client, and the server that leads it away."""
    server = Leading(status, place)
    with talking(server, token) as client:
        yield client, server


@pytest.mark.parametrize("place", ELSEWHERE)
@pytest.mark.parametrize("token", [LEGACY, PERSONAL], ids=["legacy", "personal"])
def test_no_answer_leads_us_elsewhere(place: str, token: str) -> None:
    """Neither a read nor a write, with its secrets, follows a redirect to another host, port or scheme (fault 66)."""
    with leading(place, token=token) as (client, server), outgoing.only(server.server_address[:2]) as tried:
        for method, body in (("GET", None), ("POST", {"headers": {"X-Refurbish-Secret": "s"}})):
            with pytest.raises(LabelStudioError) as caught:
                client.request(method, "/api/x", what="ask", json_body=body)
            assert "Errno" not in str(caught.value) and token not in str(caught.value)
        with pytest.raises(LabelStudioError), client.doing("import tasks") as sdk:
            sdk.projects.import_tasks(id=7, request=[{"data": {}}], request_options=ONCE)
    assert tried == [] and len(server.asked) == 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_read_may_be_led_within_its_origin(status: int) -> None:
    """As to an address with a slash at the end; a write is not repeated, and never becomes a read (fault 66)."""
    with leading("/there", status) as (client, server):
        assert client.request("GET", "/here", what="read") == {"id": 7}
        with pytest.raises(LabelStudioError, match=r"redirects POST /here to '/there', which was not followed"):
            client.request("POST", "/here", what="write")
        assert server.asked == ["GET /here", "GET /there", "POST /here"]


@pytest.mark.parametrize(
    "address",
    [
        *(place for place in ELSEWHERE if not place.startswith(("http:", "https:"))),
        "http://ada:canary-5711@labels.example",
        "http://127.0.0.1:80@evil.example",
        "http://labels.example:99999",
        "http://labels.example?x=1",
        "http://labels.example/#x",
        "http://labels\n.example",
        "labels.example",
    ],
)
@pytest.mark.parametrize("name", ["label_studio_url", "public_url"])
def test_only_web_addresses_are_settings(name: str, address: str) -> None:
    """Without a user, since a password there would be printed; the refusal does not show the value (fault 66)."""
    with pytest.raises(ConfigError, match=f"{name}: Value error, must be") as caught:
        settings.load(**{name: address})
    assert "canary" not in str(caught.value)


PHOTOS = (*ELSEWHERE, "HTTP://evil.example/x.jpg", "ftp://evil.example/x.jpg", "data:AAAA", "\\\\evil.example\\x")


def _catalog(folder: Path) -> Path:
    """Listings that name photos elsewhere, and mention addresses wherever a seller can write."""
    file = folder / "listings.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(["id", "title", "description", "images", "url", "category"])
        for at, place in enumerate(PHOTOS):
            rows.writerow([f"r{at}", f"Rake {place}", f'<img src="{place}">', place, place, "Home / Garden"])
    return file


def test_photos_that_are_addresses_are_never_fetched(sqlite_workspace: Workspace, tmp_path: Path, now: datetime) -> None:
    """Every such name is refused with its reason, the listing stays, and no connection or look-up is tried (fault 66)."""
    with outgoing.only() as tried:
        options = Options(images=tmp_path, rejects=tmp_path / "rejects.jsonl")
        found = ingest.run(sqlite_workspace, _catalog(tmp_path), options, now=now)
    assert tried == [] and found.n_new == len(PHOTOS)
    told = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert {one["code"] for one in told} <= {"address", "bad_name"} and len(told) == len(PHOTOS)
    assert not list(sqlite_workspace.media.root.rglob("*.jpg"))


def test_pages_and_tasks_show_no_address_of_a_seller(sqlite_workspace: Workspace, tmp_path: Path, now: datetime) -> None:
    """Rendering them asks nobody; pictures of a task are ours alone (fault 66)."""
    ingest.run(sqlite_workspace, _catalog(tmp_path), Options(images=tmp_path), now=now)
    app = create_app(sqlite_workspace)
    client = as_role(app, sqlite_workspace, Role.ENGINEER, now)
    with outgoing.only() as tried:
        for address in ("/", "/quality", "/suspects", "/listing?q=rake", "/listing/r0", "/api/v1/listings/r0", "/exports"):
            assert client.get(address, buffered=True).status_code == 200
        pictures = {url for one in builders.all_listings(sqlite_workspace) for url in tasks.photo_urls(one, "http://ours")}
    service.of(app).close()
    assert tried == [] and pictures == {tasks.NO_PHOTO}


def test_the_guard_sees_what_is_tried() -> None:
    """Else the tests above would prove nothing: a connection and a look-up elsewhere are refused and remembered."""
    with outgoing.only() as tried, Client("http://127.0.0.1:9", LEGACY) as client:
        with pytest.raises(LabelStudioError):
            client.request("GET", "/", what="ask")
        with pytest.raises(LabelStudioError), Client("http://evil.example", LEGACY) as other:
            other.request("GET", "/", what="ask")
    assert [kind for kind, _ in tried] == ["look up", "look up"]
