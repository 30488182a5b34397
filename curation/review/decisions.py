"""What moderators made of the given labels: counted by (given, true), and the listings behind each count."""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import permutations
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, select, type_coerce
from sqlalchemy.orm import Session

from curation.release.noise import AUDIT
from curation.review.branches import Names
from curation.store import search
from curation.store.db import SafeText, dump_json
from curation.store.search import Found
from curation.store.tables import Category, LabelHistory, LabelRow, ListingRow, ReviewItem
from curation.types import LabelSource, Question, join_violations, split_violations

MAX_ORDERS = 4
"""Reports of up to so many violations are found in whatever order they came."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Decided listings with one given and one true label. For violations the given label is what users reported."""

    given: str
    true: str
    n: int
    n_audit: int  #: of these, drawn at random: they tell shares without bias


@dataclass(frozen=True, slots=True)
class Decided:
    """One listing that moderators decided."""

    listing: Found
    given: str
    true: str
    confidence: float | None
    is_audit: bool
    changed_at: datetime


def version(session: Session) -> int:
    """Another number after every change of a label."""
    return int(session.execute(select(func.max(LabelHistory.id))).scalar_one() or 0)


def tally(session: Session, question: Question, names: Names) -> tuple[Pair, ...]:
    """All decided listings that came with a label, most frequent pairs first; categories by their present names."""
    columns = (_given(question).label("given"), LabelRow.value, func.count().label("n"), func.sum(_is_audit()).label("n_audit"))
    rows = session.execute(_decided(question, *columns).group_by("given", LabelRow.value))
    counts: Counter[tuple[str, str]] = Counter()
    audited: Counter[tuple[str, str]] = Counter()
    for row in rows:
        given = _read(question, row.given)
        if given is not None:
            pair = names.now(given), names.now(row.value)
            counts[pair] += row.n
            audited[pair] += int(row.n_audit)
    return tuple(Pair(*pair, n, audited[pair]) for pair, n in sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def behind(
    session: Session,
    question: Question,
    *,
    given: Collection[str] | None,
    true: Collection[str] | None,
    audit_only: bool = False,
    after_id: int = 0,
    limit: int = 50,
) -> list[Decided]:
    """The listings of one cell, by id, those after `after_id`. `given`, `true`: names that count; None = any."""
    chosen = _decided(question, LabelRow.listing_id).where(LabelRow.listing_id > after_id)
    if true is not None:
        chosen = chosen.where(LabelRow.value.in_(true))
    if given is not None:
        chosen = chosen.where(_bears(question, given))
    if audit_only:
        chosen = chosen.where(_is_audit() == 1)
    in_order = LabelRow.listing_id + 0  # sorted, not read in order: that would read the labels of all listings
    ids = session.execute(chosen.order_by(in_order).limit(limit)).scalars().all()
    columns = (
        *search.COLUMNS,
        _given(question).label("given"),
        LabelRow.value,
        LabelRow.confidence,
        LabelRow.changed_at,
        _is_audit().label("is_audit"),
    )
    rows = session.execute(_labelled(question, *columns).where(LabelRow.listing_id.in_(ids)).order_by(LabelRow.listing_id))
    return list(_found(question, rows))


def _decided(question: Question, *columns: Any) -> Select[Any]:
    return _labelled(question, *columns).where(LabelRow.source == LabelSource.MODERATORS.value)


def _labelled(question: Question, *columns: Any) -> Select[Any]:
    asked = (ReviewItem.listing_id == LabelRow.listing_id) & (ReviewItem.question == question.value)
    return (
        select(*columns)
        .select_from(LabelRow)
        .join(ListingRow, ListingRow.id == LabelRow.listing_id)
        .outerjoin(Category, Category.id == ListingRow.category_id)
        .outerjoin(ReviewItem, asked)
        .where(LabelRow.question == question.value)
    )


def _given(question: Question) -> Any:
    return Category.path if question is Question.CATEGORY else type_coerce(ListingRow.flags, SafeText)


def _read(question: Question, given: str | None) -> str | None:
    return given if question is Question.CATEGORY or given is None else join_violations(json.loads(given))


def _bears(question: Question, given: Collection[str]) -> ColumnElement[bool]:
    if question is Question.CATEGORY:
        nodes = select(Category.id).where(Category.path.in_(given))
        return LabelRow.listing_id.in_(select(ListingRow.id).where(ListingRow.category_id.in_(nodes)))
    reported = [split_violations(value) for value in given]
    texts = {dump_json(list(order)) for one in reported for order in (permutations(one) if len(one) <= MAX_ORDERS else [one])}
    return type_coerce(ListingRow.flags, SafeText).in_(texts)


def _is_audit() -> Any:
    """1 where the listing was drawn at random, else 0."""
    return case((type_coerce(ReviewItem.reasons, SafeText).contains(f'"code":"{AUDIT}"'), 1), else_=0)


def _found(question: Question, rows: Any) -> Iterator[Decided]:
    for row in rows:
        given = _read(question, row.given) or ""
        yield Decided(search.found(row), given, row.value, row.confidence, bool(row.is_audit), row.changed_at)
