"""`/suspects`: doubted labels, filtered, page by page, and sent to the moderators once."""

import re
import threading
from datetime import datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from curation.release import registry
from curation.review import queue
from curation.store import people
from curation.store.people import Role
from curation.store.tables import JobRow, ListingRow, ReviewItem
from curation.store.workspace import Workspace, set_state
from curation.types import Question
from tests import builders, review_world
from tests.conftest import NOW
from tests.page_client import EVIL, TRICKS, as_role, faults
from tests.review_world import PATHS, flagged, suspect

GARDEN, LAMPS, BALLS, BIKES = PATHS


@pytest.fixture
def client(app: Flask, workspace: Workspace, now: datetime) -> FlaskClient:
    """An engineer's client of the service, on each database."""
    return as_role(app, workspace, Role.ENGINEER, now)


def _ranked(workspace: Workspace, n: int = 8) -> None:
    """Of `n` doubted categories the first is most doubtful; every fourth was given as garden."""
    review_world.catalog(workspace, n + 2)
    found = [suspect(f"r{i:03d}", PATHS[i % 4], PATHS[(i + 1) % 4], 0.99 - i / 200) for i in range(n)]
    review_world.rank(workspace, Question.CATEGORY, *found, suspect(f"r{n:03d}", GARDEN, LAMPS, 0.3, is_issue=False))
    review_world.rank(workspace, Question.VIOLATION, flagged(f"r{n + 1:03d}", "counterfeit", 0.8))


def _refs(text: str) -> list[str]:
    return re.findall(r'<h2><a href="/listing/([^"]+)"', text)


def _ids(workspace: Workspace, *refs: str) -> list[str]:
    with workspace.db.read() as session:
        rows = session.execute(select(ListingRow.ref, ListingRow.id).where(ListingRow.ref.in_(refs)))
        found = {row.ref: str(row.id) for row in rows}
    return [found[ref] for ref in refs]


def _items(workspace: Workspace) -> list[ReviewItem]:
    return review_world.items(workspace)


def _pushes(workspace: Workspace) -> int:
    with workspace.db.read() as session:
        return len(session.execute(select(JobRow.id).where(JobRow.kind == "push")).all())


# Looking


def test_nothing_doubted_is_explained(client: FlaskClient) -> None:
    """Before the first run the page says where doubts come from."""
    page = client.get("/suspects")
    assert (
        page.status_code == 200
        and "refurbish retrain" in page.text
        and '<form method="post" action="/suspects/ask"' not in page.text
    )


@pytest.mark.parametrize(
    ("query", "refs"),
    [
        ({}, ["r000", "r001", "r002", "r003", "r004", "r005", "r006", "r007"]),
        ({"branch": "Home"}, ["r000", "r001", "r004", "r005"]),
        ({"given": GARDEN}, ["r000", "r004"]),
        ({"suggested": LAMPS}, ["r000", "r004"]),
        ({"suggested": "Sport", "branch": "Home"}, ["r001", "r005"]),
        ({"doubt": "97.5"}, ["r000", "r001", "r002", "r003"]),
        ({"question": "violation"}, ["r009"]),
        ({"question": "violation", "given": "counterfeit"}, []),
        ({"given": "Nowhere"}, []),
    ],
)
def test_filters(client: FlaskClient, workspace: Workspace, query: dict[str, str], refs: list[str]) -> None:
    """Only doubted labels that match, in the order of their rank."""
    _ranked(workspace)
    page = client.get("/suspects", query_string=query)
    assert page.status_code == 200 and _refs(page.text) == refs


def test_what_moderators_decided_is_not_doubted(client: FlaskClient, workspace: Workspace) -> None:
    """The ranking is as old as its run; the page is not."""
    _ranked(workspace)
    review_world.answer(workspace, "r000", GARDEN)
    assert "r000" not in _refs(client.get("/suspects").text)


