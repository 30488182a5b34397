"""The one border to Label Studio: its SDK, opened lazily, and its errors as `LabelStudioError`.

Reads may be repeated by the SDK; writes never are (`ONCE`), since Label Studio dedupes nothing:
a dropped connection during an import does not say whether the tasks were made.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from curation.errors import ConfigError, LabelStudioError, shorten
from curation.labelstudio import wire

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

    from curation.settings import Settings

TIMEOUT_S = 60
IMPORT_TIMEOUT_S = 600
"""A big import goes on in the server after a client gave up, so we do not give up early."""

ONCE: Any = {"max_retries": 0}
ONCE_PATIENTLY: Any = {"max_retries": 0, "timeout_in_seconds": IMPORT_TIMEOUT_S}

CREDENTIAL = re.compile(r"\b(Token|Bearer)\s+\S+")


class Unanswered(LabelStudioError):
    """The request may or may not have been carried out: no answer came."""


class NotThere(LabelStudioError):
    """Label Studio has no such project, task or annotation (404)."""


class Client:
    """One Label Studio with one token, legacy or personal. A context manager: connections end with it."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._token = token

    @classmethod
    def of(cls, settings: "Settings") -> "Client":
        """The Label Studio of these settings. Raises ConfigError if it is not configured."""
        if not settings.label_studio_url:
            raise ConfigError("label_studio_url is not set; name the address of Label Studio, such as http://127.0.0.1:8080")
        if not settings.label_studio_token.get_secret_value():
            raise ConfigError("label_studio_token is not set; copy an access token from Label Studio's account page")
        return cls(settings.label_studio_url, settings.label_studio_token.get_secret_value())

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_error: object) -> None:
        if "sdk" in self.__dict__:
            self.sdk._client_wrapper.httpx_client.httpx_client.close()

    @functools.cached_property
    def sdk(self) -> "LabelStudio":
        """The SDK's client. Its import takes seconds, so only what talks to Label Studio pays for it."""
        import label_studio_sdk

        return label_studio_sdk.LabelStudio(
            base_url=self.url, api_key=self._token, timeout=TIMEOUT_S, httpx_client=wire.opened(TIMEOUT_S)
        )

    @contextmanager
    def doing(self, what: str) -> Iterator["LabelStudio"]:
        """Use the SDK; whatever it raises becomes a LabelStudioError about `what`, without the token."""
        try:
            yield self.sdk
        except LabelStudioError:
            raise
        except httpx.ConnectError as error:
            raise LabelStudioError(self._clean(f"cannot {what}: {self.url} is not reachable ({error}); is it running?")) from None
        except httpx.TransportError as error:
            kind = type(error).__name__
            raise Unanswered(self._clean(f"cannot {what}: {self.url} did not answer ({kind}: {error})")) from None
        except Exception as error:
            raise self._translated(what, error) from None

    def request(
        self, method: str, path: str, *, what: str, json_body: Any = None, timeout_s: float = TIMEOUT_S, **params: Any
    ) -> Any:
        """The JSON answer of an endpoint that the SDK does not have, or parses slowly."""
        with self.doing(what) as sdk:
            wrapper = sdk._client_wrapper
            reply = wrapper.httpx_client.httpx_client.request(
                method, f"{self.url}{path}", json=json_body, params=params, headers=wrapper.get_headers(), timeout=timeout_s
            )
            body = _body(reply.text)
            if not reply.is_success:  # before anything is read: error bodies have an `id` too
                raise self._refused(what, reply.status_code, body)
            return body

    def tasks(
        self,
        project_id: int,
        filters: Sequence[Mapping[str, Any]],
        order_by: str,
        *,
        page_size: int,
        **params: Any,
    ) -> list[dict[str, Any]]:
        """The first page of tasks that pass all filters; empty if there is none (Label Studio may say 404)."""
        query = json.dumps({"filters": {"conjunction": "and", "items": list(filters)}, "ordering": [f"tasks:{order_by}"]})
        try:
            found = self.request(
                "GET", "/api/tasks", what="list tasks", project=project_id, page_size=page_size, query=query, **params
            )
        except NotThere:
            return []
        tasks: list[dict[str, Any]] = found["tasks"] if isinstance(found, dict) else found
        return tasks

    def exists(self, path: str) -> bool:
        """Whether an object is there."""
        try:
            self.request("GET", path, what=f"look at {path}")
        except NotThere:
            return False
        return True

    def _translated(self, what: str, error: Exception) -> LabelStudioError:
        status = getattr(error, "status_code", None)
        if isinstance(status, int):
            return self._refused(what, status, getattr(error, "body", None))
        return LabelStudioError(self._clean(f"cannot {what}: {type(error).__name__}: {shorten(str(error), 300)}"))

    def _refused(self, what: str, status: int, body: object) -> LabelStudioError:
        kind = NotThere if status == httpx.codes.NOT_FOUND else LabelStudioError
        return kind(self._clean(f"cannot {what}: Label Studio answered {status}: {_detail(body)}{_advice(status)}"))

    def _clean(self, message: str) -> str:
        return CREDENTIAL.sub(r"\1 …", message.replace(self._token, "…"))


def task_filter(name: str, operator: str, kind: str, value: object) -> dict[str, Any]:
    """One condition on a task's field, in the Data Manager's language."""
    return {"filter": f"filter:tasks:{name}", "operator": operator, "type": kind, "value": value}


def _body(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return text


def _detail(body: object) -> str:
    if not isinstance(body, Mapping):
        return shorten(body, 300)
    parts = [str(body[key]) for key in ("detail", "validation_errors") if body.get(key)]
    return shorten("; ".join(parts) or dict(body), 500)


def _advice(status: int) -> str:
    if status == httpx.codes.UNAUTHORIZED:
        return "; check label_studio_token (a legacy token must be allowed in Label Studio's organization settings)"
    if status == httpx.codes.FORBIDDEN:
        return "; the token's user may not do this, or Label Studio's SSRF guard refuses the address"
    return ""
