"""Is it healthy, and is it getting better: the page at `/`, and the same facts for programs at `/api/v1/status`."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, g, jsonify

from curation import __version__
from curation.release import registry, trends
from curation.release import status as release_status
from curation.store import jobs
from curation.store.people import Role
from curation.store.workspace import Workspace, get_state, utc_now
from curation.types import LabelSource, Question
from webhooks import auth, service, tables
from webhooks.pages import overview_tables

STATES = {
    "review": ("waiting", "pushed", "tie", "decided", "withdrawn"),
    "inbox": ("received", "applied", "ignored", "quarantined"),
    "jobs": ("todo", "doing", "done", "dead"),
}
"""In the order of the page; a state that is not there counts 0."""

STATUS, STATUS_AGE_S = "status", 1.0
TRENDS, TRENDS_AGE_S = "trends", 10.0
DEAD_SHOWN = 10
APART = ("at", "label_studio")
"""What the page alone shows of the status."""

blueprint = Blueprint("overview", __name__)


@blueprint.get("/")
@auth.needs(Role.MODERATOR)
def show() -> str | Response:
    """Listings, labels, queues, live model, next retrain, and how they went over time."""
    found, over_time = gathered(), developed()
    counts = {f"{name}_rows": [(state, found[name].get(state, 0)) for state in states] for name, states in STATES.items()}
    shown = {**found, **counts, "labels": label_shares(found["labels"]), "version": __version__}
    return tables.page(
        "overview.html",
        *overview_tables.of(over_time),
        **shown,
        charts=overview_tables.drawn(over_time),
        dead_jobs=over_time["dead"],
        may_see_runs=g.person.role.covers(Role.ENGINEER),
        age_s=round((utc_now() - found["at"]).total_seconds()),
        trends_age_s=round((utc_now() - over_time["at"]).total_seconds()),
    )


@blueprint.get("/api/v1/status")
@auth.needs(Role.MODERATOR)
def status() -> Response:
    """What `refurbish status --json` prints, for a token of any role."""
    return jsonify({key: value for key, value in gathered().items() if key not in APART})


def gathered() -> dict[str, Any]:
    """Where the loop stands, a second old where counting is quick, and counted behind the answer where it is not."""
    here = service.current()
    return here.keeper.get(STATUS, lambda: _standing(here.workspace), age_s=STATUS_AGE_S).value


def developed() -> dict[str, Any]:
    """How the loop went over time; as `gathered`, at longer intervals."""
    here = service.current()
    return here.keeper.get(TRENDS, lambda: _trends(here.workspace), age_s=TRENDS_AGE_S).value


def count_ahead(here: service.Service) -> None:
    """Begin to count what the first visitor would have to wait for."""
    here.keeper.ahead(STATUS, lambda: _standing(here.workspace))
    here.keeper.ahead(TRENDS, lambda: _trends(here.workspace))


def _standing(workspace: Workspace) -> dict[str, Any]:
    with workspace.db.read() as session:
        found = release_status.gather(session, workspace.settings, now=workspace.db.now(session))
        project = get_state(session, registry.PROJECT) or {}
    return found | {"at": utc_now(), "label_studio": _http(project.get("url") or workspace.settings.label_studio_url)}


def _trends(workspace: Workspace) -> dict[str, Any]:
    with workspace.db.read() as session:
        now = workspace.db.now(session)
        return {
            "noise": trends.noise_by_week(session, now=now),
            "corrections": trends.corrections_by_day(session, now=now),
            "hooks": trends.hooks_by_day(session, now=now),
            "waiting": trends.waiting(session),
            "releases": trends.went_live(session),
            "dead": jobs.newest(session, state="dead", limit=DEAD_SHOWN),
            "now": now,
            "at": utc_now(),
        }


def label_shares(labels: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """For each question its sources with count, share and place in a bar of width 100."""
    shown = []
    for question in Question:
        counts = labels.get(question.value, {})
        total = sum(counts.values())
        rows, left = [], 0.0
        for source in LabelSource:
            share = counts.get(source.value, 0) / total if total else 0.0
            rows.append({"source": source.value, "n": counts.get(source.value, 0), "share": share, "left": 100 * left})
            left += share
        shown.append({"question": question.value, "total": total, "rows": rows})
    return shown


def _http(url: str) -> str | None:
    """The URL if it is one that a page may link to."""
    return url if url.startswith(("http://", "https://")) else None