def test_pages_go_on_by_rank(client: FlaskClient, workspace: Workspace) -> None:
    """Each doubted label once; the download holds all of them."""
    _ranked(workspace, n=60)
    seen: list[str] = []
    address: str | None = "/suspects"
    while address:
        text = client.get(address).text
        seen += _refs(text)
        more = re.search(r'class="more" href="([^"]+)"', text)
        address = more[1].replace("&amp;", "&") if more else None
    assert seen == [f"r{i:03d}" for i in range(60)]
    assert [row["ref"] for row in client.get("/suspects?table=doubted&as=json").json or []] == seen
    assert "nothing more matches" in client.get("/suspects?after=1000").text


# Sending


def test_chosen_ones_are_sent_once(client: FlaskClient, workspace: Workspace) -> None:
    """Both questions open, with who asked and the run's reasons, a push follows; a double submit changes nothing."""
    _ranked(workspace)
    with workspace.db.write() as session:
        set_state(session, registry.PROJECT, {"id": 1, "url": "http://ls.example"}, now=NOW)
    form = {"which": "chosen", "listing": _ids(workspace, "r000", "r003"), "question": "category"}
    first, second = (client.post("/suspects/ask", data=form, follow_redirects=True).text for _ in range(2))
    items = _items(workspace)
    assert "2 listings sent" in first and "Nothing was sent. 2 listings asked about" in second and _pushes(workspace) == 1
    assert len(items) == 4 and {item.state for item in items} == {"waiting"} and all(item.priority > 0.9 for item in items)
    assert items[0].reasons[0]["words"] == "The engineer ada asked for a look at this label."
    assert items[0].reasons[1]["code"] == "label_issue"


def test_all_that_match_are_sent(client: FlaskClient, workspace: Workspace) -> None:
    """The filters say which; what is asked already, and the rest of the catalog, is left as it is."""
    _ranked(workspace)
    review_world.draw(workspace, ["r000"])
    page = client.post("/suspects/ask", data={"which": "all", "branch": "Home", "question": "category"}, follow_redirects=True)
    assert "3 listings sent" in page.text
    with workspace.db.read() as session:
        assert {task.listing.ref for task in queue.waiting(session, 50)} == {"r001", "r004", "r005"}
    assert _refs(client.get("/suspects?asked=no").text) == ["r002", "r003", "r006", "r007"]


def test_of_near_duplicates_one_is_asked_about(client: FlaskClient, workspace: Workspace) -> None:
    """As in every batch."""
    builders.add(workspace, *(builders.record(f"r{i}", category=GARDEN, group_key="same") for i in range(3)))
    review_world.rank(workspace, Question.CATEGORY, *(suspect(f"r{i}", GARDEN, LAMPS, 0.9) for i in range(3)))
    page = client.post("/suspects/ask", data={"which": "all", "question": "category"}, follow_redirects=True)
    assert "1 listing sent" in page.text and "2 listings left out: near-duplicates" in page.text


def test_a_withdrawn_question_may_be_asked_again(client: FlaskClient, workspace: Workspace) -> None:
    """One that is decided may not."""
    _ranked(workspace)
    review_world.draw(workspace, ["r000", "r001"])
    with workspace.db.write() as session:
        queue.withdraw(session, [int(i) for i in _ids(workspace, "r000")])
    review_world.answer(workspace, "r001", LAMPS)
    form = {"which": "chosen", "listing": _ids(workspace, "r000", "r001"), "question": "category"}
    page = client.post("/suspects/ask", data=form, follow_redirects=True).text
    assert "1 listing sent" in page and "1 listing asked about or decided before" in page


