"""What moderators' answers say about repairs: which listings were judged, how, and which nobody may repair."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from curation.errors import ProbabilityError
from curation.quality.repair import Evidence
from curation.quality.validate import check_labels
from curation.release.noise import AUDIT
from curation.store import annotations
from curation.store.tables import AnnotationRow, Category, LabelHistory, LabelRow, ListingRow, ReviewItem
from curation.store.taxonomy import chunks
from curation.types import LabelSource, Origin, Outcome, Question, Reason

QUESTION = Question.CATEGORY
DRAW = Reason("repair", 0.1, "Drawn at random from the likely errors, to measure how often they could be put right unasked.")
DRAWN = (AUDIT, DRAW.code)
"""First reasons of listings that were drawn at random."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a model would change, on N rows in the order of its probabilities."""

    suggested: NDArray[np.integer]  #: (N,) class index
    score: NDArray[np.floating]  #: (N,) in [0, 1], that the suggestion is right; 0 = change nothing
    may: NDArray[np.bool_] | None = None  #: (N,) further conditions hold, such as views that agree; None = all
    given: NDArray[np.integer] | None = None  #: (N,) class of the seller's label that was judged, -1 = none; None = not known


def check_opinion(opinion: Opinion, n: int, n_classes: int) -> Opinion:
    """The opinion with its scores as float64. Raises ProbabilityError unless it is one on `n` rows of `n_classes` classes."""
    parts = [part for part in (opinion.suggested, opinion.score, opinion.may, opinion.given) if part is not None]
    if any(part.shape != (n,) for part in parts):
        raise ProbabilityError(f"an opinion on {n} rows has shapes {[part.shape for part in parts]}; each must be ({n},)")
    wrong = np.flatnonzero((opinion.suggested < 0) | (opinion.suggested >= n_classes))
    if wrong.size:
        raise ProbabilityError(f"{wrong.size} suggestions are no class of {n_classes}, first rows {wrong[:10].tolist()}")
    if opinion.given is not None:
        check_labels(opinion.given, n, n_classes)
    bad = np.flatnonzero(~((opinion.score >= 0) & (opinion.score <= 1)))
    if bad.size:
        raise ProbabilityError(f"{bad.size} scores of suggestions are not in [0, 1], first rows {bad[:10].tolist()}")
    return replace(opinion, score=np.asarray(opinion.score, dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Placed:
    """One listing that the run predicted and its seller placed."""

    id: int
    ref: str
    group_key: str
    given: str
    decided: str | None  #: by moderators
    row: int  #: of the probabilities


def placed(session: Session, refs: Sequence[str], renames: Mapping[str, str]) -> list[Placed]:
    """Those of the listings `refs` that a seller placed, in order of their ids; a listing's place in `refs` is its row."""
    row_of = {ref: i for i, ref in enumerate(refs)}
    mine = (LabelRow.listing_id == ListingRow.id) & (LabelRow.question == QUESTION.value)
    found = session.execute(
        select(ListingRow.id, ListingRow.ref, ListingRow.group_key, Category.path, LabelRow.value, LabelRow.source)
        .join(Category, Category.id == ListingRow.category_id)
        .outerjoin(LabelRow, mine)
        .order_by(ListingRow.id)
    )
    return [
        Placed(
            one.id,
            one.ref,
            one.group_key or one.ref,
            renames.get(one.path, one.path),
            renames.get(one.value, one.value) if one.source == LabelSource.MODERATORS.value else None,
            row_of[one.ref],
        )
        for one in found
        if one.ref in row_of
    ]


def evidence(
    session: Session,
    rows: Sequence[Placed],
    moved: Sequence[Placed],
    suggested: Sequence[str],
    opinion: Opinion,
    renames: Mapping[str, str],
) -> tuple[Evidence, int]:
    """Listings that were drawn at random and answered, by what would have been done to the seller's label, and failed repairs.

    One a group, the lowest score or a failure. A failure counts whoever asked about it. One that everybody skipped counts
    as wrong: what people cannot tell, no machine should change, and others like it were never drawn.
    """
    failed = _failed(session, rows, renames)
    unread, by_chance, unsure = _unread(session), drawn(session), skipped(session)
    found = [
        (one, float(opinion.score[one.row]), one.decided == suggested[one.row])
        for one in moved
        if one.decided is not None or one.ref in unsure
    ]
    judged = {one.id: (one, score, right) for one, score, right in found if one.ref in by_chance - unread}
    for one, score in failed:
        judged[one.id] = (one, max(score, judged.get(one.id, (one, 0.0, False))[1]), False)
    lost = {one.id for one, _ in failed}
    by_group: dict[str, tuple[Placed, float, bool]] = {}
    for case in sorted(judged.values(), key=lambda case: (case[0].id not in lost, case[1], case[0].id)):
        by_group.setdefault(case[0].group_key, case)
    kept = list(by_group.values())
    return Evidence(
        np.array([score for _, score, _ in kept], dtype=np.float64),
        np.array([right for _, _, right in kept], dtype=bool),
    ), sum(one.id in lost for one, _, _ in kept)


def _failed(session: Session, rows: Sequence[Placed], renames: Mapping[str, str]) -> list[tuple[Placed, float]]:
    """Verified listings that a run once repaired to something else than moderators decided, and the score of that."""
    decided = {one.id: one for one in rows if one.decided is not None}
    made = session.execute(
        select(LabelHistory.listing_id, LabelHistory.value, LabelHistory.confidence)
        .where(LabelHistory.question == QUESTION.value, LabelHistory.source == LabelSource.REFURBISHED.value)
        .order_by(LabelHistory.id)
    )
    scores: dict[int, float] = {}
    for made_one in made:
        one = decided.get(made_one.listing_id)
        if one is not None and renames.get(made_one.value, made_one.value) != one.decided:
            scores[one.id] = max(scores.get(one.id, 0.0), made_one.confidence or 0.0)
    return [(decided[listing_id], score) for listing_id, score in scores.items()]


def voted(session: Session) -> set[str]:
    """Refs that somebody has answered or skipped; where people disagree, or cannot tell, no machine decides."""
    return set(session.execute(_answered().distinct()).scalars())


def skipped(session: Session) -> set[str]:
    """Refs that somebody would not decide."""
    return set(session.execute(_answered(Outcome.SKIP).distinct()).scalars())


def drawn(session: Session) -> set[str]:
    """Refs of listings that people were asked about because they were drawn at random: that is their first reason."""
    query = select(ListingRow.ref, ReviewItem.reasons).join(ListingRow, ListingRow.id == ReviewItem.listing_id)
    rows = session.execute(query.where(ReviewItem.question == QUESTION.value))
    return {row.ref for row in rows if row.reasons and row.reasons[0]["code"] in DRAWN}


def given_unanswered(session: Session, listing_ids: Iterable[int]) -> dict[int, str]:
    """Listing id → the path of the seller's category, of those that have one and that nobody has answered or skipped."""
    query = select(ListingRow.id, Category.path).join(Category, Category.id == ListingRow.category_id)
    found: dict[int, str] = {}
    for part in chunks(listing_ids):
        rows = session.execute(query.where(ListingRow.id.in_(part), ListingRow.ref.not_in(_answered())))
        found.update((row.id, row.path) for row in rows)
    return found


def _answered(*outcomes: Outcome) -> Select[Any]:
    """Refs with such a current answer, by default a label or a skip; without NULL, for `not_in`."""
    named = [outcome.value for outcome in outcomes or (Outcome.LABEL, Outcome.SKIP)]
    mine = (AnnotationRow.question == QUESTION.value, AnnotationRow.is_current.is_(True))
    there = (AnnotationRow.outcome.in_(named), AnnotationRow.listing_ref.is_not(None))
    return select(AnnotationRow.listing_ref).where(*mine, *there)


def _unread(session: Session) -> set[str]:
    """Refs whose every vote is a suggestion accepted unread: the model's own word, and no evidence for it."""
    query = select(AnnotationRow.listing_ref).where(
        AnnotationRow.question == QUESTION.value,
        AnnotationRow.is_current.is_(True),
        AnnotationRow.listing_ref.is_not(None),
        AnnotationRow.origin.in_((Origin.PREDICTION.value, Origin.UNKNOWN.value)),
        or_(AnnotationRow.lead_time_s.is_(None), AnnotationRow.lead_time_s < annotations.RUBBER_STAMP_S),
    )
    refs = [ref for ref in session.execute(query.distinct()).scalars() if ref is not None]
    return {ref for ref in refs if all(map(annotations.is_rubber_stamp, annotations.votes(session, ref, QUESTION)))}
