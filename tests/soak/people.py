"""Moderators who do everything that Label Studio lets them do, each by a script of their own."""

import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from tests.labelstudio_people import Moderator, answers

Task = dict[str, Any]
VIOLATIONS = ((), (), ("counterfeit",), ("unsafe_product",), ("counterfeit", "unsafe_product"))
PAUSE_S = (0.02, 0.4)
BY_HAND = {"by_hand": True}
"""What a task that a person uploaded carries in its `meta`."""

ODD: tuple[list[dict[str, Any]] | None, ...] = (
    None,
    [],
    [{"from_name": "category", "to_name": "title", "type": "taxonomy", "value": {"taxonomy": [["No", "Such"]]}}],
    [
        {
            "from_name": "category",
            "to_name": "title",
            "type": "taxonomy",
            "value": {"taxonomy": [["Home", "Decor"], ["Home", "Tools"]]},
        }
    ],
    [{"from_name": "violation", "to_name": "title", "type": "choices", "value": {"choices": ["none", "counterfeit"]}}],
)
"""Answers that are none, or name what does not exist, or contradict themselves."""


class Board:
    """The ids of all tasks, as everybody sees them in the Data Manager."""

    def __init__(self, api: httpx.Client, project_id: int) -> None:
        self.api, self.project_id = api, project_id
        self._ids: list[int] = []
        self._lock = threading.Lock()

    def refresh(self) -> None:
        query = {"project": self.project_id, "include": "id", "page_size": 5000}
        reply = self.api.get("/api/tasks", params=query)
        found = [] if reply.status_code == httpx.codes.NOT_FOUND else reply.raise_for_status().json()["tasks"]
        with self._lock:
            self._ids = [int(task["id"]) for task in found]

    def draw(self, rng: random.Random, n: int = 1) -> list[int]:
        """Up to n tasks; the newest are drawn more often, so that some collect many answers and edits."""
        with self._lock:
            ids = self._ids
        return [ids[int(len(ids) * rng.random() ** 0.5)] for _ in range(n)] if ids else []


