"""Webhook bodies of a busy review: answers, second opinions, changes of mind, skips, deletions, bulk actions, and listings
that nobody has. The same seed gives the same bodies.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np

from curation.store.workspace import Workspace, set_state
from curation.types import Question
from tests import builders
from tests.conftest import NOW

PROJECT = 1
LEAVES = ("Home / Garden", "Home / Tools", "Electronics / Audio", "Sport / Balls")
VIOLATIONS = ("none", "counterfeit", "unsafe_product")
PEOPLE = (1, 2, 3)
BULK = 14
"""Tasks in one bulk action: more events than are applied in one transaction."""

Answer = tuple[str, str]
"""A leaf and a violation."""


@dataclass
class Review:
    """What moderators did, as bodies in the order in which it happened. Listing `r7` is task 7."""

    n_listings: int
    rng: np.random.Generator
    bodies: list[bytes] = field(default_factory=list)
    n_annotations: int = 0
    n_ticks: int = 0

    def answer(self, task: int, person: int) -> int:
        """A new annotation; its id."""
        self.n_annotations += 1
        self._said("ANNOTATION_CREATED", self._annotation(self.n_annotations, task, person), task)
        return self.n_annotations

    def change(self, annotation: int, task: int, person: int, *, skip: bool = False) -> None:
        """Another answer by the same person, or a skip instead of it."""
        self._said("ANNOTATION_UPDATED", self._annotation(annotation, task, person, skip=skip), task)

    def answer_many(self, tasks: Sequence[int], person: int) -> None:
        """The bulk action that takes suggestions over."""
        first = self.n_annotations + 1
        self.n_annotations += len(tasks)
        made = [self._annotation(first + i, task, person) for i, task in enumerate(tasks)]
        self._send({"action": "ANNOTATIONS_CREATED", "annotation": made, "task": [_task(task) for task in tasks]})

    def delete(self, *annotations: int) -> None:
        self._send({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": one} for one in annotations]})

    def delete_task(self, task: int) -> None:
        self._send({"action": "TASKS_DELETED", "tasks": [{"id": task}]})

    def _said(self, action: str, annotation: dict[str, Any], task: int) -> None:
        self._send({"action": action, "annotation": annotation, "task": _task(task)})

    def _send(self, body: dict[str, Any]) -> None:
        self.bodies.append(json.dumps({**body, "project": {"id": PROJECT}}).encode())

    def _annotation(self, number: int, task: int, person: int, *, skip: bool = False) -> dict[str, Any]:
        self.n_ticks += 1
        stamp = (NOW + timedelta(seconds=self.n_ticks)).isoformat()
        said = str(self.rng.choice(LEAVES)), str(self.rng.choice(VIOLATIONS))
        return {
            "id": number,
            "task": task,
            "project": PROJECT,
            "completed_by": person,
            "result": [] if skip else _result(said),
            "was_cancelled": skip,
            "ground_truth": False,
            "created_at": stamp,
            "updated_at": stamp,
            "lead_time": 6.0,
        }


def review(n_listings: int, seed: int = 1, *, n_bulk: int = 2) -> list[bytes]:
    """About 2.4 bodies for each listing, no two the same."""
    made = Review(n_listings, np.random.default_rng(seed))
    for task in range(n_listings):
        _talk_about(made, task)
        if n_bulk and task % (n_listings // n_bulk or 1) == 0:
            made.answer_many([(task + i) % n_listings for i in range(BULK)], PEOPLE[2])
    made.answer(n_listings + 7, PEOPLE[0])  # a listing that is not here
    return made.bodies


def _talk_about(made: Review, task: int) -> None:
    first = made.answer(task, PEOPLE[0])
    story = task % 8
    if story in (1, 2):
        made.change(first, task, PEOPLE[0])
    if story == 2:
        made.change(first, task, PEOPLE[0], skip=True)
        made.change(first, task, PEOPLE[0])
    if story in (3, 4):
        second = made.answer(task, PEOPLE[1])
        if story == 4:
            made.delete(first)
            made.change(second, task, PEOPLE[1])
    if story == 5:
        made.delete(first)
    if story == 6:
        made.delete_task(task)
        made.change(first, task, PEOPLE[0])  # it crossed the deletion


def with_duplicates(bodies: Sequence[bytes], share: float, seed: int = 2) -> list[bytes]:
    """The same, this share of them sent once more, a little later."""
    rng = np.random.default_rng(seed)
    places = [(float(i), body) for i, body in enumerate(bodies)]
    again = [(i + float(rng.uniform(0.5, 8)), body) for i, body in places if rng.random() < share]
    return [body for _, body in sorted(places + again, key=lambda pair: pair[0])]


def reordered(bodies: Sequence[bytes], reach: float = 6.0, seed: int = 3) -> list[bytes]:
    """The same, each moved by up to `reach` places."""
    rng = np.random.default_rng(seed)
    keys = [i + float(rng.uniform(0, reach)) for i in range(len(bodies))]
    return [bodies[i] for i in sorted(range(len(bodies)), key=lambda i: keys[i])]


def catalog(workspace: Workspace, n_listings: int) -> None:
    """The listings, and a project that Label Studio was set up with."""
    found = [builders.record(f"r{i}", category=LEAVES[i % len(LEAVES)]) for i in range(max(n_listings, len(LEAVES)))]
    builders.add(workspace, *found)
    with workspace.db.write() as session:
        set_state(session, "labelstudio.project", {"id": PROJECT, "url": "http://127.0.0.1:1"}, now=NOW)


def _task(task: int) -> dict[str, Any]:
    return {"id": task, "data": {"listing_id": f"r{task}"}}


def _result(said: Answer) -> list[dict[str, Any]]:
    leaf, violation = said
    answers = {Question.CATEGORY: ("taxonomy", [leaf.split(" / ")]), Question.VIOLATION: ("choices", [violation])}
    return [
        {"from_name": question.value, "to_name": "title", "type": kind, "value": {kind: value}}
        for question, (kind, value) in answers.items()
    ]
