"""Label Studio's own export beside our ledger, listing by listing.

The export is read here in the simplest way, by none of our code for payloads; only the labels that
should follow from it are made by a clean pass of that code over an empty database.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from curation.labelstudio import apply, payloads
from curation.store import listings
from curation.store.tables import AnnotationRow, Inbox, LabelHistory, LabelRow, ListingRow, TaskRow
from curation.store.workspace import Workspace, utc_now
from tests.conftest import make_workspace
from tests.live.world import World

Task = dict[str, Any]
Said = tuple[str, str, str, str, bool, datetime]
"""(listing, person, question, value or outcome, whether it has the star, when it changed last)."""

Labels = dict[tuple[str, str], tuple[str, str, float | None]]
"""(listing, question) → (value, source, confidence)."""


@dataclass(frozen=True)
class Comparison:
    """`differences`: one line each, empty if all is equal."""

    n_listings: int
    n_annotations: int
    n_labels: int
    differences: tuple[str, ...]
    n_lost: int
    n_twice: int


def compare(here: World, folder: Path, accepted: Collection[str]) -> Comparison:
    """`accepted`: dedupe keys of the deliveries that our receiver answered with 2xx."""
    exported = export(here)
    there, ours = said_there(exported, _known(here)), said_here(here)
    wanted, found = clean_labels(here, exported, folder), labels(here.workspace)
    keys = _inbox(here)
    differences = [
        *_unlike("annotation", there, ours),
        *_unlike("task of listing", tasks_there(exported), tasks_here(here)),
        *_unlike("label", wanted, found),
        *(f"delivery {key[:12]} was answered 2xx and is not in the inbox" for key in sorted(set(accepted) - keys)),
        *(twice := [*_applied_twice(here), *_made_twice(exported)]),
    ]
    missing = [key for key in there if key not in ours]
    n_lost = len(missing) + len(set(accepted) - keys)
    refs = {task["data"].get("listing_id") for task in exported} - {None}
    return Comparison(len(refs), len({key[0] for key in there}), len(found), tuple(differences), n_lost, len(twice))


def export(here: World) -> list[Task]:
    """All tasks, by Label Studio's export."""
    params = {"exportType": "JSON", "download_all_tasks": "true"}
    reply = here.api.get(f"/api/projects/{here.project_id}/export", params=params, timeout=300)
    found: list[Task] = reply.raise_for_status().json()
    return found


def said_there(exported: Sequence[Task], leaves: Collection[str]) -> dict[tuple[str, str], Said]:
    """(annotation, question) → what it says."""
    found: dict[tuple[str, str], Said] = {}
    for task in exported:
        for one in task["annotations"]:
            star, at = one["ground_truth"], datetime.fromisoformat(one["updated_at"])
            for question, value in _values(one, leaves):
                ref = task["data"].get("listing_id", "none of ours")
                found[str(one["id"]), question] = (ref, str(one["completed_by"]), question, value, star, at)
    return found


def _values(one: Task, leaves: Collection[str]) -> Iterator[tuple[str, str]]:
    said = {item["from_name"]: item["value"] for item in one["result"] or []}
    if one["was_cancelled"]:
        yield from (("category", "skip"), ("violation", "skip"))
        return
    paths = [" / ".join(path) for path in said.get("category", {}).get("taxonomy", [])]
    known = paths[0] if paths and paths[0] in leaves else "unknown_label"
    yield "category", "empty" if not paths else "contradictory" if len(paths) > 1 else known
    names = sorted(said.get("violation", {}).get("choices", []))
    yield "violation", "empty" if not names else "contradictory" if len(names) > 1 and "none" in names else "|".join(names)


def said_here(here: World) -> dict[tuple[str, str], Said]:
    """The same, as our annotation log has it."""
    query = select(AnnotationRow).where(AnnotationRow.is_current.is_(True), AnnotationRow.source == _source(here))
    with here.workspace.db.read() as session:
        return {
            (row.source_id, row.question): (
                row.listing_ref or "none of ours",
                row.annotator,
                row.question,
                row.value or row.outcome,
                row.ground_truth,
                row.at,
            )
            for row in session.execute(query).scalars()
        }