class Scripted(threading.Thread):
    """One moderator at work until told to stop. `done` counts operations by kind; `refused` what was answered with an error."""

    def __init__(self, hands: "Hands", stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.hands, self.stopping = hands, stop
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping.wait(self.hands.rng.uniform(*PAUSE_S)):
                self._step()
        except BaseException as failure:
            self.failure = failure

    def _step(self) -> None:
        """Do one thing; others may have been quicker."""
        try:
            self.done[self.hands.move()] += 1
        except httpx.HTTPStatusError as error:
            self.refused[str(error.response.status_code)] += 1
        except httpx.TimeoutException:
            self.refused["no answer"] += 1


class Hands:
    """What one moderator can do; each move says what it was, or None where the task does not allow it."""

    def __init__(self, person: Moderator, board: Board, leaves: Sequence[str], rng: random.Random) -> None:
        self.person, self.board, self.leaves, self.rng = person, board, leaves, rng
        self._weights: Mapping[Callable[[Task], str | None], float] = {
            self._submit: 30,
            self._update: 14,
            self._save_unchanged: 2,
            self._skip: 7,
            self._turn_into_skip: 4,
            self._unskip: 8,
            self._delete: 6,
            self._star: 7,
            self._draft: 5,
            self._finish_draft: 5,
            self._convert_to_draft: 3,
            self._odd: 4,
            self._delete_in_bulk: 0.7,
            self._take_over_in_bulk: 0.7,
            self._delete_task: 0.7,
            self._delete_tasks_in_bulk: 0.3,
            self._upload: 0.8,
            self._merge_duplicates: 0.4,
        }

    def move(self) -> str:
        """Open a task, look at what is there, and do one thing."""
        (task_id,) = self.board.draw(self.rng)
        task = self.person.task(task_id)
        (doing,) = self.rng.choices(list(self._weights), list(self._weights.values()))
        return doing(task) or self._submit(task)

    def _answer(self) -> tuple[str, tuple[str, ...]]:
        return self.rng.choice(self.leaves), self.rng.choice(VIOLATIONS)

    def _one(self, task: Task, *, skipped: bool | None = None) -> Task | None:
        """One of the task's annotations, or None."""
        found = [one for one in task["annotations"] if skipped is None or one["was_cancelled"] == skipped]
        return self.rng.choice(found) if found else None

    def _submit(self, task: Task) -> str:
        self.person.submit(task["id"], *self._answer(), task=task, lead_time_s=self.rng.uniform(1, 20))
        return "submitted"

    def _update(self, task: Task) -> str | None:
        found = self._one(task, skipped=False)
        if found is None:
            return None
        self.person.update(found["id"], result=answers(task, *self._answer()))
        return "changed"

    def _save_unchanged(self, task: Task) -> str | None:
        found = self._one(task)
        if found is None:
            return None
        self.person.update(found["id"])
        return "saved unchanged"

    def _skip(self, task: Task) -> str:
        self.person.skip(task["id"], task=task)
        return "skipped"

    def _turn_into_skip(self, task: Task) -> str | None:
        found = self._one(task, skipped=False)
        if found is None:
            return None
        self.person.update(found["id"], was_cancelled=True)
        return "turned into a skip"

    def _unskip(self, task: Task) -> str | None:
        """As an API user does it, or as the editor does: a draft, the skip deleted, a new annotation."""
        found = self._one(task, skipped=True)
        if found is None:
            return None
        if self.rng.random() < 0.5:
            self.person.update(found["id"], was_cancelled=False, result=answers(task, *self._answer()))
            return "un-skipped by a change"
        draft = self._make_draft(task)
        self.person.delete(found["id"])
        self._submit_draft(task, draft)
        return "un-skipped by a new answer"

    def _delete(self, task: Task) -> str | None:
        found = self._one(task)
        if found is None:
            return None
        self.person.delete(found["id"])
        return "deleted"

    def _star(self, task: Task) -> str | None:
        found = self._one(task)
        if found is None:
            return None
        self.person.update(found["id"], ground_truth=self.rng.random() < 0.8)
        return "starred or unstarred"

    def _draft(self, task: Task) -> str:
        draft = self._make_draft(task)
        if self.rng.random() < 0.5:
            body = {"result": answers(task, *self._answer()), "lead_time": 2.0}
            self.person.send("PATCH", f"/api/drafts/{draft}/", body).raise_for_status()
        return "drafted"

    def _make_draft(self, task: Task) -> int:
        body = {"result": answers(task, *self._answer()), "lead_time": 1.0, "draft_id": 0}
        return int(self.person.send("POST", f"/api/tasks/{task['id']}/drafts", body).raise_for_status().json()["id"])

    def _finish_draft(self, task: Task) -> str | None:
        mine = [one for one in task.get("drafts", []) if one.get("user") == self.person.email]
        if not mine:
            return None
        self._submit_draft(task, int(mine[0]["id"]))
        return "submitted from a draft"

    def _submit_draft(self, task: Task, draft: int) -> None:
        body = {"result": answers(task, *self._answer()), "draft_id": draft, "unique_id": str(uuid.uuid4()), "lead_time": 4.0}
        self.person.send("POST", f"/api/tasks/{task['id']}/annotations/", body).raise_for_status()

    def _convert_to_draft(self, task: Task) -> str | None:
        found = self._one(task)
        if found is None:
            return None
        self.person.send("POST", f"/api/annotations/{found['id']}/convert-to-draft", {}).raise_for_status()
        return "turned into a draft"

    def _odd(self, task: Task) -> str:
        found = self._one(task, skipped=False)
        said = self.rng.choice(ODD)
        if found is None or self.rng.random() < 0.5:
            self.person.annotate(task["id"], said)
        else:
            self.person.update(found["id"], result=said or [])
        return "answered oddly"

    def _delete_in_bulk(self, _task: Task) -> str:
        self._act("delete_tasks_annotations", self.board.draw(self.rng, 4))
        return "annotations deleted in bulk"

    def _take_over_in_bulk(self, _task: Task) -> str:
        self._act("predictions_to_annotations", self.board.draw(self.rng, 4))
        return "predictions taken over in bulk"

    def _delete_task(self, task: Task) -> str:
        self.person.send("DELETE", f"/api/tasks/{task['id']}/", None).raise_for_status()
        return "task deleted"

    def _delete_tasks_in_bulk(self, _task: Task) -> str:
        self._act("delete_tasks", self.board.draw(self.rng, 3))
        return "tasks deleted in bulk"

    def _upload(self, task: Task) -> str:
        """By hand: a task that is none of ours, or a second one of a listing, with an annotation that no webhook tells of."""
        data, annotated = dict(task["data"]), []
        if self.rng.random() < 0.5:
            data.pop("listing_id", None)
        else:
            annotated = [{"result": answers(None, *self._answer()), "completed_by": self.person.user_id}]
        body = [{"data": data, "annotations": annotated, "meta": BY_HAND}]
        self.person.send("POST", f"/api/projects/{self.board.project_id}/import", body).raise_for_status()
        return "uploaded by hand"

    def _merge_duplicates(self, _task: Task) -> str:
        """Label Studio moves annotations to the first of equal tasks and deletes the others; of the moving nothing tells."""
        chosen = {"selectedItems": {"all": True, "excluded": []}, "project": self.board.project_id}
        action = f"/api/dm/actions?id=remove_duplicates&project={self.board.project_id}"
        self.person.send("POST", action, chosen).raise_for_status()
        return "duplicated tasks removed"

    def _act(self, action: str, task_ids: Sequence[int]) -> None:
        """One of the Data Manager's bulk actions."""
        project_id = self.board.project_id
        chosen = {"selectedItems": {"all": False, "included": list(dict.fromkeys(task_ids))}, "project": project_id}
        self.person.send("POST", f"/api/dm/actions?id={action}&project={project_id}", chosen).raise_for_status()
