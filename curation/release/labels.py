"""The state of every label, read in pages: what a snapshot freezes."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, type_coerce
from sqlalchemy.orm import Session, aliased

from curation.release.splits import split_of
from curation.store.db import SafeText, dump_json, finite
from curation.store.tables import AnnotationRow, Category, CategoryAlias, LabelRow, ListingRow
from curation.types import LabelSource, Outcome, Question

PAGE = 20_000
"""Listings a page, and rows a row group: about 20 MB in memory."""

Votes = Mapping[tuple[int, str], list[dict[str, Any]]]
"""(listing id, question) → its current votes, oldest first."""


@dataclass(frozen=True, slots=True)
class LabelState:
    """One listing's row in a snapshot. Evidence is canonical JSON text: votes, run, rule."""

    listing_id: int
    ref: str
    content_sha256: str
    group_key: str
    split: str
    seller_category: str | None
    category: str | None
    category_source: str | None
    category_confidence: float | None
    category_evidence: str | None
    violation: str | None
    violation_source: str | None
    violation_confidence: float | None
    violation_evidence: str | None
    n_annotators: int
    run_id: int | None


def pages(session: Session, page: int = PAGE) -> Iterator[list[LabelState]]:
    """Every listing's labels in pages ordered by id, within the session's transaction."""
    renames = renamed_paths(session)
    after_id = 0
    while rows := session.execute(_query(after_id, page)).all():
        votes = _votes(session, rows[0].id, rows[-1].id, renames)
        yield [_state(row, votes, renames) for row in rows]
        after_id = rows[-1].id


def _query(after_id: int, page: int) -> Any:
    category, violation, path = aliased(LabelRow), aliased(LabelRow), aliased(Category)
    labels = [
        column
        for name, table in (("category", category), ("violation", violation))
        for column in (
            table.value.label(name),
            table.source.label(f"{name}_source"),
            table.confidence.label(f"{name}_confidence"),
            type_coerce(table.evidence, SafeText).label(f"{name}_evidence"),
        )
    ]
    columns = (ListingRow.id, ListingRow.ref, ListingRow.content_sha256, ListingRow.group_key, path.path.label("seller_category"))
    return (
        select(*columns, *labels)
        .outerjoin(path, path.id == ListingRow.category_id)
        .outerjoin(category, (category.listing_id == ListingRow.id) & (category.question == Question.CATEGORY.value))
        .outerjoin(violation, (violation.listing_id == ListingRow.id) & (violation.question == Question.VIOLATION.value))
        .where(ListingRow.id > after_id)
        .order_by(ListingRow.id)
        .limit(page)
    )


def _votes(session: Session, first_id: int, last_id: int, renames: Mapping[str, str]) -> Votes:
    rows = session.execute(
        select(
            ListingRow.id.label("listing_id"),
            AnnotationRow.id,
            AnnotationRow.question,
            AnnotationRow.annotator,
            AnnotationRow.value,
            AnnotationRow.at,
            AnnotationRow.origin,
        )
        .join(ListingRow, ListingRow.ref == AnnotationRow.listing_ref)
        .where(
            ListingRow.id.between(first_id, last_id),
            AnnotationRow.is_current.is_(True),
            AnnotationRow.outcome == Outcome.LABEL.value,
        )
        .order_by(ListingRow.id, AnnotationRow.at, AnnotationRow.id)
    )
    found: defaultdict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        vote = {"annotation": row.id, "annotator": row.annotator, "at": row.at.isoformat(), "origin": row.origin}
        vote["value"] = renames.get(row.value, row.value) if row.question == Question.CATEGORY.value else row.value
        found[row.listing_id, row.question].append(vote)
    return found


def _state(row: Any, votes: Votes, renames: Mapping[str, str]) -> LabelState:
    by_question = {question: votes.get((row.id, question.value), []) for question in Question}
    category = _evidence(row.category_evidence, by_question[Question.CATEGORY])
    violation = _evidence(row.violation_evidence, by_question[Question.VIOLATION])
    group_key = row.group_key or row.ref
    return LabelState(
        listing_id=row.id,
        ref=row.ref,
        content_sha256=row.content_sha256,
        group_key=group_key,
        split=split_of(group_key).value,
        seller_category=renames.get(row.seller_category, row.seller_category),
        category=renames.get(row.category, row.category),
        category_source=row.category_source,
        category_confidence=finite(row.category_confidence),
        category_evidence=category,
        violation=row.violation,
        violation_source=row.violation_source,
        violation_confidence=finite(row.violation_confidence),
        violation_evidence=violation,
        n_annotators=len({vote["annotator"] for found in by_question.values() for vote in found}),
        run_id=_run(row.category_source, category) or _run(row.violation_source, violation),
    )


def _evidence(text: str | None, votes: list[dict[str, Any]]) -> str | None:
    """The label's evidence; votes that did not decide it (a tie) are kept beside it."""
    if not votes:
        return None if text in (None, "{}") else text
    evidence = json.loads(text) if text else {}
    return dump_json({"votes": votes, **evidence})


def _run(source: str | None, evidence: str | None) -> int | None:
    if source != LabelSource.REFURBISHED.value or evidence is None:
        return None
    run = json.loads(evidence).get("run")
    return None if run is None else int(run)


def renamed_paths(session: Session) -> dict[str, str]:
    """Old category path → its present path, renames of renames followed to their end."""
    rows = session.execute(select(CategoryAlias.old_path, Category.path).join(Category, Category.id == CategoryAlias.category_id))
    direct = {row.old_path: row.path for row in rows if row.old_path != row.path}
    return {old: _last(direct, old) for old in direct}


def _last(direct: Mapping[str, str], path: str) -> str:
    seen = {path}
    while (following := direct.get(path)) is not None and following not in seen:
        seen.add(following)
        path = following
    return path