def tasks_there(exported: Sequence[Task]) -> dict[str, str]:
    """Task → listing, of the tasks that have one."""
    return {str(task["id"]): task["data"]["listing_id"] for task in exported if "listing_id" in task["data"]}


def tasks_here(here: World) -> dict[str, str]:
    query = select(TaskRow.task_id, TaskRow.listing_ref).where(TaskRow.source == _source(here), TaskRow.is_deleted.is_(False))
    with here.workspace.db.read() as session:
        return {row.task_id: row.listing_ref for row in session.execute(query)}


def labels(workspace: Workspace) -> Labels:
    """The label ledger."""
    query = select(ListingRow.ref, LabelRow.question, LabelRow.value, LabelRow.source, LabelRow.confidence)
    with workspace.db.read() as session:
        rows = session.execute(query.join(ListingRow, ListingRow.id == LabelRow.listing_id)).all()
    return {(row.ref, row.question): (row.value, row.source, row.confidence) for row in rows}


def clean_labels(here: World, exported: Sequence[Task], folder: Path) -> Labels:
    """The ledger that one undisturbed pass over the export makes, of the same listings."""
    clean = make_workspace(folder / "clean", f"sqlite:///{folder / 'clean.db'}")
    with here.workspace.db.read() as session:
        records = [_record(one) for page in listings.pages(session) for one in page]
    with clean.db.write() as session:
        listings.upsert(session, records, now=utc_now())
    with clean.db.write() as session:
        words = apply.vocabulary(session, clean)
        for task in exported:
            events = payloads.events_of_task(task, _source(here), words)
            apply.apply_events(session, clean, events, via=apply.RECONCILE, now=utc_now())
    found = labels(clean)
    clean.close()
    return found


def _record(one: Any) -> listings.Record:
    fields = ("ref", "seller_ref", "title", "description", "price", "currency", "attributes", "category")
    return listings.Record(**{name: getattr(one, name) for name in fields})


def _applied_twice(here: World) -> Iterator[str]:
    """Annotations that count twice, and changes of a label that change nothing."""
    columns = (AnnotationRow.source_id, AnnotationRow.question)
    counted = select(*columns, func.count().label("n")).where(AnnotationRow.is_current.is_(True)).group_by(*columns)
    history = select(LabelHistory).order_by(LabelHistory.listing_id, LabelHistory.question, LabelHistory.id)
    with here.workspace.db.read() as session:
        for row in session.execute(counted.having(func.count() > 1)):
            yield f"annotation {row.source_id} counts {row.n} times for {row.question}"
        before: dict[tuple[int, str], Any] = {}
        for change in session.execute(history).scalars():
            key, now = (change.listing_id, change.question), (change.value, change.source, change.confidence, change.evidence)
            if key in before and before[key] == now:
                yield f"listing {change.listing_id}: one change of its {change.question} is twice in the history"
            before[key] = now


def _made_twice(exported: Sequence[Task]) -> Iterator[str]:
    """Listings for which we made two tasks; those that people uploaded do not count."""
    ours = Counter(task["data"].get("listing_id") for task in exported if not (task.get("meta") or {}).get("by_hand"))
    yield from (f"listing {ref} has {n} tasks of ours" for ref, n in ours.items() if ref is not None and n > 1)


def _unlike(what: str, there: Mapping[Any, Any], ours: Mapping[Any, Any]) -> Iterator[str]:
    for key in sorted({*there, *ours}, key=str):
        if there.get(key) != ours.get(key):
            name = "/".join(key) if isinstance(key, tuple) else key
            yield f"{what} {name}: Label Studio says {_shown(there.get(key))}, we say {_shown(ours.get(key))}"


def _shown(value: object) -> str:
    parts = value if isinstance(value, tuple) else (value,)
    return (
        "nothing" if value is None else " ".join(part.isoformat() if isinstance(part, datetime) else str(part) for part in parts)
    )


def _known(here: World) -> set[str]:
    with here.workspace.db.read() as session:
        return set(apply.vocabulary(session, here.workspace).categories)


def _inbox(here: World) -> set[str]:
    with here.workspace.db.read() as session:
        return set(session.execute(select(Inbox.dedupe_key)).scalars())


def _source(here: World) -> str:
    return payloads.source_of(here.project_id)
