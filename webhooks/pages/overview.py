"""Is it healthy, and is it getting better: the page at `/`, and the same facts for programs at `/api/v1/status`."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, jsonify, render_template

from curation import __version__
from curation.release import status as release_status
from curation.store.people import Role
from curation.store.workspace import get_state, utc_now
from curation.types import LabelSource, Question
from webhooks import auth, service

PROJECT_KEY = "labelstudio.project"
STATES = {
    "review": ("waiting", "pushed", "tie", "decided", "withdrawn"),
    "inbox": ("received", "applied", "ignored", "quarantined"),
    "jobs": ("todo", "doing", "done", "dead"),
}
"""In the order of the page; a state that is not there counts 0."""

blueprint = Blueprint("overview", __name__)


@blueprint.get("/")
@auth.needs(Role.MODERATOR)
def show() -> str:
    """Listings, labels, queues, live model, next retrain."""
    found = gathered()
    shown = {**found, **_tables(found), "labels": label_shares(found["labels"]), "version": __version__}
    return render_template("overview.html", **shown)


@blueprint.get("/api/v1/status")
@auth.needs(Role.MODERATOR)
def status() -> Response:
    """What `refurbish status --json` prints, for a token of any role."""
    return jsonify({key: value for key, value in gathered().items() if key not in ("at", "label_studio")})


def gathered() -> dict[str, Any]:
    """Where the loop stands, at most a second old, however many ask."""
    here = service.current()

    def ask() -> dict[str, Any]:
        with here.workspace.db.read() as session:
            found = release_status.gather(session, here.workspace.settings, now=here.workspace.db.now(session))
            project = get_state(session, PROJECT_KEY) or {}
        return found | {"at": utc_now(), "label_studio": _http(project.get("url") or here.workspace.settings.label_studio_url)}

    return here.status.get(ask)


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


def _tables(found: Mapping[str, Any]) -> dict[str, list[tuple[str, int]]]:
    return {f"{name}_rows": [(state, found[name].get(state, 0)) for state in states] for name, states in STATES.items()}


def _http(url: str) -> str | None:
    """The URL if it is one that a page may link to."""
    return url if url.startswith(("http://", "https://")) else None
