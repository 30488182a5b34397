"""Does a shown suggestion make moderators agree with the model? Measured beside the listings that they were asked about blind.

A model whose suggestions are taken over teaches the next one its own errors. Both shares compare the decided category with the
newest out-of-sample prediction, whatever was shown then; who was asked blind is drawn at random from the same batches.
"""

from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from curation.quality.metrics import Estimate, share
from curation.store.tables import LabelRow, ReviewItem, SuspectRow
from curation.types import BLIND_BATCH, LabelSource, Question

MIN_DECIDED = 20
"""Decided listings of each kind before anything is said."""


@dataclass(frozen=True, slots=True)
class Influence:
    """Shares of decided categories that are what the model says; None under 20."""

    seen: Estimate | None  #: with a suggestion on the page
    blind: Estimate | None

    @property
    def is_notable(self) -> bool:
        """Whether those who see suggestions agree more often than chance would have it: the intervals are apart."""
        return self.seen is not None and self.blind is not None and self.seen.low > self.blind.high


def measure(session: Session) -> Influence:
    """Of all categories that moderators decided and the newest run predicted."""
    is_blind = ReviewItem.batch == BLIND_BATCH
    is_shown = is_blind | ReviewItem.suggestion.is_not(None)
    agrees = func.sum(case((LabelRow.value == SuspectRow.suggested, 1), else_=0))
    rows = session.execute(
        select(is_blind, func.count(), agrees)
        .join(LabelRow, (LabelRow.listing_id == ReviewItem.listing_id) & (LabelRow.question == ReviewItem.question))
        .join(SuspectRow, (SuspectRow.listing_id == ReviewItem.listing_id) & (SuspectRow.question == ReviewItem.question))
        .where(ReviewItem.question == Question.CATEGORY.value, ReviewItem.state == "decided", is_shown)
        .where(LabelRow.source == LabelSource.MODERATORS.value)
        .group_by(is_blind)
    ).all()
    found = {bool(kind): share(int(n_agreeing), int(n)) for kind, n, n_agreeing in rows if n >= MIN_DECIDED}
    return Influence(found.get(False), found.get(True))


def in_words(found: Influence) -> str:
    """For people."""
    if found.seen is None or found.blind is None:
        return f"not measured, fewer than {MIN_DECIDED} listings were decided with or without a suggestion"
    words = f"{_shown(found.seen)} with a suggestion, {_shown(found.blind)} asked blind, are decided as the model says"
    return f"{words}: suggestions are followed, raise blind_share" if found.is_notable else words


def _shown(found: Estimate) -> str:
    return f"{found.value:.0%} [{found.low:.0%}, {found.high:.0%}] of {found.n}"
