"""Scripted moderators: they take tasks from Label Studio's own queue and answer through its API."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.labelstudio_people import Moderator
from tests.labelstudio_server import LabelStudioServer


@dataclass(frozen=True)
class Person:
    """How one moderator works. Shares are in [0, 1]; `weight` is the share of the work they take."""

    name: str
    accuracy: float
    skip_share: float
    lead_time_s: tuple[float, float]
    pause_s: float = 0.0


THREE = (
    Person("anna", accuracy=0.98, skip_share=0.01, lead_time_s=(6.0, 25.0)),
    Person("bela", accuracy=0.97, skip_share=0.02, lead_time_s=(8.0, 30.0)),
    Person("carla-careless", accuracy=0.75, skip_share=0.0, lead_time_s=(1.0, 3.0), pause_s=1.0),
)
"""Two careful people and a careless one, who is slower to come back to the queue."""


@dataclass
class Tally:
    """What the panel did."""

    n_decisions: int = 0
    n_skips: int = 0
    n_wrong: int = 0
    listings: set[str] = field(default_factory=set)
    by_person: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Answers:
    """The right answer for each listing ref; what is not in `category` nobody can tell, and everybody skips."""

    category: Mapping[str, str]
    violation: Mapping[str, tuple[str, ...]]


class Panel:
    """Three people at work on one project at the same time."""

    def __init__(
        self, server: LabelStudioServer, project_id: int, answers: Answers, *, seed: int, people: tuple[Person, ...] = THREE
    ) -> None:
        self.project_id = project_id
        self.answers = answers
        self.tally = Tally()
        self._lock = threading.Lock()
        self._rng = random.Random(seed)
        self._siblings = sorted(set(answers.category.values()))
        self._people = [(person, server.moderator(f"{person.name}@example.com")) for person in people]
        self._failures: list[BaseException] = []

    def work(self, n_decisions: int | None = None, on_decision: Callable[[int], None] | None = None) -> Tally:
        """Decide until the queue is empty, or until the panel has made this many decisions in all."""
        threads = [
            threading.Thread(target=self._guarded, args=(person, moderator, n_decisions, on_decision))
            for person, moderator in self._people
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failures:
            raise self._failures[0]
        return self.tally

    def close(self) -> None:
        for _, moderator in self._people:
            moderator.close()

    def _guarded(self, *arguments: Any) -> None:
        try:
            self._shift(*arguments)
        except BaseException as failure:
            self._failures.append(failure)

    def _shift(
        self, person: Person, moderator: Moderator, n_decisions: int | None, on_decision: Callable[[int], None] | None
    ) -> None:
        while not self._failures and (n_decisions is None or self.tally.n_decisions < n_decisions):
            task = moderator.next_task(self.project_id)
            if task is None:
                return
            self._decide(person, moderator, task)
            if on_decision is not None:
                on_decision(self.tally.n_decisions)
            time.sleep(person.pause_s)

    def _decide(self, person: Person, moderator: Moderator, task: dict[str, Any]) -> None:
        ref = str(task["data"]["listing_id"])
        with self._lock:
            skips = self._rng.random() < person.skip_share or ref not in self.answers.category
            right = self._rng.random() < person.accuracy
            lead_time_s = round(self._rng.uniform(*person.lead_time_s), 1)
            category = "" if skips else self.answers.category[ref] if right else self._mistake(task, ref)
        if skips:
            moderator.skip(task["id"], lead_time_s=lead_time_s, task=task)
        else:
            moderator.submit(task["id"], category, self.answers.violation.get(ref, ()), lead_time_s=lead_time_s, task=task)
        with self._lock:
            self.tally.n_skips += skips
            self.tally.n_decisions += not skips
            self.tally.n_wrong += not skips and category != self.answers.category[ref]
            self.tally.listings.add(ref)
            self.tally.by_person[person.name] = self.tally.by_person.get(person.name, 0) + 1

    def _mistake(self, task: dict[str, Any], ref: str) -> str:
        """A careless person keeps the seller's category, or takes a neighbour of the right one."""
        truth = self.answers.category[ref]
        sellers = str(task["data"].get("seller_category") or "")
        if sellers in self._siblings and sellers != truth and self._rng.random() < 0.7:
            return sellers
        root = truth.partition(" / ")[0]
        near = [path for path in self._siblings if path.startswith(root) and path != truth]
        return self._rng.choice(near or [path for path in self._siblings if path != truth])
