"""A loop that has run for weeks, for pages to show: a generated catalog, two runs, moderators' answers, an export.

    python -m tests.pages_world HOME     # then: refurbish --home HOME serve

Everything is done by the product's own commands; only the moderators are scripted, without a Label Studio.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import select, update

from curation import settings as settings_module
from curation.labelstudio.apply import WEBHOOK, apply_events
from curation.review import queue
from curation.store import people
from curation.store.people import Role
from curation.store.tables import Category, ReviewItem, RunRow
from curation.store.workspace import Workspace, utc_now
from curation.types import VIOLATIONS, LabelEvent, Origin, Outcome, Question

PANEL = {"anna": 0.98, "bela": 0.96, "carla": 0.75}
"""Who answers, and how often rightly."""

REPORTERS = {"trust-team": 0.9, "u-1207": 0.5, "u-88": 0.2, "": 0.3}
"""Who reports, the last without a name, and how well."""

COMPLAINT = "This is not what the photo shows; I asked the seller twice and got no answer."
PASSWORD = "a password for pictures"
N_WEEKS = 6


def build(home: Path, *, n: int = 2400, seed: int = 1) -> None:
    """Make it under `home`, which must not exist yet."""
    home.mkdir(parents=True)
    run(home, "db", "upgrade")
    run(home, "sample", "--n", n, "--seed", seed, "--out", home / "catalog")
    run(home, "ingest", home / "catalog" / "listings.csv")
    run(home, "retrain", "--trigger", "first model", "--folds", "3")
    workspace = Workspace.open(settings_module.load(home=home))
    truth = true_answers(home / "catalog" / "truth.csv")
    began = utc_now() - timedelta(weeks=N_WEEKS)
    run(home, "ingest", "--reports", report(home / "catalog" / "reports.jsonl", truth, began, np.random.default_rng(seed)))
    age(workspace, began)
    for week in range(N_WEEKS - 1):
        run(home, "review", "select", "--n", max(10, n // 25), "--seed", seed + week)
        answer(workspace, truth, began + timedelta(weeks=week + 0.5), np.random.default_rng([seed, week]))
    run(home, "review", "select", "--n", max(10, n // 25), "--seed", seed + N_WEEKS)
    run(home, "retrain", "--trigger", "corrections came in", "--folds", "3")
    run(home, "export", "--out", home / "dataset", "--format", "parquet")
    run(home, "worker", "--until-idle", "--kinds", "insight")
    with workspace.db.write() as session:
        for role in Role:
            people.put(session, role.value, role, now=utc_now())
            people.set_password(session, role.value, PASSWORD)
    workspace.close()


def run(home: Path, *arguments: object) -> None:
    """One `refurbish` command."""
    command = [sys.executable, "-m", "curation.cli", "--home", str(home), *(str(part) for part in arguments)]
    subprocess.run(command, check=True, capture_output=True)


def true_answers(file: Path) -> dict[str, tuple[str, str]]:
    """Listing ref → right category and violations."""
    with file.open() as rows:
        return {row["id"]: (row["category"], row["violation"] or "none") for row in csv.DictReader(rows)}


def report(file: Path, truth: dict[str, tuple[str, str]], began: datetime, rng: np.random.Generator) -> Path:
    """What users reported in these weeks: some are right more often than others, some give no name."""
    rows = []
    for ref, (_, violation) in truth.items():
        names = violation.split("|")
        for who, precision in REPORTERS.items():
            is_right = names != ["none"] and rng.random() < precision
            if is_right or rng.random() < 0.05 * (1 - precision):
                reason = names[0] if is_right else str(rng.choice([*VIOLATIONS, "other"]))
                at = began + timedelta(weeks=N_WEEKS * float(rng.random()))
                rows.append({"ref": ref, "reason": reason, "words": COMPLAINT, "reporter": who or None, "at": at.isoformat()})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def age(workspace: Workspace, at: datetime) -> None:
    """The first run was at this time."""
    with workspace.db.write() as session:
        session.execute(update(RunRow).values(started_at=at, finished_at=at + timedelta(minutes=3)))


def answer(workspace: Workspace, truth: dict[str, tuple[str, str]], at: datetime, rng: np.random.Generator) -> None:
    """The panel decides what waits."""
    with workspace.db.write() as session:
        waiting = queue.waiting(session, 10_000)
        queue.mark_pushed(session, [task.listing.id for task in waiting], now=at)
        session.execute(update(ReviewItem).where(ReviewItem.pushed_at == at).values(created_at=at))
        leaves = list(session.execute(select(Category.path).where(Category.is_leaf)).scalars())
    for number, task in enumerate(waiting):
        when = at + timedelta(minutes=9 * number)
        with workspace.db.write() as session:
            events = list(_events(task.listing.ref, truth[task.listing.ref], leaves, when, rng))
            apply_events(session, workspace, events, via=WEBHOOK, now=when)


def _events(ref: str, right: tuple[str, str], leaves: list[str], at: datetime, rng: np.random.Generator) -> Iterator[LabelEvent]:
    for name in rng.choice(list(PANEL), size=2 if rng.random() < 0.15 else 1, replace=False):
        is_right, is_skip = rng.random() < PANEL[name], rng.random() < 0.03
        category = right[0] if is_right else str(rng.choice(leaves))
        for question, value in ((Question.CATEGORY, category), (Question.VIOLATION, right[1])):
            yield LabelEvent(
                source="labelstudio:1",
                source_id=f"{ref}-{name}",
                task_id=f"{ref}",
                listing_ref=ref,
                question=question,
                outcome=Outcome.SKIP if is_skip else Outcome.LABEL,
                value=None if is_skip else value,
                annotator=str(name),
                at=at,
                state_hash=f"{rng.integers(2**60):016x}",
                origin=Origin.MANUAL,
                lead_time_s=round(float(rng.lognormal(2.2, 0.6)), 1),
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("--n", type=int, default=2400, help="listings")
    options = parser.parse_args()
    build(options.home, n=options.n)
    print(f"sign in as engineer with: {PASSWORD}")
