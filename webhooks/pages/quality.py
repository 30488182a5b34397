"""`/quality`: how labels are wrong, by branch of the taxonomy, and the listings behind each number."""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, abort, flash, redirect, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from curation.errors import NotFoundError
from curation.review import branches, decisions, doubts, insight, insight_schedule, matrix
from curation.review.branches import Names
from curation.review.insight import Insight
from curation.review.matrix import Matrix
from curation.store.people import Role
from curation.store.workspace import Workspace
from curation.types import Question
from webhooks import auth, service, tables
from webhooks.kept import Kept
from webhooks.pages import arguments, quality_tables
from webhooks.pages.quality_tables import SAMPLES

DOUBTED_AGE_S = 10.0
INSIGHT_AGE_S = 3600.0
NAMES_AGE_S = 5.0
PAGE = 50

blueprint = Blueprint("quality", __name__)


@dataclass(frozen=True, slots=True)
class View:
    """What the address asks for, and what is known of it."""

    question: Question
    branch: str
    sample: str
    matrix: Matrix
    doubted: dict[str, int]
    insight: Insight | None
    counted: Kept[Any]


@blueprint.get("/quality")
@auth.needs(Role.ENGINEER)
def show() -> Any:
    """The noise matrix of one branch, figures by month, broad categories, and how moderators agree."""
    question, sample = arguments.choice("question", list(Question)), arguments.choice("sample", SAMPLES)
    found = _view(question, arguments.text("branch"), sample)
    shown = quality_tables.made(found.matrix, found.doubted, found.insight, question, sample)
    crumbs = [(name, _here(branch=name)) for name in branches.lineage(found.branch)]
    return tables.page("quality.html", *shown.tables, view=found, shown=shown, crumbs=crumbs, top=_here(branch=""))


@blueprint.post("/quality/count")
@auth.needs(Role.ENGINEER)
def count() -> Response:
    """Have the worker count what needs the whole catalog."""
    here = service.current()
    with here.workspace.db.write() as session:
        asked = insight_schedule.ask(session, now=here.workspace.db.now(session))
    flash("The worker counts anew; load this page again in a while." if asked else "The worker is counting already.")
    return redirect(url_for("quality.show"), 303)


@blueprint.get("/quality/cell")
@auth.needs(Role.ENGINEER)
def cell() -> Any:
    """The listings that moderators decided behind one cell of the matrix, by pages."""
    question, after = arguments.choice("question", list(Question)), arguments.whole("after")
    given, true, outside = (arguments.text(name) for name in ("given", "true", "outside"))
    audit_only = arguments.choice("sample", SAMPLES) == "audit"
    known = _names()
    if outside and outside not in known.present:
        abort(404)
    wanted = known.under(true) if true else None
    if outside:
        wanted = (known.present | known.renames.keys()) - known.under(outside)
    with service.current().workspace.db.read() as session:
        rows = decisions.behind(
            session,
            question,
            given=known.under(given) if given else None,
            true=wanted,
            audit_only=audit_only,
            after_id=after,
            limit=PAGE + 1,
        )
    older = _here("quality.cell", after=rows[PAGE - 1].listing.id) if len(rows) > PAGE else None
    table = quality_tables.decided(rows[:PAGE], known, older)
    words = (given or "any label", true or (f"outside {outside}" if outside else "any label"))
    return tables.page("cell.html", table, words=words, question=question, audit_only=audit_only, is_first=not after)


def _view(question: Question, branch: str, sample: str) -> View:
    here, known = service.current(), _names()
    keeper, ask = here.keeper, partial(_fresh, here.workspace)
    branch = _present(known, branch) if question is Question.CATEGORY else ""
    decided, insight_at = ask(_versions)
    tally = partial(ask, decisions.tally, question, known)
    counted = keeper.get(("decisions", question), tally, version=decided)
    doubted = keeper.get(("doubted", question, branch), partial(ask, doubts.counts, question, known, branch), age_s=DOUBTED_AGE_S)
    figures: Insight | None = keeper.get(("insight",), partial(ask, insight.load), version=insight_at, age_s=INSIGHT_AGE_S).value
    model = figures.model if figures is not None and question is Question.CATEGORY else None
    expected = None if model is None else model.expected
    made = partial(matrix.of, branch, counted.value, expected)
    found = keeper.get(("matrix", question, branch), made, version=(decided, insight_at, counted.at)).value
    return View(question, branch, sample, found, doubted.value, figures, counted)


def _versions(session: Session) -> tuple[Hashable, Hashable]:
    """What changes with every decision, and with every count of the worker."""
    return decisions.version(session), insight_schedule.counted_at(session)


def _present(known: Names, branch: str) -> str:
    """What this branch is called now; 404 where there is none."""
    try:
        known.require(branch)
    except NotFoundError:
        abort(404)
    return known.now(branch)


def _names() -> Names:
    here = service.current()
    found: Names = here.keeper.get(("names",), partial(_fresh, here.workspace, branches.names), age_s=NAMES_AGE_S).value
    return found


def _fresh(workspace: Workspace, ask: Any, *wanted: Any) -> Any:
    """Asked in a session of its own: it may run after the answer is sent, and nobody may hold another one meanwhile."""
    with workspace.db.read() as session:
        return ask(session, *wanted)


def _here(endpoint: str = "quality.show", **changes: Any) -> str:
    """The present address with these arguments instead."""
    kept = {name: value for name, value in request.args.items() if name not in (tables.TABLE, tables.AS)}
    said = {name: value for name, value in {**kept, **changes}.items() if value != ""}
    return f"{url_for(endpoint)}{'?' if said else ''}{urlencode(said)}"
