"""Our service as the project's ML backend: what it must be, whether it is, and putting it right.

Label Studio makes a webhook of its own for every backend, which carries no secret and would bring each event twice. It makes
none where one of that address is there, so an idle one of ours takes the place.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx

from curation.errors import LabelStudioError
from curation.labelstudio import hook
from curation.labelstudio.client import ONCE, Client

if TYPE_CHECKING:
    from curation.settings import Settings

PATH = "/ml"
TITLE = "Refurbish suggestions"
USER = "refurbish"
METHOD = "BASIC_AUTH"
CONNECTED = "CO"
TIMEOUT_S = 3.0

Row = Mapping[str, Any]


def wanted_url(settings: "Settings") -> str:
    """Where our service answers for its model."""
    return settings.service_url + PATH


def fetch(client: Client, project_id: int) -> list[Row]:
    """The project's backends; Label Studio tries each of them for this."""
    rows: list[Row] = client.request("GET", "/api/ml/", what="list ML backends", project=project_id)
    return sorted(rows, key=lambda row: int(row["id"]))


def ours(rows: list[Row], settings: "Settings") -> list[Row]:
    """Those that are our service, also under an earlier address."""
    return [row for row in rows if row["url"].rstrip("/") == wanted_url(settings) or row["title"] == TITLE]


def faults(row: Row, settings: "Settings") -> list[str]:
    """What is wrong with a backend of ours, in words."""
    url = wanted_url(settings)
    checks = (
        (row["url"].rstrip("/") != url, f"it asks {row['url']}, not {url}"),
        (row["auth_method"] != METHOD or row["basic_auth_user"] != USER, "it does not send our secret"),
        (row["state"] != CONNECTED, f"Label Studio does not reach it: {row['error_message'] or row['readable_state']}"),
    )
    return [words for is_wrong, words in checks if is_wrong]


def ensure(client: Client, project_id: int, settings: "Settings") -> tuple[list[str], list[str]]:
    """Connect our service, once; what was changed and what could not be, in words.

    Label Studio tries a backend before it takes it, so a service that does not run yet is not connected.
    """
    mine = ours(fetch(client, project_id), settings)
    if mine and not mine[1:] and not faults(mine[0], settings):
        return [], []
    if problem := _unreachable(settings):
        return [], [f"live suggestions are not connected: {problem}; start `refurbish serve`, then run this again"]
    changed = _hold_place(client, project_id, settings)
    try:
        changed += _connect(client, project_id, settings, mine)
    except LabelStudioError as error:
        return changed, [f"live suggestions are not connected: {error}"]
    return changed, []


def remove(client: Client, project_id: int, settings: "Settings") -> list[str]:
    """Disconnect our service and give up the webhook that held the place; what was changed, in words."""
    changed = []
    for row in ours(fetch(client, project_id), settings):
        _delete(client, row)
        changed.append("live suggestions disconnected")
    for idle in hook.fetch(client, project_id):
        if hook.holds_place(idle):
            with client.doing("delete an idle webhook") as sdk:
                sdk.webhooks.delete(idle.id, request_options=ONCE)
            changed.append("idle webhook deleted")
    return changed


def _unreachable(settings: "Settings") -> str:
    url = f"{wanted_url(settings)}/health"
    try:
        status = httpx.get(url, timeout=TIMEOUT_S).status_code
    except httpx.HTTPError as error:
        return f"{url}: {type(error).__name__}"
    return "" if status == httpx.codes.OK else f"{url} answered {status}"


def _hold_place(client: Client, project_id: int, settings: "Settings") -> list[str]:
    """An idle webhook where Label Studio would put its own; one of its own is made idle."""
    url = wanted_url(settings) + "/webhook"
    fields: dict[str, Any] = {
        "url": url,
        "headers": {hook.HEADER: hook.wanted_secret(settings)},
        "is_active": False,
        "send_payload": True,
        "send_for_all_actions": False,
        "actions": [],
    }
    there = [one for one in hook.fetch(client, project_id) if one.url == url or hook.holds_place(one)]
    if not there:
        body = {**fields, "project": project_id}
        client.request("POST", "/api/webhooks/", what=f"create the idle webhook to {url}", json_body=body)
        return []
    if there[0].url != url or not hook.holds_place(there[0]):
        client.request("PATCH", f"/api/webhooks/{there[0].id}/", what="make a webhook idle", json_body=fields)
        return ["the webhook of the ML backend made idle"]
    return []


def _connect(client: Client, project_id: int, settings: "Settings", mine: list[Row]) -> list[str]:
    fields: dict[str, Any] = {
        "project": project_id,
        "url": wanted_url(settings),
        "title": TITLE,
        "is_interactive": False,
        "auth_method": METHOD,
        "basic_auth_user": USER,
        "basic_auth_pass": hook.wanted_secret(settings),
    }
    for double in mine[1:]:
        _delete(client, double)
    if not mine:
        client.request("POST", "/api/ml/", what="connect live suggestions", json_body=fields)
        return ["live suggestions connected"]
    wrong = faults(mine[0], settings)
    client.request("PATCH", f"/api/ml/{mine[0]['id']}", what="repair live suggestions", json_body=fields)
    return [f"live suggestions repaired: {'; '.join(wrong) or 'they were connected twice'}"]


def _delete(client: Client, row: Row) -> None:
    client.request("DELETE", f"/api/ml/{row['id']}", what=f"disconnect ML backend {row['id']}")
