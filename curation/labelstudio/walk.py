"""Reading all tasks of a project that changed, and all that are there, while people go on working.

Tasks are read by cursor, never by page number: rows move while they are read.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from curation.labelstudio.client import Client, task_filter

PAGE_SIZE = 100
SWEEP_SIZE = 5000
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"

Task = dict[str, Any]


def changed(client: Client, project_id: int, start: datetime) -> Iterator[list[Task]]:
    """Pages of whole tasks updated at or after `start`, oldest first.

    A bulk action stamps thousands of tasks with one time; the tie at a page's end is read whole, by
    id, before the cursor moves past it.
    """
    condition, at = "greater_or_equal", start
    while True:
        page = client.tasks(project_id, [_at(condition, at)], "updated_at", page_size=PAGE_SIZE, fields="all")
        if not page:
            return
        yield page
        if len(page) < PAGE_SIZE:
            return
        condition, at = "greater", updated_at(page[-1])
        yield from _tie(client, project_id, at, {task["id"] for task in page})


def these(client: Client, project_id: int, task_ids: Iterable[str]) -> Iterator[list[Task]]:
    """Pages of these tasks, whole; one that is gone is missing."""
    wanted = sorted(int(task_id) for task_id in task_ids)
    for first in range(0, len(wanted), PAGE_SIZE):
        condition = task_filter("id", "in_list", "List", wanted[first : first + PAGE_SIZE])
        yield client.tasks(project_id, [condition], "id", page_size=PAGE_SIZE, fields="all")


def ids(client: Client, project_id: int) -> Iterator[str]:
    """The id of every task, in order."""
    after = 0
    while True:
        found = client.tasks(project_id, [_after(after)], "id", page_size=SWEEP_SIZE, include="id")
        yield from (str(task["id"]) for task in found)
        if len(found) < SWEEP_SIZE:
            return
        after = found[-1]["id"]


def updated_at(task: Task) -> datetime:
    """When anything about the task changed last."""
    return datetime.fromisoformat(task["updated_at"]).astimezone(UTC)


def _tie(client: Client, project_id: int, at: datetime, seen: set[int]) -> Iterator[list[Task]]:
    after = 0
    while True:
        found = client.tasks(project_id, [_at("equal", at), _after(after)], "id", page_size=PAGE_SIZE, fields="all")
        fresh = [task for task in found if task["id"] not in seen]
        if fresh:
            yield fresh
        if len(found) < PAGE_SIZE:
            return
        after = found[-1]["id"]


def _at(operator: str, at: datetime) -> dict[str, Any]:
    return task_filter("updated_at", operator, "Datetime", at.strftime(TIME_FORMAT))


def _after(task_id: int) -> dict[str, Any]:
    return task_filter("id", "greater", "Number", task_id)
