"""What a moderator is shown as the model's answer.

The live model has been trained on most sellers' labels and would repeat them; the ranking of suspects holds
out-of-sample predictions, which do not. So what the newest run says of a listing without having seen its label
comes first, and the live model answers for listings that came after that run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from curation import telemetry
from curation.catalog.scorer import Scorer, Scores
from curation.errors import RefurbishError
from curation.release import registry
from curation.release.labels import renamed_paths
from curation.store.files import FileStore
from curation.store.tables import SuspectRow
from curation.types import Listing, Question, join_violations

CHUNK = 5000
SHOWN_VIOLATION = 0.5
"""The live model's violations are suggested from this probability on, as those of a run are."""

NO_MODEL = "no-model-yet"
"""The version that predictions go by before there is a run or a model: they only say which task comes first."""

log = telemetry.logger("suggestions")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A suggested answer to both questions; scores are probabilities in [0, 1]."""

    category: str | None
    category_score: float | None
    violation: str | None
    violation_score: float | None
    model_version: str


def version(session: Session) -> str:
    """The one name of all suggestions now, such as ``det-0003+run-0007``: the live model, and the run whose ranking is stored.

    Label Studio shows, and orders its queue by, predictions of one version only.
    """
    live = registry.live_name(session)
    run_id = session.execute(select(func.max(SuspectRow.run_id))).scalar_one()
    parts = ([live] if live else []) + ([f"run-{run_id:04d}"] if run_id is not None else [])
    return "+".join(parts) or NO_MODEL


def for_listings(session: Session, listing_ids: Sequence[int]) -> dict[int, Suggestion]:
    """Listing id → suggestion, for the listings that the newest run has predicted; categories by their present names."""
    found: dict[int, dict[str, tuple[str, float]]] = {}
    for first in range(0, len(listing_ids), CHUNK):
        part = listing_ids[first : first + CHUNK]
        for row in session.execute(select(SuspectRow).where(SuspectRow.listing_id.in_(part))).scalars():
            found.setdefault(row.listing_id, {})[row.question] = (row.suggested, row.suggested_score)
    if not found:
        return {}
    named, renames = version(session), renamed_paths(session)
    return {listing_id: _suggestion(answers, renames, named) for listing_id, answers in found.items()}


def _suggestion(answers: Mapping[str, tuple[str, float]], renames: Mapping[str, str], named: str) -> Suggestion:
    category, category_score = answers.get(Question.CATEGORY.value, (None, None))
    violation, violation_score = answers.get(Question.VIOLATION.value, (None, None))
    category = category and renames.get(category, category)
    return Suggestion(category, category_score, violation, violation_score, named)


def by_model(
    scorer: Scorer, listings: Sequence[Listing], media: FileStore, *, renames: Mapping[str, str], named: str
) -> dict[int, Suggestion]:
    """Listing id → what the live model says. A listing that it cannot answer for is left out and the log names it."""
    try:
        scores = scorer.score(listings, media)
    except RefurbishError as error:
        if len(listings) == 1:
            log.error("no suggestion", listing=listings[0].ref, error=str(error))
            return {}
        apart = [by_model(scorer, [listing], media, renames=renames, named=named) for listing in listings]
        return {listing_id: made for found in apart for listing_id, made in found.items()}
    return {listing.id: _of_scores(scores, row, renames, named) for row, listing in enumerate(listings)}


def _of_scores(scores: Scores, row: int, renames: Mapping[str, str], named: str) -> Suggestion:
    best = int(scores.category_probs[row].argmax())
    probs = scores.violation_probs[row]
    shown = [name for name, p in zip(scores.violations, probs, strict=True) if p >= SHOWN_VIOLATION]
    likeliest = float(probs.max(initial=0.0))
    sure = likeliest if shown else 1 - likeliest
    category = renames.get(scores.classes[best], scores.classes[best])
    return Suggestion(category, float(np.clip(scores.category_probs[row, best], 0, 1)), join_violations(shown), sure, named)
