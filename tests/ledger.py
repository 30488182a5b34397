"""What a database knows after deliveries were applied, as rows that can be compared between databases."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from curation.store import inbox
from curation.store.db import Database
from curation.store.tables import AnnotationRow, Inbox, LabelHistory, LabelRow, ListingRow, ReviewItem, TaskRow, Tombstone
from curation.store.workspace import Workspace
from curation.worker import Worker
from tests import deliveries
from tests.conftest import NOW, make_workspace

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Rows that one clean pass gives and we have not, and rows that we have beyond them."""

    lost: tuple[Row, ...]
    twice: tuple[Row, ...]

    @property
    def is_none(self) -> bool:
        return not self.lost and not self.twice


def rows(db: Database, *, ordered: bool) -> Counter[Row]:
    """Everything said, decided and remembered, without ids and times of ours.

    `ordered`: the deliveries were applied in one order, so that the steps between are the same too: each label's whole history
    in its order, the questions to moderators, and which annotations a deleted task took along. In any order the last states
    are the same, and the histories of what was answered once.
    """
    with db.read() as session:
        refs = {row.id: row.ref for row in session.execute(select(ListingRow.id, ListingRow.ref))}
        found = Counter(("delivery", row.dedupe_key, row.state) for row in session.execute(select(Inbox)).scalars())
        said = session.execute(select(AnnotationRow)).scalars().all()
        found.update(_annotation(row) for row in said)
        tasks = session.execute(select(TaskRow)).scalars()
        found.update(("task", row.source, row.task_id, row.listing_ref, row.is_deleted) for row in tasks)
        labels = session.execute(select(LabelRow)).scalars()
        found.update(
            ("label", refs[row.listing_id], row.question, row.value, row.source, row.confidence, _proof(row)) for row in labels
        )
        history = session.execute(select(LabelHistory).order_by(LabelHistory.id)).scalars().all()
        found.update(_history(history, refs, None if ordered else _said_once(said)))
        if ordered:
            found.update(("tombstone", row.source, row.source_id) for row in session.execute(select(Tombstone)).scalars())
            items = session.execute(select(ReviewItem)).scalars()
            found.update(("item", refs[row.listing_id], row.question, row.state, row.n_wanted) for row in items)
    return found


def clean_pass(
    folder: Path, bodies: Iterable[bytes], n_listings: int, *, ordered: bool, template: Path | None = None
) -> Counter[Row]:
    """The rows where each body came once, one worker applied them, and nothing went wrong. `template`: a migrated file."""
    if template is not None:
        shutil.copyfile(template, folder / "clean.db")
    made = make_workspace(folder / "clean", f"sqlite:///{folder / 'clean.db'}")
    try:
        deliveries.catalog(made, n_listings)
        receive(made, dict.fromkeys(bodies))
        Worker(made, ["ingest"]).run(until_idle=True)
        return rows(made.db, ordered=ordered)
    finally:
        made.close()


def receive(workspace: Workspace, bodies: Iterable[bytes]) -> None:
    """Into the inbox, in this order."""
    with workspace.db.write() as session:
        for body in bodies:
            inbox.receive(session, [inbox.Delivery("labelstudio", body, NOW)])


def compare(expected: Counter[Row], found: Counter[Row]) -> Difference:
    """What is missing in `found`, and what is too much."""
    return Difference(tuple((expected - found).elements()), tuple((found - expected).elements()))


def broken_histories(db: Database) -> list[Row]:
    """Steps that do not begin where the one before ended, that change nothing, or that do not end at the label."""
    with db.read() as session:
        current = {(row.listing_id, row.question): _state(row) for row in session.execute(select(LabelRow)).scalars()}
        last: dict[tuple[int, str], Row] = {}
        broken: list[Row] = []
        for row in session.execute(select(LabelHistory).order_by(LabelHistory.id)).scalars():
            key, before = (row.listing_id, row.question), (row.old_value, row.old_source)
            step = (*_state(row), row.confidence, _proof(row))
            was = last.get(key)
            if (was is not None and was[:2] != before) or was == step:
                broken.append((*key, before, step))
            last[key] = step
    return broken + [(*key, step, current.get(key)) for key, step in last.items() if step[:2] != current.get(key, (None, None))]


def _annotation(row: AnnotationRow) -> Row:
    said = (row.question, row.revision, row.task_id, row.listing_ref, row.outcome, row.value, row.annotator)
    return ("annotation", row.source, row.source_id, *said, row.is_current)


def _said_once(said: Iterable[AnnotationRow]) -> set[Row]:
    """(ref, question) of which there is one answer, never changed or deleted: it leaves one history in any order."""
    n_states = Counter((row.listing_ref, row.question) for row in said)
    return {(row.listing_ref, row.question) for row in said if row.is_current and n_states[row.listing_ref, row.question] == 1}


def _history(history: Iterable[LabelHistory], refs: Mapping[int, str], wanted: set[Row] | None) -> Iterator[Row]:
    place: Counter[Row] = Counter()
    for row in history:
        key = (refs[row.listing_id], row.question)
        place[key] += 1
        if wanted is None or key in wanted:
            yield ("step", *key, place[key], row.old_value, row.old_source, *_state(row), row.confidence, _proof(row))


def _state(row: LabelRow | LabelHistory) -> Row:
    return row.value, row.source


def _proof(row: LabelRow | LabelHistory) -> Row:
    """Who said what and when; not the number of the row that keeps it."""
    votes = row.evidence.get("votes", [])
    return (row.evidence.get("rule"), *((vote["annotator"], vote["value"], vote["at"], vote["origin"]) for vote in votes))
