"""Our webhook at Label Studio: what it must be, whether it is, and putting it right."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curation.errors import ConfigError
from curation.labelstudio.client import ONCE, Client
from curation.labelstudio.payloads import ACTIONS

if TYPE_CHECKING:
    from curation.settings import Settings

PATH = "/hooks/labelstudio"
"""Fixed and without redirects: Label Studio follows a 302 as a GET and the body is lost."""

HEADER = "X-Refurbish-Secret"
PLACE = "/ml/webhook"
"""The end of the address where Label Studio would make a webhook of its own for our suggestions."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook as Label Studio has it."""

    id: int
    url: str
    headers: Mapping[str, str]
    is_active: bool
    send_payload: bool
    actions: frozenset[str]
    sends_all: bool

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Hook":
        return cls(
            id=row["id"],
            url=row["url"],
            headers=row.get("headers") or {},
            is_active=bool(row["is_active"]),
            send_payload=bool(row["send_payload"]),
            actions=frozenset(row.get("actions") or ()),
            sends_all=bool(row["send_for_all_actions"]),
        )


def wanted_url(settings: "Settings") -> str:
    """Where our service receives."""
    return settings.service_url + PATH


def wanted_secret(settings: "Settings") -> str:
    """The header's value. Raises ConfigError if none is set."""
    secret = settings.webhook_secret.get_secret_value()
    if not secret:
        raise ConfigError(
            "webhook_secret is not set; set REFURBISH_WEBHOOK_SECRET to a long random text for service and set-up alike"
        )
    return secret


def fetch(client: Client, project_id: int) -> list[Hook]:
    """The project's webhooks."""
    rows = client.request("GET", "/api/webhooks/", what="list webhooks", project=project_id)
    return sorted((Hook.of(row) for row in rows), key=lambda hook: hook.id)


def holds_place(hook: Hook) -> bool:
    """An idle one of ours, which keeps Label Studio from making one without our secret."""
    return not hook.is_active and HEADER in hook.headers and hook.url.endswith(PLACE)


def ours(hooks: Iterable[Hook], url: str) -> list[Hook]:
    """Hooks that deliver to our receiver, and earlier ones of ours under another address."""
    found = [hook for hook in hooks if hook.url == url or (HEADER in hook.headers and not holds_place(hook))]
    return sorted(found, key=lambda hook: (hook.url != url, hook.id))


def faults(hook: Hook, url: str, secret: str) -> list[str]:
    """What is wrong with a hook of ours, in words."""
    missing = sorted(set(ACTIONS) - hook.actions)
    checks = (
        (hook.url != url, f"it delivers to {hook.url}, not to {url}"),
        (not hook.is_active, "it is switched off"),
        (not hook.send_payload, "it sends no payload"),
        (bool(missing) and not hook.sends_all, f"it does not send {', '.join(missing)}"),
        (hook.headers.get(HEADER) != secret, f"its header {HEADER} does not hold our secret"),
    )
    return [words for is_wrong, words in checks if is_wrong]


def doubles(hooks: Iterable[Hook], settings: "Settings") -> list[Hook]:
    """Hooks that bring the same events to our service a second time, such as one left by an ML backend."""
    kept = ours(hooks, wanted_url(settings))[:1]
    others = (hook for hook in hooks if hook not in kept and not holds_place(hook))
    return [hook for hook in others if hook.url.startswith(settings.service_url + "/")]


def examine(client: Client, project_id: int, settings: "Settings") -> list[str]:
    """What is wrong with how we are told, in words; empty if all is well."""
    hooks, url = fetch(client, project_id), wanted_url(settings)
    mine = ours(hooks, url)
    if not mine:
        return [f"no webhook delivers to {url}"]
    twice = [f"webhook {hook.id} delivers here too, to {hook.url}" for hook in doubles(hooks, settings)]
    return faults(mine[0], url, wanted_secret(settings)) + twice


def ensure(client: Client, project_id: int, settings: "Settings") -> tuple[int, list[str]]:
    """Make our webhook exactly what it must be; its id and what was changed, in words."""
    url, secret = wanted_url(settings), wanted_secret(settings)
    mine = ours(fetch(client, project_id), url)
    changed = []
    for double in mine[1:]:
        with client.doing("delete a duplicate webhook") as sdk:
            sdk.webhooks.delete(double.id, request_options=ONCE)
        changed.append(f"duplicate webhook {double.id} deleted")
    fields: dict[str, Any] = {
        "url": url,
        "headers": {HEADER: secret},
        "is_active": True,
        "send_payload": True,
        "send_for_all_actions": False,
        "actions": list(ACTIONS),  # always the full list: an update without it empties it
    }
    if not mine:
        body = {**fields, "project": project_id}
        made = client.request("POST", "/api/webhooks/", what=f"create the webhook to {url}", json_body=body)
        return int(made["id"]), [*changed, "webhook created"]
    wrong = faults(mine[0], url, secret)
    if wrong:
        client.request("PATCH", f"/api/webhooks/{mine[0].id}/", what="update the webhook", json_body=fields)
        changed.append(f"webhook repaired: {'; '.join(wrong)}")
    return mine[0].id, changed
