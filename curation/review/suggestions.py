"""What the newest run would answer for a listing, without having seen that listing's label.

The live model has been trained on most sellers' labels and would repeat them; the ranking of
suspects holds out-of-sample predictions, which do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.store.tables import SuspectRow
from curation.types import Question

CHUNK = 5000


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A suggested answer to both questions; scores are probabilities in [0, 1]."""

    category: str | None
    category_score: float | None
    violation: str | None
    violation_score: float | None
    model_version: str


def for_listings(session: Session, listing_ids: Sequence[int]) -> dict[int, Suggestion]:
    """Listing id → suggestion, for the listings that the newest run has predicted."""
    found: dict[int, dict[str, tuple[str, float]]] = {}
    version: dict[int, str] = {}
    for first in range(0, len(listing_ids), CHUNK):
        part = listing_ids[first : first + CHUNK]
        for row in session.execute(select(SuspectRow).where(SuspectRow.listing_id.in_(part))).scalars():
            found.setdefault(row.listing_id, {})[row.question] = (row.suggested, row.suggested_score)
            version[row.listing_id] = f"run-{row.run_id or 0:04d}"
    return {listing_id: _suggestion(answers, version[listing_id]) for listing_id, answers in found.items()}


def _suggestion(answers: dict[str, tuple[str, float]], version: str) -> Suggestion:
    category, category_score = answers.get(Question.CATEGORY.value, (None, None))
    violation, violation_score = answers.get(Question.VIOLATION.value, (None, None))
    return Suggestion(category, category_score, violation, violation_score, version)
