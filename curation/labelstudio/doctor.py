"""Is the connection whole? Each check says what it found and what to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from curation.errors import ConfigError, LabelStudioError
from curation.labelstudio import backend, hook, labelconfig, project
from curation.labelstudio.client import Client
from curation.labelstudio.reconcile import DRIFT
from curation.store.workspace import Workspace, get_state

SETUP = "run `refurbish labelstudio setup`"
TESTED_SERVER = "1.23"
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold."""

    name: str
    ok: bool
    found: str
    advice: str = ""


def check(workspace: Workspace) -> list[Check]:
    """All checks, in the order in which one depends on another; later ones are left out after a fatal one."""
    return list(_checks(workspace))


def _checks(workspace: Workspace) -> Iterator[Check]:
    try:
        opened = Client.of(workspace.settings)
    except ConfigError as error:
        yield Check("configured", False, str(error), "set it in refurbish.toml or the environment")
        return
    yield Check("configured", True, opened.url)
    with opened as client:
        yield from _server(client)
        user = _tried("token", lambda: f"user {client.request('GET', '/api/current-user/whoami', what='use the token')['email']}")
        yield user
        if user.ok:
            yield from _project(workspace, client)
    yield _service(workspace)
    yield _reconciled(workspace)


def _server(client: Client) -> Iterator[Check]:
    def version() -> str:
        return str(client.request("GET", "/api/version", what="read the version")["release"])

    found = _tried("server answers", version)
    yield found
    if found.ok:
        is_tested = found.found.startswith(TESTED_SERVER)
        yield Check("server version", is_tested, found.found, "" if is_tested else f"only {TESTED_SERVER} is tested")


def _project(workspace: Workspace, client: Client) -> Iterator[Check]:
    try:
        with workspace.db.read() as session:
            ours, config = project.require(session, client), project.page(session, workspace)
        theirs = project.fetch(client, ours.id)
    except (ConfigError, LabelStudioError) as error:
        yield Check("project", False, str(error), SETUP)
        return
    yield Check("project", True, f"{ours.id} {theirs['title']!r} at {ours.url}")
    same = labelconfig.is_same(theirs["label_config"], config)
    yield Check("labeling page", same, "ours" if same else "differs from the taxonomy or policy in force", "" if same else SETUP)
    yield from _hook(workspace, client, ours.id)
    yield _suggestions(workspace, client, ours.id, theirs["model_version"] or "")


def _hook(workspace: Workspace, client: Client, project_id: int) -> Iterator[Check]:
    settings = workspace.settings
    try:
        hooks = hook.fetch(client, project_id)
        url, secret = hook.wanted_url(settings), hook.wanted_secret(settings)
    except (ConfigError, LabelStudioError) as error:
        yield Check("webhook", False, str(error), SETUP)
        return
    mine = hook.ours(hooks, url)
    if not mine:
        yield Check("webhook", False, f"none of the project's {len(hooks)} webhooks delivers to {url}", SETUP)
        return
    wrong = hook.faults(mine[0], url, secret)
    yield Check(
        "webhook", not wrong, "; ".join(wrong) or f"delivers all {len(mine[0].actions)} actions to {url}", SETUP if wrong else ""
    )
    doubles = hook.doubles(hooks, settings)
    words = ", ".join(f"{double.id} to {double.url}" for double in doubles)
    yield Check(
        "no duplicate webhook",
        not doubles,
        f"also delivering here: {words}" if doubles else "one webhook",
        "delete it in the project's settings (an ML backend leaves one behind)" if doubles else "",
    )


def _suggestions(workspace: Workspace, client: Client, project_id: int, version: str) -> Check:
    """Whether Label Studio asks our model, and shows the predictions that were pushed."""
    try:
        rows, there = backend.fetch(client, project_id), project.versions(client, project_id)
    except LabelStudioError as error:
        return Check("live suggestions", False, str(error), SETUP)
    mine = backend.ours(rows, workspace.settings)
    if not mine:
        found = "not connected: tasks are prefilled when they are pushed, and not asked about again"
        return Check("live suggestions", True, found, f"{SETUP} while `refurbish serve` runs to connect them")
    wrong = [words for row in mine[:1] for words in backend.faults(row, workspace.settings)]
    wrong += ["they are connected twice"] if mine[1:] else []
    n = {name: n for name, n in there.items() if n}
    if n and version not in n:
        wrong.append(f"the project shows version {version or 'none'}, but its predictions are {', '.join(sorted(n))}")
    return Check(
        "live suggestions", not wrong, "; ".join(wrong) or f"connected, version {version or 'none yet'}", SETUP if wrong else ""
    )


def _service(workspace: Workspace) -> Check:
    """Whether our own service answers under the address that Label Studio and browsers are given."""
    url = f"{workspace.settings.service_url}/livez"
    try:
        status = httpx.get(url, timeout=TIMEOUT_S).status_code
    except httpx.HTTPError as error:
        return Check("service", False, f"{url}: {type(error).__name__}", "start `refurbish serve`, or correct public_url")
    ok = status == httpx.codes.OK
    return Check("service", ok, f"{url} answered {status}", "" if ok else "correct public_url: something else answers there")


def _reconciled(workspace: Workspace) -> Check:
    with workspace.db.read() as session:
        drift: dict[str, Any] = get_state(session, DRIFT) or {}
        now = workspace.db.now(session)
    if not drift:
        return Check("reconciliation", True, "not run yet; a worker runs it on a timer")
    age_s = (now - datetime.fromisoformat(drift["at"])).total_seconds()
    ok = age_s <= 10 * workspace.settings.reconcile_every_s
    found = f"{age_s:.0f} s ago, {drift['n_missed_total']} changes were not brought by webhooks so far"
    return Check("reconciliation", ok, found, "" if ok else "start `refurbish worker`, or run `refurbish labelstudio reconcile`")


def _tried(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except LabelStudioError as error:
        return Check(name, False, str(error), "start Label Studio, or correct label_studio_url and label_studio_token")
