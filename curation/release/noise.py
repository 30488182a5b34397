"""How noisy the sellers' labels are, from the listings that were drawn uniformly for audit.

Suspects are chosen because they look wrong; only the audit sample says what share of all labels is.
"""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Text, select, type_coerce
from sqlalchemy.orm import Session

from curation.quality.metrics import Estimate, share
from curation.store.tables import Category, LabelRow, ListingRow, ReviewItem
from curation.types import LabelSource, Question, join_violations, split_violations

AUDIT = "audit"
"""The reason code of a listing that was drawn uniformly."""

_MAY_BE_AUDIT = type_coerce(ReviewItem.reasons, Text).contains(f'"{AUDIT}"')
"""The database leaves out what cannot be one; `_is_audit` reads what is left."""


def audit_noise(session: Session, question: Question = Question.CATEGORY) -> Estimate | None:
    """Share of audited listings whose given label the moderators changed, with its 95 % Wilson interval.

    For violations the given label is what users reported, or none. None while no audited listing
    is decided.
    """
    judged = [is_wrong for _, is_wrong in audited_at(session, question)]
    return share(sum(judged), len(judged))


def audited_at(session: Session, question: Question) -> list[tuple[datetime, bool]]:
    """Of each audited listing that moderators decided: when, and whether its given label was wrong."""
    return [(at, given != value) for at, given, value in _audited(session, question)]


def audit_refs(session: Session, question: Question = Question.CATEGORY) -> set[str]:
    """Refs of the listings that were drawn uniformly, decided or not."""
    rows = session.execute(
        select(ListingRow.ref, ReviewItem.reasons)
        .join(ListingRow, ListingRow.id == ReviewItem.listing_id)
        .where(ReviewItem.question == question.value, _MAY_BE_AUDIT)
    )
    return {row.ref for row in rows if _is_audit(row.reasons)}


def audited_violations(session: Session) -> list[tuple[str, ...]]:
    """What moderators found in each decided listing of the audit sample: its violations, none or several."""
    return [split_violations(value) for *_, value in _audited(session, Question.VIOLATION)]


def _audited(session: Session, question: Question) -> Iterator[tuple[datetime, str, str]]:
    """(when, given, decided) of each decided listing of the audit sample."""
    rows = session.execute(
        select(ReviewItem.reasons, ReviewItem.decided_at, Category.path, ListingRow.flags, LabelRow.value, LabelRow.changed_at)
        .join(ListingRow, ListingRow.id == ReviewItem.listing_id)
        .join(LabelRow, (LabelRow.listing_id == ReviewItem.listing_id) & (LabelRow.question == ReviewItem.question))
        .outerjoin(Category, Category.id == ListingRow.category_id)
        .where(ReviewItem.question == question.value, LabelRow.source == LabelSource.MODERATORS.value, _MAY_BE_AUDIT)
    )
    for row in rows:
        given = row.path if question is Question.CATEGORY else join_violations(row.flags)
        if _is_audit(row.reasons) and given is not None:
            yield row.decided_at or row.changed_at, given, row.value


def _is_audit(reasons: list[dict[str, object]]) -> bool:
    return any(reason.get("code") == AUDIT for reason in reasons)
