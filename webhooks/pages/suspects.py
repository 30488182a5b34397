"""`/suspects`: doubted labels with photos and filters, and asking moderators about them."""

from typing import Any
from urllib.parse import urlencode

import numpy as np
from flask import Blueprint, flash, g, redirect, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from curation.review import branches, doubts
from curation.review.branches import Names
from curation.review.doubts import Asked, Doubt, Filter
from curation.store import violations
from curation.store.people import Role
from curation.types import NO_VIOLATION, Question
from webhooks import auth, service, tables
from webhooks.pages import arguments
from webhooks.pages.listing import address
from webhooks.tables import Column, Table

PAGE = 24
MOST_DOWNLOADED = 10_000
MOST_OFFERED = 500
"""With more categories than this the filters offer none to choose from; their names can be typed."""

STATES = {
    "waiting": "waits for moderators",
    "pushed": "with the moderators",
    "tie": "moderators disagree",
    "decided": "decided",
    "withdrawn": "asked once, withdrawn",
}
COLUMNS = (
    Column("rank", "Rank", "number"),
    Column("ref", "Listing", "code"),
    Column("title", "Title", "words"),
    Column("seller", "Seller"),
    Column("given", "Given"),
    Column("suggested", "Suggested"),
    Column("suggested_score", "Probability", "share"),
    Column("doubt", "Doubt", "share"),
    Column("asked", "Moderators"),
    Column("reasons", "Why", "words"),
)

blueprint = Blueprint("suspects", __name__)


@blueprint.get("/suspects")
@auth.needs(Role.ENGINEER)
def show() -> Any:
    """Doubted labels, most doubtful first."""
    wanted, after = _filter(), arguments.whole("after")
    with service.current().workspace.db.read() as session:
        known = branches.names(session)
        found = doubts.page(session, wanted, known, after_rank=after, limit=PAGE + 1)
        offered = _offered(session, wanted.question, known)
        unknown = [name for name in (wanted.branch, wanted.given, wanted.suggested) if name and name not in offered]
    older = _address(wanted, after=found[PAGE - 1].rank) if len(found) > PAGE else None
    table = Table("doubted", "Doubted labels", COLUMNS, [_row(one) for one in found[:PAGE]], whole=lambda: _whole(wanted))
    return tables.page(
        "suspects.html",
        table,
        wanted=wanted,
        found=[(one, address(one.listing.ref)) for one in found[:PAGE]],
        older=older,
        is_first=not after,
        offered=sorted(offered) if len(offered) <= MOST_OFFERED else [],
        unknown=unknown,
        states=STATES,
        most=doubts.MAX_ASKED,
        here=request.full_path,
    )


@blueprint.post("/suspects/ask")
@auth.needs(Role.ENGINEER)
def ask() -> Response:
    """Send the chosen ones, or all that match, to the moderators."""
    here, wanted = service.current().workspace, _filter()
    which = arguments.choice("which", ("chosen", "all"))
    chosen = arguments.ids("listing") if which == "chosen" else None
    if chosen == []:
        flash("Nothing was sent: no listing was chosen.")
        return redirect(_address(wanted), 303)
    with here.db.write() as session:
        known, now = branches.names(session), here.db.now(session)
        rng = np.random.default_rng([here.settings.seed, int(now.timestamp() * 1e6)])
        asked = doubts.ask(session, wanted, known, here.settings, by=g.person.name, now=now, rng=rng, listing_ids=chosen)
    flash(said(asked))
    return redirect(_address(wanted), 303)


def said(asked: Asked) -> str:
    """What became of the wish, in words."""
    parts = [f"{_listings(asked.n_sent)} sent to the moderators." if asked.n_sent else "Nothing was sent."]
    if asked.n_sent and not asked.is_connected:
        parts.append("They wait until Label Studio is connected: refurbish labelstudio setup, then refurbish labelstudio push.")
    if asked.n_already:
        parts.append(f"{_listings(asked.n_already)} asked about or decided before.")
    if asked.n_similar:
        parts.append(f"{_listings(asked.n_similar)} left out: near-duplicates of what is asked.")
    if asked.n_left:
        parts.append(f"{_listings(asked.n_left)} did not fit; send again for more.")
    return " ".join(parts)


def _listings(n: int) -> str:
    return f"{n:,} listing{'' if n == 1 else 's'}"


def _filter() -> Filter:
    return Filter(
        arguments.choice("question", list(Question)),
        branch=arguments.text("branch"),
        given=arguments.text("given"),
        suggested=arguments.text("suggested"),
        least_doubt=arguments.share("doubt"),
        is_unasked=arguments.choice("asked", ("any", "no")) == "no",
    )


def _address(wanted: Filter, after: int = 0) -> str:
    said = {
        "question": wanted.question.value,
        "branch": wanted.branch,
        "given": wanted.given,
        "suggested": wanted.suggested,
        "doubt": f"{100 * wanted.least_doubt:g}" if wanted.least_doubt else "",
        "asked": "no" if wanted.is_unasked else "",
        "after": str(after or ""),
    }
    return f"{url_for('suspects.show')}?{urlencode({name: value for name, value in said.items() if value})}"


def _offered(session: Session, question: Question, known: Names) -> set[str]:
    """Names that the filters know."""
    if question is Question.CATEGORY:
        return set(known.present | known.renames.keys())
    return {*violations.names(session, service.current().workspace.settings), NO_VIOLATION}


def _row(one: Doubt) -> dict[str, Any]:
    return {
        "rank": one.rank,
        "ref": one.listing.ref,
        "title": one.listing.title,
        "seller": one.seller,
        "given": one.given,
        "suggested": one.suggested,
        "suggested_score": round(one.suggested_score, 6),
        "doubt": round(one.doubt, 6),
        "asked": STATES.get(one.asked or ""),
        "reasons": " ".join(reason.words for reason in one.reasons),
    }


def _whole(wanted: Filter) -> list[dict[str, Any]]:
    """All that match, the 10,000 most doubtful of them at most."""
    with service.current().workspace.db.read() as session:
        return [_row(one) for one in doubts.page(session, wanted, branches.names(session), limit=MOST_DOWNLOADED)]
