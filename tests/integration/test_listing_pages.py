"""`/listing`: finding one, its history, and undoing an automatic repair."""

import dataclasses
import html
import re
from datetime import datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from curation.release import snapshot
from curation.store import labels, listings, search
from curation.store.people import Role
from curation.store.service_tables import ExportRow, Report
from curation.store.tables import LabelHistory
from curation.store.workspace import Workspace
from curation.types import Question
from tests import builders, review_world
from tests.page_client import EVIL, TRICKS, as_role, faults
from tests.plans import plans
from tests.review_world import PATHS, suspect

GARDEN, LAMPS, BALLS, BIKES = PATHS
HOSTILE_REFS = [
    "a/b/c",
    "/a",
    "..",
    "../x",
    "a?b=c#d",
    "a%2fb",
    "a b+c",
    "ünï ☃ 🏷️",
    "\u202egpj",
    "line\nbreak",
    EVIL,
    "é" * 200,
    "'; DROP TABLE listing; --",
]


@pytest.fixture
def client(app: Flask, workspace: Workspace, now: datetime) -> FlaskClient:
    """An engineer's client of the service, on each database."""
    return as_role(app, workspace, Role.ENGINEER, now)


def _repaired(workspace: Workspace, now: datetime) -> int:
    """Three listings, r000 repaired by run 7; its id."""
    found = review_world.catalog(workspace, 3)
    proof = {"score": 0.98, "cut": 0.9, "precision_low": 0.94, "n_verified": 60, "n_right": 59}
    with workspace.db.write() as session:
        change = {found[0].id: (LAMPS, 0.98)}
        labels.refurbish(session, Question.CATEGORY, change, run_id=7, now=now, evidence={found[0].id: proof})
    return found[0].id


