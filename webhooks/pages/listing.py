"""`/listing`: finding listings, and everything that is known of one."""

import json
import re
from typing import Any

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from curation.errors import NotFoundError
from curation.release.splits import split_of
from curation.review import repair, timeline
from curation.review.timeline import Page
from curation.store import search
from curation.store.history import Doubted
from curation.store.people import Role
from curation.types import LabelSource, Question
from webhooks import auth, service, tables
from webhooks.pages import arguments
from webhooks.tables import Column, Table

SHOWN = 20
REF_LIMIT = 200
TITLE_SHOWN, TEXT_SHOWN, VALUE_SHOWN, NAME_SHOWN = 300, 4000, 200, 60
SHOWN_EVENTS = 200
REASON_LIMIT = 500
SIMPLE = re.compile(r"(?!\.+(/|$))[A-Za-z0-9._~-]+")
"""Refs that browsers leave alone in a path; others go into the query."""

COLUMNS = (
    Column("at", "When", "moment"),
    Column("kind", "What"),
    Column("question", "Question"),
    Column("who", "Who"),
    Column("words", "Happened", "words"),
    Column("evidence", "Evidence", "words"),
)

blueprint = Blueprint("listing", __name__)


def address(ref: str) -> str:
    """Where the page of a listing is, whatever characters its ref has."""
    return url_for("listing.show", ref=ref) if SIMPLE.fullmatch(ref) else url_for("listing.find", ref=ref)


@blueprint.get("/listing")
@auth.needs(Role.MODERATOR)
def find() -> Any:
    """The page of `ref`, or listings whose ref or title begins with `q`."""
    if "ref" in request.args:
        return _page(arguments.exact("ref"))
    words = arguments.text("q")
    by_ref: list[search.Found] = []
    by_title: list[search.Found] = []
    if words:
        with service.current().workspace.db.read() as session:
            by_ref = search.by_ref(session, words[:REF_LIMIT], limit=SHOWN + 1)
            by_title = search.by_title(session, words, limit=SHOWN + 1)
        if len(by_ref) == 1 and by_ref[0].ref == words and not by_title:
            return redirect(address(words), 303)
    found = [("by ref", by_ref), ("by title", by_title)]
    return render_template("listings.html", words=words, found=found, shown=SHOWN, address=address)


@blueprint.get("/listing/<path:ref>")
@auth.needs(Role.MODERATOR)
def show(ref: str) -> Any:
    """Everything known of one listing."""
    return _page(ref)


@blueprint.post("/listing/undo")
@auth.needs(Role.ENGINEER)
def undo() -> Response:
    """Take back an automatic repair, with a reason; a second time changes nothing."""
    ref, reason = arguments.exact("ref"), arguments.text("reason", REASON_LIMIT)
    if not reason:
        flash("Nothing was changed: say why the repair should be undone.")
        return redirect(address(ref), 303)
    here = service.current().workspace
    by = g.person.name
    try:
        n = here.db.retrying(
            lambda s: repair.undo(s, repair.to_undo(s, f"{repair.REF}{ref}"), now=here.db.now(s), by=by, reason=reason)
        )
    except NotFoundError:
        n = 0
    flash("The repair is undone; no later run repairs this listing." if n else "There is no repair to undo (any more).")
    return redirect(address(ref), 303)


def _page(ref: str) -> Any:
    if "\x00" in ref or len(ref) > arguments.TEXT_LIMIT:
        abort(404)
    try:
        with service.current().workspace.db.read() as session:
            page = timeline.of(session, ref)
    except NotFoundError:
        return render_template("unknown_listing.html", ref=ref), 404
    rows = [
        {
            "at": event.at,
            "kind": event.kind,
            "question": event.question or None,
            "who": event.who or None,
            "words": event.words,
            "evidence": " ".join(event.evidence) or None,
        }
        for event in page.events
    ]
    table = Table("history", "History of the listing", COLUMNS, rows)
    return tables.page("listing.html", table, **_shown(page))


def _shown(page: Page) -> dict[str, Any]:
    listing, known = page.listing, page.history
    return {
        "page": page,
        "listing": listing,
        "title": _cut(listing.title, TITLE_SHOWN) if listing is not None else "",
        "n_title": len(listing.title) if listing is not None else 0,
        "text": _cut(listing.description, TEXT_SHOWN) if listing is not None else "",
        "n_text": len(listing.description) if listing is not None else 0,
        "attributes": [] if listing is None else _attributes(listing.attributes),
        "split": None if known.group_key is None else split_of(known.group_key).value,
        "events": page.events[:SHOWN_EVENTS],
        "n_events": len(page.events),
        "current": [(question.value, next((x for x in known.labels if x.question == question), None)) for question in Question],
        "doubts": _doubts(page),
        "sources": timeline.SOURCES,
        "address": address,
        "may_undo": page.is_repaired and g.person.role.covers(Role.ENGINEER),
        "reason_limit": REASON_LIMIT,
    }


def _doubts(page: Page) -> dict[str, Doubted]:
    """By question; what moderators decided is not doubted, whatever an earlier run thought."""
    decided = {one.question for one in page.history.labels if one.source == LabelSource.MODERATORS.value}
    return {one.question: one for one in page.history.suspects if one.is_issue and one.question not in decided}


def _attributes(found: Any) -> list[tuple[str, str]]:
    said = {key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in found.items()}
    return [(_cut(key, NAME_SHOWN), _cut(value, VALUE_SHOWN)) for key, value in list(said.items())[:SHOWN]]


def _cut(words: str, limit: int) -> str:
    return words if len(words) <= limit else f"{words[:limit]}…"
