"""Moderators who work through Label Studio's own pages: session cookie, CSRF, the bodies its editor sends."""

import re
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

CSRF = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


@dataclass
class Moderator:
    """One signed-in person. Every request carries their own session, as in the browser."""

    email: str
    password: str
    user_id: int
    session: httpx.Client

    @classmethod
    def sign_up(cls, url: str, invite: str, *, email: str, password: str) -> "Moderator":
        """Register through an invite link, or sign in if the account is there."""
        session = httpx.Client(base_url=url, timeout=60, follow_redirects=True)
        _post_form(session, httpx.URL(invite).raw_path.decode(), email=email, password=password)
        if session.get("/api/current-user/whoami").status_code != httpx.codes.OK:
            raise RuntimeError(f"Label Studio did not sign {email} up; is the invite link current?")
        user = session.get("/api/current-user/whoami").json()
        return cls(email, password, user["id"], session)

    def next_task(self, project_id: int) -> dict[str, Any] | None:
        """The task the labeling page would open now (it is locked for this person), or None."""
        reply = self.send("POST", f"/api/dm/actions?id=next_task&project={project_id}", {"project": str(project_id)})
        return None if reply.status_code == httpx.codes.NOT_FOUND else reply.raise_for_status().json()

    def task(self, task_id: int) -> dict[str, Any]:
        """A task with its predictions and all annotations."""
        found: dict[str, Any] = self.session.get(f"/api/tasks/{task_id}/").raise_for_status().json()
        return found

    def submit(
        self,
        task_id: int,
        category: str | None,
        violations: Collection[str] | None,
        *,
        note: str = "",
        lead_time_s: float = 6.0,
        task: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Press Submit: `category` is a path joined by `` / ``; None leaves the question unanswered.

        `origin` and `parent_prediction` follow from the task's prediction, as in the editor; `task` is the
        task as `next_task` gave it out, if it was.
        """
        task = task or self.task(task_id)
        result = answers(task, category, violations, note)
        return self.annotate(task_id, result, parent=_prediction_id(task), lead_time_s=lead_time_s)

    def skip(self, task_id: int, *, lead_time_s: float = 3.0, task: dict[str, Any] | None = None) -> dict[str, Any]:
        """Press Skip: the editor sends the prefilled prediction along, marked as cancelled."""
        task = task or self.task(task_id)
        prefilled = [{**item, "origin": "prediction"} for p in task["predictions"][:1] for item in p["result"]]
        return self.annotate(task_id, prefilled, was_cancelled=True, parent=_prediction_id(task), lead_time_s=lead_time_s)

    def annotate(
        self,
        task_id: int,
        result: Sequence[dict[str, Any]] | None,
        *,
        was_cancelled: bool = False,
        parent: int | None = None,
        lead_time_s: float = 6.0,
        unique_id: str | None = None,
    ) -> dict[str, Any]:
        """POST an annotation with any result."""
        body: dict[str, Any] = {
            "lead_time": lead_time_s,
            "result": None if result is None else list(result),
            "draft_id": 0,
            "parent_prediction": parent,
            "parent_annotation": None,
            "started_at": (datetime.now(UTC) - timedelta(seconds=lead_time_s)).isoformat(),
            "unique_id": unique_id or str(uuid.uuid4()),
        }
        if was_cancelled:
            body["was_cancelled"] = True
        found: dict[str, Any] = self.send("POST", f"/api/tasks/{task_id}/annotations/", body).raise_for_status().json()
        return found

    def update(self, annotation_id: int, **changes: Any) -> dict[str, Any]:
        """Press Update: change an annotation that is there."""
        found: dict[str, Any] = self.send("PATCH", f"/api/annotations/{annotation_id}/", changes).raise_for_status().json()
        return found

    def delete(self, annotation_id: int) -> None:
        """Delete an annotation."""
        self.send("DELETE", f"/api/annotations/{annotation_id}/", None).raise_for_status()

    def close(self) -> None:
        self.session.close()

    def send(self, method: str, path: str, body: Any) -> httpx.Response:
        """One request as the editor sends it; the caller looks at the status."""
        headers = {"X-CSRFToken": self.session.cookies.get("csrftoken", ""), "Referer": str(self.session.base_url)}
        return self.session.request(method, path, json=body, headers=headers)


def answers(
    task: dict[str, Any] | None, category: str | None, violations: Collection[str] | None, note: str = ""
) -> list[dict[str, Any]]:
    """The result items the editor sends, `origin` told by comparing with the task's first prediction."""
    predicted = {item["from_name"]: item["value"] for p in (task or {}).get("predictions", [])[:1] for item in p["result"]}
    values: list[tuple[str, str, dict[str, Any]]] = []
    if category is not None:
        values.append(("category", "taxonomy", {"taxonomy": [category.split(" / ")]}))
    if violations is not None:
        values.append(("violation", "choices", {"choices": list(violations) or ["none"]}))
    if note:
        values.append(("note", "textarea", {"text": [note]}))
    return [
        {
            "id": uuid.uuid4().hex[:10],
            "from_name": name,
            "to_name": "title",
            "type": kind,
            "value": value,
            "origin": _origin(predicted.get(name), value),
        }
        for name, kind, value in values
    ]


def _origin(predicted: dict[str, Any] | None, value: dict[str, Any]) -> str:
    if predicted is None:
        return "manual"
    return "prediction" if predicted == value else "prediction-changed"


def _prediction_id(task: dict[str, Any]) -> int | None:
    return task["predictions"][0]["id"] if task["predictions"] else None


def _post_form(session: httpx.Client, path: str, **fields: str) -> None:
    page = session.get(path).raise_for_status()
    found = CSRF.search(page.text)
    token = found.group(1) if found else session.cookies.get("csrftoken", "")
    form = {**fields, "csrfmiddlewaretoken": token, "allow_newsletters": "false"}
    session.post(path, data=form, headers={"Referer": str(page.url)}).raise_for_status()