def _words(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


# Finding


def test_an_empty_search_says_what_to_type(client: FlaskClient) -> None:
    """Also on an empty database."""
    assert "Type how a listing" in client.get("/listing").text
    assert "No listing has a ref or a title" in client.get("/listing?q=nothing").text


@pytest.mark.parametrize(
    ("words", "refs"),
    [("r00", ["r000", "r001", "r002"]), ("garden RAKE r001", ["r001"]), ("R00", []), ("rake", []), ("r00%", []), ("r00_", [])],
)
def test_listings_are_found_by_how_they_begin(client: FlaskClient, workspace: Workspace, words: str, refs: list[str]) -> None:
    """Refs as they are, titles in capitals or not; signs of a pattern are signs."""
    review_world.catalog(workspace, 3)
    page = client.get("/listing", query_string={"q": words})
    assert re.findall(r"<code>([^<]+)</code></span>", page.text) == refs


def test_one_exact_ref_leads_to_its_page(client: FlaskClient, workspace: Workspace) -> None:
    """Without a list in between."""
    review_world.catalog(workspace, 3)
    assert client.get("/listing?q=r001").location == "/listing/r001"


def test_the_search_goes_by_an_index(workspace: Workspace) -> None:
    """Neither database reads the whole table."""
    review_world.catalog(workspace, 3)
    with workspace.db.read() as session:
        if not workspace.db.is_sqlite:
            session.execute(text("SET LOCAL enable_seqscan = off"))
        seen = plans(session, _searched)
    assert len(seen) == 2 and "ix_listing_ref_start" in seen[0] and "ix_listing_title_start" in seen[1]


def _searched(session: Session) -> None:
    search.by_ref(session, "r0", limit=5)
    search.by_title(session, "Garden", limit=5)


def test_titles_follow_their_listing(workspace: Workspace, now: datetime) -> None:
    """A changed title is found by its new beginning, and no more by the old one."""
    builders.add(workspace, builders.record("r1", title="Old thing"))
    builders.add(workspace, builders.record("r1", title="İstanbul Straße"), now=now + timedelta(days=1))
    with workspace.db.read() as session:
        assert [one.ref for one in search.by_title(session, "İstanbul", limit=5)] == ["r1"]
        assert search.by_title(session, "old", limit=5) == []


# One listing


@pytest.mark.parametrize("ref", HOSTILE_REFS)
def test_any_ref_has_a_page_that_links_lead_to(client: FlaskClient, workspace: Workspace, ref: str) -> None:
    """The address in the list of results opens exactly this listing."""
    builders.add(workspace, builders.record(ref, title="Found thing"), builders.record("other", title="Other"))
    found = client.get("/listing", query_string={"q": "found thing"}).text
    link = re.search(r'<a href="(/listing[^"]+)"><bdi>Found thing', found)
    assert link is not None
    page = client.get(html.unescape(link[1]))
    assert page.status_code == 200 and "Found thing" in page.text and "<script" not in page.text


@pytest.mark.parametrize(
    "path", ["/listing/nothing", "/listing?ref=nothing", "/listing?ref=", f"/listing/{'x' * 1500}", "/listing/%00"]
)
def test_an_unknown_ref_is_not_found(client: FlaskClient, path: str) -> None:
    """404 in words, or 400 for what no listing can be called."""
    answer = client.get(path)
    assert answer.status_code in (404, 400) and "Traceback" not in answer.text
    assert client.get("/listing/nothing").status_code == 404 and "Unknown listing" in client.get("/listing/nothing").text


def test_everything_that_happened_is_told(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """Answers, the question and why, changes of the label, reports, snapshots and exports: newest first."""
    review_world.catalog(workspace, 2)
    review_world.rank(workspace, Question.CATEGORY, suspect("r000", GARDEN, LAMPS, 0.9))
    review_world.draw(workspace, ["r000"])
    review_world.answer(workspace, "r000", LAMPS, "anna")
    review_world.answer(workspace, "r000", None, "bela", after_s=5)
    frozen = snapshot.create(workspace, now=now + timedelta(days=1))
    with workspace.db.write() as session:
        made = {"manifest": {}, "state": "ready", "by": "ada", "created_at": now + timedelta(days=2)}
        session.add(ExportRow(snapshot_id=frozen.id, format="csv", **made))
        said = {"listing_ref": "r000", "reason": "counterfeit", "words": "fake!", "reporter": "u1", "via": "api"}
        session.add(Report(dedupe_key="k", at=now, seen_at=now, **said))
    words = _words(client.get("/listing/r000").text)
    for part in (
        f"anna Answered {LAMPS}",
        "bela Skipped the question",
        f"The label changed from {GARDEN} to {LAMPS}",
        f"The majority decides: anna said {LAMPS}.",
        "Drawn at random from the likely errors",
        "u1 Reported as counterfeit fake!",
        f"Its labels then: category {LAMPS}.",
        "(csv) of 2026-03-03 holds it.",
    ):
        assert part in words
    assert words.index("Part of the snapshot") < words.index("Answered") < words.index("First read here")


def test_a_later_snapshot_only_knows_earlier_labels(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """What a snapshot held is told, not what came after."""
    builders.add(workspace, builders.record("r000"), now=now - timedelta(days=2))
    snapshot.create(workspace, now=now - timedelta(days=1))
    review_world.answer(workspace, "r000", LAMPS)
    assert f"Its labels then: category {GARDEN}." in _words(client.get("/listing/r000").text)


def test_near_duplicates_and_photos_are_shown(client: FlaskClient, workspace: Workspace) -> None:
    """With words for who cannot see them."""
    photo = builders.photo(workspace, 1)
    builders.add(workspace, *(builders.record(f"r{i}", group_key="same", photos=(photo,)) for i in range(3)))
    page = client.get("/listing/r0").text
    assert 'alt="Photo 1 of 1"' in page and f"/media/{photo.sha256}.jpg" in page
    assert "Near-duplicates" in page and re.findall(r"<code>(r\d)</code>", page) == ["r1", "r2"]


def test_annotations_without_a_listing_are_shown(client: FlaskClient, workspace: Workspace) -> None:
    """They came before it."""
    review_world.answer(workspace, "early", LAMPS)
    page = client.get("/listing/early")
    assert page.status_code == 200 and "A listing that is not here" in page.text and "anna" in page.text


def test_a_bare_listing_has_a_page(client: FlaskClient, workspace: Workspace) -> None:
    """No title, text, price, photo, category or seller."""
    bare = builders.record("bare", title="", description="", price=None, category=None, seller_ref=None, attributes={})
    builders.add(workspace, dataclasses.replace(bare, currency=None))
    words = _words(client.get("/listing/bare").text)
    assert "(no title)" in words and "No photo." in words and "No description." in words and "No label." in words


def test_hostile_text_is_inert_and_shortened(client: FlaskClient, workspace: Workspace) -> None:
    """In every field that a seller, moderator or reporter fills; a megabyte of title is cut (fault 59)."""
    builders.add(
        workspace,
        builders.record(
            "r1",
            title=EVIL + "x" * 2**20,
            description=EVIL + TRICKS,
            seller_ref=EVIL[:200],
            category=f"Home / {EVIL}",
            attributes={EVIL: EVIL, "deep": {"a": [EVIL]}},
        ),
    )
    review_world.answer(workspace, "r1", f"Home / {EVIL}", EVIL[:60])
    page = client.get("/listing/r1").text
    assert "<script" not in page and "<img src=x" not in page and "49" not in page.split("</header>")[1].split("<time")[0]
    assert TRICKS in page and "1,048,6" in page and len(page) < 60_000
    assert faults(page) == [] and page.count("<main") == 1


def test_a_note_and_a_wrong_answer_are_told(client: FlaskClient, workspace: Workspace) -> None:
    """What was said is shown as it was said, inert."""
    review_world.catalog(workspace, 1)
    event = dataclasses.replace(review_world._event("r000", LAMPS, "anna"), note=EVIL)
    with workspace.db.write() as session:
        labels.apply_event(session, event, via="webhook", now=event.at)
    page = client.get("/listing/r000").text
    assert "Note: &lt;script&gt;" in page and "<script" not in page


def test_the_history_downloads(client: FlaskClient, workspace: Workspace) -> None:
    """As CSV, where nothing can start a formula, and as JSON."""
    builders.add(workspace, builders.record("r1", category="=1+1"))
    assert client.get("/listing/r1?table=history&as=csv").status_code == 200
    rows = client.get("/listing/r1?table=history&as=json").json
    assert isinstance(rows, list) and {row["kind"] for row in rows} == {"read", "label"}


# Undoing


def test_a_repair_is_undone_with_a_reason(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """The seller's label comes back; who did it and why is kept; no later run repairs the listing."""
    listing_id = _repaired(workspace, now)
    assert "Run 7 changed it without asking anybody." in client.get("/listing/r000").text
    page = client.post("/listing/undo", data={"ref": "r000", "reason": "It is a rake."}, follow_redirects=True).text
    assert (
        "The repair is undone" in page
        and "Reason: It is a rake." in page
        and builders.label(workspace, "r000") == (GARDEN, "seller")
    )
    with workspace.db.write() as session:
        kept = session.execute(select(LabelHistory.evidence).order_by(LabelHistory.id.desc()).limit(1)).scalar_one()
        assert labels.refurbish(session, Question.CATEGORY, {listing_id: (LAMPS, 0.99)}, run_id=8, now=now) == 0
    assert kept == {"rule": "undone", "run": 7, "by": "ada", "reason": "It is a rake."}


def test_undoing_twice_changes_nothing_more(client: FlaskClient, workspace: Workspace, now: datetime) -> None:
    """The double submit and the back button."""
    _repaired(workspace, now)
    form = {"ref": "r000", "reason": "wrong"}
    first, second = (client.post("/listing/undo", data=form, follow_redirects=True).text for _ in range(2))
    assert "The repair is undone" in first and "There is no repair to undo" in second
    with workspace.db.read() as session:
        assert len(session.execute(select(LabelHistory.id)).all()) == 5


@pytest.mark.parametrize(
    "form", [{"ref": "r000"}, {"ref": "r000", "reason": "  "}, {"ref": "r001", "reason": "x"}, {"ref": "7", "reason": "x"}]
)
def test_without_reason_or_repair_nothing_is_undone(
    client: FlaskClient, workspace: Workspace, now: datetime, form: dict[str, str]
) -> None:
    """A ref that looks like a run undoes no run."""
    _repaired(workspace, now)
    assert client.post("/listing/undo", data=form).status_code == 303
    assert builders.label(workspace, "r000") == (LAMPS, "refurbished")


def test_a_moderator_reads_and_undoes_nothing(app: Flask, workspace: Workspace, now: datetime) -> None:
    """The history is theirs to read; the form and the route are for engineers."""
    _repaired(workspace, now)
    moderator = as_role(app, workspace, Role.MODERATOR, now)
    page = moderator.get("/listing/r000")
    assert page.status_code == 200 and "Undo the" not in page.text
    assert moderator.post("/listing/undo", data={"ref": "r000", "reason": "x"}).status_code == 403


def test_listings_are_loaded_with_all_columns(workspace: Workspace) -> None:
    """The column made by the database does not stand in the way of reading or writing listings."""
    review_world.catalog(workspace, 1)
    with workspace.db.write() as session:
        assert listings.upsert(session, [builders.record("r000", title="New")], now=review_world.NOW).n_changed == 1
