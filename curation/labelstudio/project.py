"""The project in Label Studio: created or brought up to date, with its page, its webhook and live suggestions."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from curation.errors import ConfigError, LabelStudioError
from curation.labelstudio import backend, hook, labelconfig
from curation.labelstudio.client import ONCE, Client, NotThere
from curation.labelstudio.payloads import source_of
from curation.release import registry
from curation.review import suggestions
from curation.store import taxonomy, violations
from curation.store.workspace import Workspace, get_state, set_state

STATE = registry.PROJECT

FIXED = {
    "description": "Listings whose label is doubted. Tasks, suggestions and this page are kept by Refurbish.",
    "expert_instruction": "Pick the category the item belongs to, whatever the seller said. Tick every violation that applies, "
    "or “Nothing wrong”. Press Skip if you cannot tell: a skip is better than a guess.",
    "enable_empty_annotation": False,
    "show_collab_predictions": True,
    "show_skip_button": True,
    "skip_queue": "REQUEUE_FOR_OTHERS",
    "sampling": "Uncertainty sampling",
}
"""Project settings we rely on. Uncertainty sampling gives out the lowest score first, and ours is 1 less the priority."""


@dataclass(frozen=True, slots=True)
class Project:
    """The project as remembered by the last set-up."""

    id: int
    url: str

    @property
    def source(self) -> str:
        return source_of(self.id)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a set-up did. `changed` is empty when all was right already."""

    project_id: int
    url: str
    webhook_id: int
    is_new: bool
    changed: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())  #: what could not be done, and what to do about it


def find(session: Session) -> Project | None:
    """The project of this workspace, if it was set up."""
    state = get_state(session, STATE)
    return None if state is None else Project(int(state["id"]), str(state["url"]))


def require(session: Session, client: Client) -> Project:
    """The project of this workspace. Raises ConfigError if it was not set up, or for another Label Studio."""
    found = find(session)
    if found is None:
        raise ConfigError("there is no Label Studio project yet; run `refurbish labelstudio setup`")
    if not found.url.startswith(client.url + "/"):
        raise ConfigError(
            f"the project was set up at {found.url}, but label_studio_url is {client.url}; run `refurbish labelstudio setup`"
        )
    return found


def source_in_force(session: Session) -> str:
    """The source of bodies that name no project."""
    found = find(session)
    return found.source if found else source_of("unknown")


def fetch(client: Client, project_id: int) -> dict[str, Any]:
    """The project as Label Studio has it. Raises LabelStudioError if it is gone."""
    try:
        found: dict[str, Any] = client.request("GET", f"/api/projects/{project_id}/", what=f"read project {project_id}")
    except NotThere:
        raise LabelStudioError(
            f"project {project_id} is not in Label Studio any more; run `refurbish labelstudio setup` to make it anew"
        ) from None
    return found


def page(session: Session, workspace: Workspace) -> str:
    """The labeling page for the taxonomy and policy in force. Raises ConfigError while there is no taxonomy."""
    leaves = taxonomy.leaves(session)
    if not leaves:
        raise ConfigError("there are no categories yet; run `refurbish ingest` before setting Label Studio up")
    return labelconfig.build(leaves, violations.titles(session, workspace.settings))


def versions(client: Client, project_id: int) -> dict[str, int]:
    """Model version → number of predictions in the project; the project's own may have none."""
    found: dict[str, int] = client.request("GET", f"/api/projects/{project_id}/model-versions/", what="list model versions")
    return found


def set_version(client: Client, project_id: int, version: str) -> None:
    """Show, and order the queue by, predictions of this version; there must be some, or it is empty."""
    body = {"model_version": version}
    client.request("PATCH", f"/api/projects/{project_id}/", what="set the model version", json_body=body)


def settle_version(client: Client, project_id: int, wanted: str) -> str:
    """Name predictions that are there: those wanted, else the most numerous; the version in force now.

    A connected backend puts its title there, under which nobody would be shown anything. A version that has predictions
    stays: replacing it is a refresh.
    """
    theirs, there = fetch(client, project_id)["model_version"] or "", versions(client, project_id)
    if there.get(theirs):
        return str(theirs)
    best = max((name for name, n in there.items() if n), key=lambda name: (name == wanted, there[name]), default="")
    if best != theirs:
        set_version(client, project_id, best)
    return best


def require_our_page(found: dict[str, Any], config: str) -> None:
    """Refuse to push to a page that shows another taxonomy or other questions."""
    if not labelconfig.is_same(found["label_config"], config):
        raise LabelStudioError(
            "the project's labeling config differs from the taxonomy and policy in force; run `refurbish labelstudio setup` first"
        )


def setup(workspace: Workspace, now: datetime, *, suggests: bool = True) -> Setup:
    """Create the project or bring it up to date, then its webhook, then live suggestions (or none). Safe to repeat."""
    settings = workspace.settings
    hook.wanted_secret(settings)
    with workspace.db.read() as session:
        config, known, version = page(session, workspace), find(session), suggestions.version(session)
    with Client.of(settings) as client:
        project_id, is_new, changed = _ensure(client, known, settings.label_studio_project, config)
        url = f"{client.url}/projects/{project_id}"
        with workspace.db.write() as session:  # before the webhook: a failure there must not lose the project
            set_state(session, STATE, {"id": project_id, "url": url}, now=now)
        webhook_id, repaired = hook.ensure(client, project_id, settings)
        connected, notes = backend.ensure(client, project_id, settings) if suggests else ([], [])
        removed = [] if suggests else backend.remove(client, project_id, settings)
        settle_version(client, project_id, version)
    return Setup(project_id, url, webhook_id, is_new, (*changed, *repaired, *connected, *removed), tuple(notes))


def _ensure(client: Client, known: Project | None, title: str, config: str) -> tuple[int, bool, list[str]]:
    """The project's id, whether it is new, and what was changed."""
    found = _existing(client, known, title)
    wanted = {**FIXED, "title": title, "label_config": config}
    if found is None:
        with client.doing("create the project") as sdk:
            return int(sdk.projects.create(**wanted, request_options=ONCE).id), True, ["project created"]
    project_id = int(found["id"])
    differing = {name: value for name, value in wanted.items() if not _equal(name, found.get(name), value)}
    if not differing:
        return project_id, False, []
    client.request("PATCH", f"/api/projects/{project_id}/", what="update the project", json_body=differing)
    return project_id, False, [f"project updated: {', '.join(sorted(differing))}"]


def _existing(client: Client, known: Project | None, title: str) -> dict[str, Any] | None:
    """The project by its remembered id, else by its title."""
    if known is not None and known.url.startswith(client.url + "/"):
        try:
            found: dict[str, Any] = client.request("GET", f"/api/projects/{known.id}/", what="read the project")
            return found
        except NotThere:
            pass
    listed = client.request("GET", "/api/projects/", what="list projects", title=title, page_size=100)
    named = [row for row in listed["results"] if row["title"] == title]
    return fetch(client, min(row["id"] for row in named)) if named else None


def _equal(name: str, found: object, wanted: object) -> bool:
    return labelconfig.is_same(str(found), str(wanted)) if name == "label_config" else found == wanted
