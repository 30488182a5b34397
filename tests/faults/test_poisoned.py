"""A moderator who answers wrongly on purpose: the real store, run and gate over the sample catalog."""

import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from curation.catalog import sample_truth
from curation.release import registry
from curation.review import queue
from curation.store import labels
from curation.store.tables import JobRow, ReviewItem
from curation.store.workspace import Workspace
from curation.types import LabelEvent, Listing, Origin, Outcome, Question
from tests import commands
from tests.builders import all_listings
from trainer import retrain
from trainer.config import TrainConfig

N = 400
SMALL = TrainConfig(n_folds=2, epochs=8, batch=64, n_threads=1, photo_filters=8)
PEOPLE = ("anna", "ben", "carla")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_poisoned_batch_does_not_pass_the_gate(sqlite_workspace: Workspace, tmp_path: Path, now: datetime) -> None:
    """One person flips a tenth of all labels, always the same way: the run is refused and they are named (faults 40, 53).

    What three others decided before passed the same check, and the live model stays.
    """
    workspace = sqlite_workspace
    truth, found = catalog(workspace, tmp_path)
    names = sorted(set(truth.category.values()))
    flipped = {name: names[(at + 1) % len(names)] for at, name in enumerate(names)}
    honest, poisoned = found[: N * 4 // 10], found[N * 4 // 10 : N // 2]
    decide(workspace, ((one, truth.category[one.ref], PEOPLE[at % 3]) for at, one in enumerate(honest)), now)
    first = retrain.run(workspace, trigger="honest", now=now, config=SMALL)
    assert first["state"] == "promoted" and checked(first)["passed"]
    decide(workspace, ((one, flipped[truth.category[one.ref]], "mallory") for one in poisoned), now + timedelta(hours=1))
    second = retrain.run(workspace, trigger="poisoned", now=now + timedelta(hours=2), config=SMALL)
    assert second["state"] == "refused" and not checked(second)["passed"]
    assert list(checked(second)["numbers"]) == ["mallory"] and "deciders: mallory agrees" in second["gate"]["words"]
    with workspace.db.read() as session:
        assert registry.live_name(session) == first["model"]
        again = select(func.count()).select_from(ReviewItem).where(ReviewItem.state == "waiting", ReviewItem.n_wanted == 2)
        assert session.execute(again).scalar_one() == len(poisoned)
        assert "push" in session.execute(select(JobRow.kind)).scalars().all()


def checked(report: dict[str, dict[str, list[dict[str, object]]]]) -> dict[str, object]:
    """What the gate said of people."""
    return next(check for check in report["gate"]["checks"] if check["name"] == "deciders")


def catalog(workspace: Workspace, folder: Path) -> tuple[sample_truth.Truth, list[Listing]]:
    """The sample catalog in the store, its truth, and its listings in a shuffled order."""
    assert commands.run(workspace, "sample", "--n", N, "--seed", 5, "--out", folder / "c").exit_code == 0
    made = commands.run(workspace, "ingest", folder / "c/listings.csv", "--images", folder / "c/images")
    assert made.exit_code == 0, made.output
    found = all_listings(workspace)
    random.Random(1).shuffle(found)
    return sample_truth.load(folder / "c/truth.csv"), found


def decide(workspace: Workspace, said: Iterable[tuple[Listing, str, str]], at: datetime) -> None:
    """Each asked about and answered by one person, as the worker does it."""
    with workspace.db.write() as session:
        for listing, value, who in said:
            item = {"question": Question.CATEGORY.value, "state": "pushed", "reasons": [], "priority": 0.5, "batch": "b"}
            session.add(ReviewItem(listing_id=listing.id, **item, n_wanted=1, created_at=at, pushed_at=at))
            session.flush()
            event = LabelEvent(
                source="labelstudio:1",
                source_id=f"{listing.ref}-{who}",
                task_id=f"task-{listing.ref}",
                listing_ref=listing.ref,
                question=Question.CATEGORY,
                outcome=Outcome.LABEL,
                value=value,
                annotator=who,
                at=at,
                state_hash=f"{listing.id:016x}",
                origin=Origin.MANUAL,
                lead_time_s=9.0,
            )
            for listing_id, question in labels.apply_event(session, event, via="webhook", now=at).touched:
                queue.settle(session, listing_id, question, now=at)