def test_two_engineers_at_once_ask_once(app: Flask, workspace: Workspace, now: datetime) -> None:
    """The second finds what the first has asked."""
    _ranked(workspace)
    form = {"which": "all", "question": "category"}
    clients = [as_role(app, workspace, Role.ENGINEER, now, name) for name in ("ada", "bob")]
    codes: list[int] = []
    threads = [threading.Thread(target=lambda c=c: codes.append(c.post("/suspects/ask", data=form).status_code)) for c in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        codes == [303, 303]
        and len(_items(workspace)) == 16
        and len({item.reasons[0]["words"] for item in _items(workspace)}) == 1
    )


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"which": "chosen", "listing": "x"}, 400),
        ({"which": "chosen", "listing": "-1"}, 400),
        ({"which": "chosen", "listing": "9" * 30}, 400),
        ({"which": "some"}, 400),
        ({"which": "all", "doubt": "nan"}, 400),
        ({"which": "all", "doubt": "101"}, 400),
        ({"which": "all", "given": "a\x00"}, 400),
        ({"which": "chosen", "listing": "2147483647"}, 303),
        ({"which": "chosen"}, 303),
        ({"which": "all", "given": "Nowhere"}, 303),
    ],
)
def test_forms_that_make_no_sense(client: FlaskClient, workspace: Workspace, form: dict[str, Any], status: int) -> None:
    """Refused, or nothing happens; never a question."""
    _ranked(workspace)
    assert client.post("/suspects/ask", data={"question": "category", **form}).status_code == status
    assert _items(workspace) == [] and _pushes(workspace) == 0


def test_the_form_carries_its_token(app: Flask, workspace: Workspace, now: datetime) -> None:
    """With a cookie, a post without the token of our form is refused; with it, it goes through."""
    _ranked(workspace)
    with workspace.db.write() as session:
        people.put(session, "eva", Role.ENGINEER, now=now)
        people.set_password(session, "eva", "a long password")
    browser = app.test_client()
    token = _token(browser.get("/login").text)
    browser.post("/login", data={"csrf_token": token, "name": "eva", "password": "a long password"})
    form = {"which": "all", "question": "category"}
    assert browser.post("/suspects/ask", data=form).status_code == 400
    form["csrf_token"] = _token(browser.get("/suspects").text)
    assert browser.post("/suspects/ask", data=form).status_code == 303 and len(_items(workspace)) == 16


def _token(text: str) -> str:
    found = re.search(r'action="/suspects/ask">\s*<input type="hidden" name="csrf_token" value="([^"]+)"', text)
    found = found or re.search(r'name="csrf_token" value="([^"]+)"', text)
    assert found is not None
    return found[1]


# Hostile


def test_hostile_listings_are_inert_and_short(client: FlaskClient, workspace: Workspace) -> None:
    """Markup, tricks of writing, a megabyte of title, no photo, no category: cards all the same, and a small page (fault 59)."""
    builders.add(
        workspace,
        builders.record("r0", title=EVIL, seller_ref=EVIL[:200], category=f"Home / {EVIL}"),
        builders.record("r1", title=TRICKS, category=GARDEN),
        builders.record("r2", title="x" * 2**20, category=GARDEN),
        builders.record("r3", title="", description="", price=None, category=None),
    )
    found = [suspect("r0", f"Home / {EVIL}", LAMPS, 0.9), *(suspect(f"r{i}", GARDEN, LAMPS, 0.9 - i / 9) for i in (1, 2, 3))]
    review_world.rank(workspace, Question.CATEGORY, *found)
    page = client.get("/suspects").text
    assert "<script" not in page and "&lt;script&gt;" in page and f"<bdi>{TRICKS}</bdi>" in page and "{{7*7}}" in page
    assert "1,048,576 characters" in page and len(page) < 50_000 and "no photo" in page and "(no title)" in page
    assert faults(page) == []
    csv = client.get("/suspects?table=doubted&as=csv").text
    assert "r3" in csv and "x" * 300 not in csv


def test_without_label_studio_they_wait_and_the_page_says_so(client: FlaskClient, workspace: Workspace) -> None:
    """The questions are open, and no job is made that could only fail."""
    _ranked(workspace)
    form = {"which": "chosen", "listing": _ids(workspace, "r000"), "question": "category"}
    page = client.post("/suspects/ask", data=form, follow_redirects=True).text
    assert "They wait until Label Studio is connected" in page and _pushes(workspace) == 0 and len(_items(workspace)) == 2
