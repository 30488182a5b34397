"""A workspace beside a running Label Studio, with a small catalog and a way to ask and to look."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from curation.labelstudio import project
from curation.release import registry
from curation.review import suspects
from curation.store.tables import ListingRow, ReviewItem
from curation.store.workspace import Workspace, utc_now
from curation.types import Question, Suspect
from curation.worker import Worker
from tests import builders
from tests.conftest import make_workspace
from tests.labelstudio_server import LabelStudioServer, free_port

SECRET = "s3cret-" + "x" * 32  # what `make_workspace` sets
LEAVES = ("Home / Decor", "Home / Tools", "Electronics / Audio / Radios")


@dataclass
class World:
    """`api`: Label Studio as the administrator; `client`: the same through our own border."""

    workspace: Workspace
    server: LabelStudioServer
    api: httpx.Client
    project_id: int = 0

    def set_up(self) -> project.Setup:
        """Create or update the project."""
        done = project.setup(self.workspace, utc_now())
        self.project_id = done.project_id
        return done

    def ask(
        self,
        *refs: str,
        batch: str = "batch-1",
        n_wanted: int = 1,
        words: str = "It looks like Home / Tools.",
        priority: float = 1.0,
    ) -> None:
        """Put both questions about these listings into the queue, the first with the highest priority."""
        reasons = [{"code": "asked", "score": 0.9, "words": words}]
        with self.workspace.db.write() as session:
            for place, listing_id in enumerate(self.listing_ids(refs).values()):
                for question in Question:
                    session.add(
                        ReviewItem(
                            listing_id=listing_id,
                            question=question.value,
                            state="waiting",
                            reasons=reasons,
                            priority=priority - place / 1000,
                            suggestion=None,
                            suggestion_score=None,
                            batch=batch,
                            n_wanted=n_wanted,
                            created_at=utc_now(),
                        )
                    )

    def suggest(self, refs: Sequence[str], category: str, violation: str = "none") -> str:
        """Rank these listings as a new run would; the model version it suggests under."""
        with self.workspace.db.write() as session:
            run_id = registry.start_run(
                session, kind="train", snapshot_id=None, trigger="test", config={}, device="cpu", n_corrections=0, now=utc_now()
            )
            for question, value in ((Question.CATEGORY, category), (Question.VIOLATION, violation)):
                found = [Suspect(ref, question, "Home / Decor", value, 0.1, True, 0.875) for ref in refs]
                suspects.replace(session, question, found, run_id=run_id)
        return f"run-{run_id:04d}"

    def listing_ids(self, refs: Sequence[str]) -> dict[str, int]:
        with self.workspace.db.read() as session:
            rows = session.execute(select(ListingRow.ref, ListingRow.id).where(ListingRow.ref.in_(refs))).all()
        found = {row.ref: row.id for row in rows}
        return {ref: found[ref] for ref in refs}

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Every task of the project as Label Studio has it, by listing ref. Two of one ref are an error."""
        reply = self.api.get("/api/tasks", params={"project": self.project_id, "fields": "all", "page_size": 5000})
        rows = [] if reply.status_code == 404 else reply.raise_for_status().json()["tasks"]
        found = {row["data"]["listing_id"]: row for row in rows}
        assert len(found) == len(rows), "a listing has two tasks"
        return found

    def order(self) -> list[str]:
        """Refs of the tasks as uncertainty sampling orders them: those of the project's version by score."""
        version = self.api.get(f"/api/projects/{self.project_id}/").json()["model_version"]
        scores = {
            ref: min(one["score"] for one in task["predictions"] if one["model_version"] == version)
            for ref, task in self.tasks().items()
        }
        return sorted(scores, key=lambda ref: scores[ref])

    def task_id(self, ref: str) -> int:
        return int(self.tasks()[ref]["id"])

    def hooks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            self.api.get("/api/webhooks/", params={"project": self.project_id}).raise_for_status().json()
        )
        return found

    def work(self, *kinds: str) -> int:
        """Run what is due."""
        return Worker(self.workspace, list(kinds) or None).run(until_idle=True)

    def label(self, ref: str, question: Question = Question.CATEGORY) -> tuple[str, str] | None:
        """Value and source of a listing's label."""
        return builders.label(self.workspace, ref, question)

    def states(self, ref: str) -> dict[str, str]:
        """State of each question about a listing."""
        with self.workspace.db.read() as session:
            rows = session.execute(
                select(ReviewItem.question, ReviewItem.state)
                .join(ListingRow, ListingRow.id == ReviewItem.listing_id)
                .where(ListingRow.ref == ref)
            ).all()
        return {row.question: row.state for row in rows}


@contextmanager
def world(server: LabelStudioServer, folder: Path, n: int = 6, *, url: str = "", **flags: object) -> Iterator[World]:
    """A workspace with `n` listings r0 … (or an empty catalog) and a project title of its own."""
    settings = {
        "label_studio_url": server.url,
        "label_studio_token": server.admin.token,
        "label_studio_project": f"Refurbish {uuid.uuid4().hex[:8]}",
        "port": free_port(),
        **flags,
    }
    workspace = make_workspace(folder / "home", url or f"sqlite:///{folder / 'refurbish.db'}", **settings)
    photos = (builders.photo(workspace, 1, (320, 240)), builders.photo(workspace, 2, (240, 320)))
    records = [builders.record(f"r{i}", category="Home / Decor", photos=photos) for i in range(n)]
    others = [builders.record(f"other{i}", category=leaf) for i, leaf in enumerate(LEAVES[1:])]
    if n:
        builders.add(workspace, *records, *others)
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Token {server.admin.token}"}, timeout=60) as api:
        yield World(workspace, server, api)
    workspace.close()
