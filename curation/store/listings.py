"""Listings in the database: written in batches, read in pages. One statement a batch, not a row."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, Select, bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from curation.errors import InputError, shorten
from curation.store import erasure, given_labels, labels, locks, reports, taxonomy
from curation.store.db import dump_json
from curation.store.tables import Category, ListingRow
from curation.store.taxonomy import Node, chunks
from curation.types import Listing, Photo, Question, join_violations

PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Record:
    """A listing as a catalog file gives it; `group_key` is the catalog's own near-duplicate group, if it has one."""

    ref: str
    seller_ref: str | None = None
    title: str = ""
    description: str = ""
    price: float | None = None
    currency: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    photos: tuple[Photo, ...] = ()
    category: str | None = None  #: path joined by PATH_SEPARATOR
    flags: tuple[str, ...] = ()
    group_key: str | None = None
    listed_at: datetime | None = None

    @property
    def content_sha256(self) -> str:
        """Equal for records that say the same."""
        content = {name: getattr(self, name) for name in self.__slots__}  # asdict would copy all of it, at four times the cost
        content["photos"] = [asdict(photo) for photo in self.photos]
        content["listed_at"] = self.listed_at and self.listed_at.astimezone(UTC).isoformat()
        return hashlib.sha256(dump_json(content).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of a batch of records."""

    n_new: int = 0
    n_changed: int = 0
    n_same: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.n_new + other.n_new, self.n_changed + other.n_changed, self.n_same + other.n_same)


def upsert(session: Session, records: Sequence[Record], *, now: datetime) -> Counts:
    """Insert or update the records, one a ref, with their categories and given labels.

    The seller's category and the reports become labels only where no stronger source stands
    behind the label. Annotations and users' reports that came before their listing are adopted.
    Writing the same records again changes nothing. Listings that were erased are left out.
    """
    erasure.hold(session)
    locks.alone(session, locks.LISTINGS)
    erased = erasure.barred(session, [record.ref for record in records])
    records = [record for record in records if record.ref not in erased]
    by_ref = {record.ref: record for record in records}
    if len(by_ref) < len(records):
        twice = next(ref for ref in by_ref if sum(record.ref == ref for record in records) > 1)
        raise InputError(f"listing {shorten(twice)} comes twice in one batch; keep one of the two")
    shas = {ref: record.content_sha256 for ref, record in by_ref.items()}
    there = _existing(session, by_ref)
    for ref, names in reports.reported(session, by_ref).items():
        by_ref[ref] = replace(by_ref[ref], flags=tuple(sorted({*by_ref[ref].flags, *names})))
    categories = taxonomy.ensure(session, {record.category for record in records if record.category})
    rows = {ref: _row(record, shas[ref], categories) for ref, record in by_ref.items() if shas[ref] != there.get(ref, ("", 0))[0]}
    new = _insert(session, [rows[ref] for ref in by_ref if ref not in there], now)
    changed = {ref: there[ref][1] for ref in rows if ref in there and there[ref][0] != shas[ref]}
    _update(session, [rows[ref] | {"b_id": listing_id} for ref, listing_id in changed.items()])
    for question, values in _given(new, by_ref, categories).items():
        given_labels.insert(session, question, values, now=now)
    for question, values in _given(changed, by_ref, categories).items():
        given_labels.update(session, question, values, now=now)
    labels.adopt_orphans(session, new, now=now)
    return Counts(len(new), len(changed), len(records) - len(new) - len(changed))


def load(
    session: Session,
    *,
    after_id: int = 0,
    limit: int | None = None,
    refs: Collection[str] | None = None,
    ids: Collection[int] | None = None,
) -> list[Listing]:
    """Listings ordered by id: the page after `after_id`, or those with the given refs or ids.

    `limit` defaults to one page of 1,000; with `refs` or `ids`, to all of them.
    """
    query = _SELECT.where(ListingRow.id > after_id).order_by(ListingRow.id)
    if refs is None and ids is None:
        return [_listing(row) for row in session.execute(query.limit(PAGE if limit is None else limit))]
    found: list[Listing] = []
    column, wanted = (ListingRow.ref, refs) if refs is not None else (ListingRow.id, ids)
    for part in chunks(set(wanted or ())):
        found += [_listing(row) for row in session.execute(query.where(column.in_(part)))]
    if refs is not None and ids is not None:
        found = [listing for listing in found if listing.id in set(ids)]
    return sorted(found, key=lambda listing: listing.id)[:limit]


def pages(session: Session, *, size: int = PAGE) -> Iterator[list[Listing]]:
    """All listings ordered by id, `size` at a time."""
    page = load(session, limit=size)
    while page:
        yield page
        page = load(session, after_id=page[-1].id, limit=size)


def id_by_ref(session: Session, refs: Collection[str]) -> dict[str, int]:
    """Listing id of each ref that is there."""
    found: dict[str, int] = {}
    for part in chunks(set(refs)):
        query = select(ListingRow.ref, ListingRow.id).where(ListingRow.ref.in_(part))
        found.update({row.ref: row.id for row in session.execute(query)})
    return found


def count(session: Session) -> int:
    """How many listings there are."""
    return session.execute(select(func.count()).select_from(ListingRow)).scalar_one()


_SELECT: Select[Any] = select(
    ListingRow.id,
    ListingRow.ref,
    ListingRow.seller_ref,
    ListingRow.title,
    ListingRow.description,
    ListingRow.price,
    ListingRow.currency,
    ListingRow.attributes,
    ListingRow.images,
    Category.path.label("category"),
    ListingRow.flags,
    ListingRow.group_key,
    ListingRow.listed_at,
).outerjoin(Category, ListingRow.category_id == Category.id)


def _listing(row: Row[Any]) -> Listing:
    found = dict(row._mapping)
    photos = tuple(Photo(**photo) for photo in found.pop("images"))
    return Listing(**found | {"photos": photos, "flags": tuple(found["flags"])})


def _existing(session: Session, refs: Collection[str]) -> dict[str, tuple[str, int]]:
    """ref → (content sha256, id) of those that are there, locked until the transaction ends."""
    found: dict[str, tuple[str, int]] = {}
    for part in chunks(refs):
        query = select(ListingRow.ref, ListingRow.content_sha256, ListingRow.id).where(ListingRow.ref.in_(part))
        found.update((row.ref, (row.content_sha256, row.id)) for row in session.execute(query.with_for_update()))
    return found


def _row(record: Record, sha256: str, categories: Mapping[str, Node]) -> dict[str, Any]:
    return {
        "ref": record.ref,
        "seller_ref": record.seller_ref,
        "title": record.title,
        "description": record.description,
        "price": record.price,
        "currency": record.currency,
        "attributes": dict(record.attributes),
        "images": [asdict(photo) for photo in record.photos],
        "category_id": categories[record.category].id if record.category else None,
        "flags": list(record.flags),
        "content_sha256": sha256,
        "group_given": record.group_key,
        "listed_at": record.listed_at,
    }


def _insert(session: Session, rows: list[dict[str, Any]], now: datetime) -> dict[str, int]:
    """ref → id of the rows that were new; each starts as a group of its own."""
    if not rows:
        return {}
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(ListingRow).on_conflict_do_nothing(index_elements=["ref"]).returning(ListingRow.ref, ListingRow.id)
    full = [row | {"group_key": row["group_given"] or row["ref"], "created_at": now} for row in rows]
    if dialect is sqlite:
        _number(session, full)
    return {row.ref: row.id for row in session.connection().execute(statement, full)}


def _number(session: Session, rows: list[dict[str, Any]]) -> None:
    """SQLite gives the id of a deleted last row to the next one; an erased listing's is never given again."""
    last = erasure.last_erased_id(session)
    if last and last > session.execute(select(func.coalesce(func.max(ListingRow.id), 0))).scalar_one():
        for number, row in enumerate(rows, start=last + 1):
            row["id"] = number


def _update(session: Session, rows: list[dict[str, Any]]) -> None:
    """Write the rows over the listings `b_id`; their group is left to `catalog.duplicates`."""
    if rows:
        session.connection().execute(update(ListingRow).where(ListingRow.id == bindparam("b_id")), rows)


def _given(
    ids: Mapping[str, int], records: Mapping[str, Record], categories: Mapping[str, Node]
) -> dict[Question, dict[int, str | None]]:
    """What the listings came with as labels: the seller's category, and users' reports."""
    chosen = {listing_id: records[ref].category for ref, listing_id in ids.items()}
    reported = {listing_id: records[ref].flags for ref, listing_id in ids.items()}
    return {
        Question.CATEGORY: {key: categories[path].path if path else None for key, path in chosen.items()},
        Question.VIOLATION: {key: join_violations(flags) if flags else None for key, flags in reported.items()},
    }
